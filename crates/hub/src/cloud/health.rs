//! The health of each apiserver, and in which order they are asked. Pure.
//!
//! A server that failed is asked last, until it has worked several times over a while: whoever comes back and goes
//! again at once takes nobody's requests with it.

use std::time::{Duration, Instant};

/// The first and the longest time until a server that failed is looked at again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Times in a row that a server must work before it counts as well.
const TIMES: u32 = 3;
/// The least time over which those are spread.
const SPREAD: Duration = Duration::from_secs(2);
/// Pause between looks at a server that has worked again.
const RETURN_PAUSE: Duration = Duration::from_secs(1);
/// A server that lags behind the others is left alone for this long.
const LAG_REST: Duration = Duration::from_secs(30);

/// Who is asked first among several servers that are well; OpenYurt's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Requests take turns; reflectors stay with one, another for each node.
    #[default]
    RoundRobin,
    /// The first of the list that is well.
    Priority,
}

impl Mode {
    /// Reads `rr` or `priority`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "rr" => Some(Mode::RoundRobin),
            "priority" => Some(Mode::Priority),
            _ => None,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::RoundRobin => "rr",
            Mode::Priority => "priority",
        }
    }
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing speaks against it.
    Well,
    /// It failed.
    Ill {
        /// How often in a row.
        failures: u32,
        /// How often it worked since, and when it first did.
        worked: Option<(u32, Instant)>,
        /// When it is looked at again.
        again: Instant,
    },
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It answered.
    Worked,
    /// It cannot be connected to, or is silent, or what answers is no apiserver.
    Failed,
    /// It answers with a state that is older than what others have shown.
    Lags,
}

/// One step. Total over every pair of health and event.
pub fn step(health: Health, event: Event, now: Instant) -> Health {
    let failures = match health {
        Health::Well => 0,
        Health::Ill { failures, .. } => failures,
    };
    match (event, health) {
        (Event::Worked, Health::Well) => Health::Well,
        // For now it is only better than those that do not even answer.
        (Event::Worked, Health::Ill { worked, again, .. }) if now < again => {
            Health::Ill { failures, worked: worked.or(Some((0, now))), again }
        }
        (Event::Worked, Health::Ill { worked, .. }) => {
            let (times, first) = worked.filter(|(n, _)| *n > 0).map_or((1, now), |(n, first)| (n + 1, first));
            if times >= TIMES && now.duration_since(first) >= SPREAD {
                return Health::Well;
            }
            Health::Ill { failures, worked: Some((times, first)), again: now + RETURN_PAUSE }
        }
        (Event::Failed, _) => {
            let pause = (PAUSE.0 * 2_u32.saturating_pow(failures.min(8))).min(PAUSE.1);
            Health::Ill { failures: failures.saturating_add(1), worked: None, again: now + pause }
        }
        (Event::Lags, _) => Health::Ill { failures: failures.max(1), worked: None, again: now + LAG_REST },
    }
}

/// The order in which servers are asked, as indices: the well ones first, then those that worked last. `turn` is
/// whose turn it is among the well ones when they take turns.
pub fn order(mode: Mode, healths: &[Health], turn: usize) -> Vec<usize> {
    let is_well = |i: &usize| healths.get(*i) == Some(&Health::Well);
    let (mut well, mut ill): (Vec<usize>, Vec<usize>) = (0..healths.len()).partition(is_well);
    if mode == Mode::RoundRobin && !well.is_empty() {
        let first = turn % well.len();
        well.rotate_left(first);
    }
    ill.sort_by_key(|i| match healths.get(*i) {
        Some(Health::Ill { failures, worked, .. }) => (worked.is_none(), *failures),
        _ => (false, 0),
    });
    well.append(&mut ill);
    well
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 3] = [Event::Worked, Event::Failed, Event::Lags];

    fn run(events: &[(u64, Event)]) -> Health {
        let start = crate::clock::monotonic();
        let at = |ms: u64| start + Duration::from_millis(ms);
        events.iter().fold(Health::Well, |health, (ms, event)| step(health, *event, at(*ms)))
    }

    fn ill(failures: u32, worked: bool) -> Health {
        let now = crate::clock::monotonic();
        Health::Ill { failures, worked: worked.then_some((1, now)), again: now }
    }

    #[test]
    fn one_failure_is_enough_and_several_successes_over_time_mend_it() {
        use Event::{Failed, Lags, Worked};
        let cases: [(&[(u64, Event)], bool); 9] = [
            (&[(0, Lags), (9000, Worked), (10_000, Worked), (19_000, Worked), (29_000, Worked)], false),
            (&[(0, Worked)], true),
            (&[(0, Failed)], false),
            (&[(0, Lags)], false),
            (&[(0, Failed), (1000, Worked)], false),
            (&[(0, Failed), (1000, Worked), (1001, Worked), (1002, Worked), (1003, Worked)], false),
            (&[(0, Failed), (1000, Worked), (2000, Worked), (3000, Worked)], true),
            (&[(0, Failed), (1000, Worked), (2000, Failed), (3000, Worked), (4000, Worked)], false),
            (&[(0, Lags), (31_000, Worked), (32_000, Worked), (33_000, Worked)], true),
        ];
        for (events, well) in cases {
            assert_eq!(run(events) == Health::Well, well, "{events:?}");
        }
    }

    #[test]
    fn looks_at_a_failing_server_back_off_to_a_bound() {
        let now = crate::clock::monotonic();
        let (mut health, mut pauses) = (Health::Well, vec![]);
        for _ in 0..7 {
            health = step(health, Event::Failed, now);
            if let Health::Ill { again, .. } = health {
                pauses.push(again.duration_since(now).as_secs());
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    /// Every pair has an answer; only success mends, and only failure harms.
    #[test]
    fn every_pair_is_defined() {
        let now = crate::clock::monotonic();
        for health in [Health::Well, ill(1, false), ill(u32::MAX, true)] {
            for event in EVENTS {
                let next = step(health, event, now);
                assert_eq!(next == Health::Well, event == Event::Worked && health == Health::Well);
            }
        }
    }

    #[test]
    fn the_well_are_asked_first_and_the_ill_last() {
        use Mode::{Priority, RoundRobin};
        let (well, worse, better, bad) = (Health::Well, ill(1, false), ill(9, true), ill(4, false));
        let cases: [(Mode, &[Health], usize, &[usize]); 9] = [
            (Priority, &[well, well, well], 5, &[0, 1, 2]),
            (Priority, &[bad, well, well], 0, &[1, 2, 0]),
            (Priority, &[bad, worse, better], 0, &[2, 1, 0]),
            (RoundRobin, &[well, well, well], 0, &[0, 1, 2]),
            (RoundRobin, &[well, well, well], 4, &[1, 2, 0]),
            (RoundRobin, &[well, bad, well], 1, &[2, 0, 1]),
            (RoundRobin, &[bad, bad, better], 7, &[2, 0, 1]),
            (RoundRobin, &[well], 3, &[0]),
            (Priority, &[], 3, &[]),
        ];
        for (mode, healths, turn, expected) in cases {
            assert_eq!(order(mode, healths, turn), expected, "{mode:?} {healths:?} {turn}");
        }
    }
}
