//! One step of leader election: what to do about a lease that was seen. Pure.
//!
//! As client-go's `tools/leaderelection`: nobody's clock is compared with another's. A lease is free when it was seen
//! unchanged for its whole duration on the clock of the one who looks.

use std::time::Duration;

/// What of the leader lease was seen, and since when it is like that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The lease; `None` when there is none.
    pub record: Option<Record>,
    /// When it was first seen like this, since the start of the process.
    pub since: Duration,
}

/// The parts of a leader lease that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// The duration that its holder promised, in seconds.
    pub seconds: u64,
    /// `resourceVersion`: changes with every renewal.
    pub version: String,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the lease.
    Create,
    /// Take it over; with the new number of transitions.
    Take(i32),
    /// Renew the own one.
    Renew,
    /// Somebody else holds it.
    Wait,
}

impl Seen {
    /// Notes what was read at `now`.
    pub fn note(&mut self, record: Option<Record>, now: Duration) {
        if record.is_none() || self.record != record {
            *self = Self { record, since: now };
        }
    }

    /// What `me` does at `now`.
    pub fn step(&self, me: &str, now: Duration) -> Step {
        let Some(record) = &self.record else { return Step::Create };
        if record.holder == me {
            return Step::Renew;
        }
        let over = now.saturating_sub(self.since) >= Duration::from_secs(record.seconds);
        if record.holder.is_empty() || over { Step::Take(record.transitions + 1) } else { Step::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, since: u64) -> Seen {
        let record = Record { holder: holder.into(), seconds: 15, version: "1".into(), transitions: 3 };
        Seen { record: Some(record), since: Duration::from_secs(since) }
    }

    #[test]
    fn every_lease_has_its_step() {
        let table = [
            (Seen::default(), 0, Step::Create),
            (seen("me", 0), 1, Step::Renew),
            (seen("me", 0), 100, Step::Renew),
            (seen("other", 10), 24, Step::Wait),
            (seen("other", 10), 25, Step::Take(4)),
            (seen("", 10), 10, Step::Take(4)),
        ];
        for (seen, now, step) in table {
            assert_eq!(seen.step("me", Duration::from_secs(now)), step, "{seen:?} at {now}");
        }
    }

    #[test]
    fn only_a_change_begins_the_time_anew() {
        let mut seen = seen("other", 0);
        let same = seen.record.clone();
        seen.note(same.clone(), Duration::from_secs(9));
        assert_eq!(seen.since, Duration::ZERO);
        let renewed = same.map(|r| Record { version: "2".into(), ..r });
        seen.note(renewed, Duration::from_secs(12));
        assert_eq!(seen.since, Duration::from_secs(12));
    }
}
