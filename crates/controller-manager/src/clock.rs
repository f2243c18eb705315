//! The one place that reads clocks, and that waits. Tests drive it by hand.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// One moment on both clocks of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Since the start of the process: what ages are measured with. Never goes back.
    pub since_start: Duration,
    /// Unix time in seconds: only for times that are written into the cluster.
    pub unix: i64,
}

/// The clock of the process, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System(Instant),
    Scripted(Arc<watch::Sender<Moment>>),
}

impl Clock {
    /// The machine's clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }

    /// One that stands still at `unix` seconds until it is advanced.
    pub fn scripted(unix: i64) -> Self {
        Self(Kind::Scripted(Arc::new(watch::Sender::new(Moment { since_start: Duration::ZERO, unix }))))
    }

    /// Now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Kind::System(start) => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                let unix = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
                Moment { since_start: start.elapsed(), unix }
            }
            Kind::Scripted(sender) => *sender.borrow(),
        }
    }

    /// Waits for `duration` of this clock.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Kind::System(_) => tokio::time::sleep(duration).await,
            Kind::Scripted(sender) => {
                let mut receiver = sender.subscribe();
                let end = receiver.borrow().since_start + duration;
                // The sender lives in this clock: the wait cannot fail.
                let _ = receiver.wait_for(|now| now.since_start >= end).await;
            }
        }
    }

    /// Moves a scripted clock on, in whole seconds; the machine's clock goes by itself.
    pub fn advance(&self, seconds: u32) {
        if let Kind::Scripted(sender) = &self.0 {
            sender.send_modify(|now| {
                now.since_start += Duration::from_secs(seconds.into());
                now.unix += i64::from(seconds);
            });
        }
    }

    /// Sets the wall clock of a scripted one, forward or back.
    pub fn jump(&self, seconds: i64) {
        if let Kind::Scripted(sender) = &self.0 {
            sender.send_modify(|now| now.unix += seconds);
        }
    }
}

/// Unix seconds as `metav1.Time` writes them (RFC 3339, UTC).
pub fn rfc3339(unix: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = time::OffsetDateTime::from_unix_timestamp(unix).ok();
    time.and_then(|t| t.format(format).ok()).unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Unix seconds as `metav1.MicroTime` writes them.
pub fn rfc3339_micro(unix: i64) -> String {
    rfc3339(unix).replace('Z', ".000000Z")
}

/// Unix seconds of an RFC 3339 time.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(time.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339_micro(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20.5+01:00"), Some(1_700_000_000));
        assert_eq!(parse_rfc3339("never"), None);
    }

    #[tokio::test]
    async fn a_scripted_clock_moves_only_by_hand() {
        let clock = Clock::scripted(100);
        let waiter = clock.clone();
        let waits = tokio::spawn(async move { waiter.sleep(Duration::from_secs(10)).await });
        tokio::task::yield_now().await;
        clock.advance(9);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        clock.advance(1);
        waits.await.unwrap();
        assert_eq!(clock.now(), Moment { since_start: Duration::from_secs(10), unix: 110 });
    }
}
