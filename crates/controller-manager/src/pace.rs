//! How fast the cluster is written to: a bucket of tokens, as client-go's `flowcontrol` has it, and a pause that the
//! apiserver asked for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// The longest pause that an answer of the apiserver can bring about.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The shared limit of all writers.
#[derive(Debug)]
pub struct Pace {
    clock: Clock,
    bucket: Mutex<Bucket>,
}

/// The arithmetic, without clock and waiting.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Duration,
    paused_until: Duration,
}

impl Bucket {
    /// Takes a token at `now`, or says how long to wait before the next try.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if now < self.paused_until {
            return Err(self.paused_until - now);
        }
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).max(0.001)))
    }
}

impl Pace {
    /// `per_second` writes on average, `burst` at once.
    pub fn new(clock: Clock, per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (f64::from(per_second), f64::from(burst));
        let bucket =
            Bucket { per_second, burst, tokens: burst, at: Duration::ZERO, paused_until: Duration::ZERO };
        Self { clock, bucket: Mutex::new(bucket) }
    }

    /// Waits until one more request may be made.
    pub async fn wait(&self) {
        loop {
            let now = self.clock.now().since_start;
            let taken = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
            match taken {
                Ok(()) => return,
                Err(pause) => self.clock.sleep(pause).await,
            }
        }
    }

    /// The apiserver is overloaded: nothing is written for `pause` (`Retry-After`), at most half a minute.
    pub fn pause(&self, pause: Duration) {
        let until = self.clock.now().since_start + pause.min(LONGEST_PAUSE);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.paused_until = bucket.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_then_a_pause() {
        let clock = Clock::scripted(0);
        let pace = Pace::new(clock.clone(), 2, 3);
        let take = |at_ms: u64| pace.bucket.lock().unwrap().take(Duration::from_millis(at_ms)).is_ok();
        let table = [
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (499, false),
            (500, true),
            (900, false),
            (1000, true),
        ];
        for (at, taken) in table {
            assert_eq!(take(at), taken, "at {at} ms");
        }
        pace.pause(Duration::from_secs(600));
        assert!(!take(29_999), "a pause is kept");
        assert!(take(30_000), "and bounded");
    }
}
