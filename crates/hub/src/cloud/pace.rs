//! How long a link's round trip takes, and how long one waits for an answer because of it.
//!
//! The bounds that find a black hole within 5 s would call every link lost whose round trip takes a second. So
//! they grow with the round trip that was measured, and on a link that is quick they are what they always were.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The round trip is the least of so many measurements: a server that was busy once does not make a link slow.
const KEPT: usize = 8;

/// A bound that grows with the round trip.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    least: Duration,
    round_trips: u32,
    most: Duration,
}

const fn bound(least_ms: u64, round_trips: u32, most_ms: u64) -> Bound {
    Bound { least: Duration::from_millis(least_ms), round_trips, most: Duration::from_millis(most_ms) }
}

/// On a probe that decides whether a link is lost: TCP, TLS and the request are a round trip each.
pub const PROBE: Bound = bound(1000, 4, 8000);
/// On a probe that looks whether a lost link is back: a slow one is a link all the same.
pub const PATIENT_PROBE: Bound = bound(3000, 4, 8000);
/// On the answer to a ping.
pub const PING: Bound = bound(1500, 3, 6000);
/// On how long a request waits for a connection, TLS included, before the next server is tried.
pub const CONNECT: Bound = bound(1500, 3, 6000);
/// On a connection that is made in the background: over a satellite, TCP and TLS take seconds.
pub const PATIENCE: Bound = bound(5000, 6, 15_000);

impl Bound {
    /// The bound on a link with this round trip.
    pub fn at(self, round_trip: Duration) -> Duration {
        (round_trip * self.round_trips).clamp(self.least, self.most)
    }
}

/// The round trip to one server.
#[derive(Debug, Default)]
pub struct Pace(Mutex<VecDeque<Duration>>);

impl Pace {
    /// Something took this long that is one round trip and little else.
    pub fn measured(&self, took: Duration) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(took);
        if last.len() > KEPT {
            last.pop_front();
        }
    }

    /// An answer came after this time: a round trip takes no longer, but may take less.
    pub fn at_most(&self, took: Duration) {
        let known = self.round_trip();
        if known.is_none_or(|known| took < known) {
            self.measured(took);
        }
    }

    /// What was measured may be over: the next measurement counts alone.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The round trip, when it is known.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().min().copied()
    }

    /// A bound on this link.
    pub fn bound(&self, bound: Bound) -> Duration {
        bound.at(self.round_trip().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_usual_ones_until_the_link_is_slow() {
        let cases = [
            (PROBE, 0, 1000),
            (PROBE, 250, 1000),
            (PROBE, 600, 2400),
            (PROBE, 60_000, 8000),
            (PING, 500, 1500),
            (PING, 1200, 3600),
            (CONNECT, 500, 1500),
            (PATIENCE, 100, 5000),
            (PATIENCE, 2000, 12_000),
        ];
        for (bound, round_trip, expected) in cases {
            let at = bound.at(Duration::from_millis(round_trip));
            assert_eq!(at, Duration::from_millis(expected), "{bound:?} at {round_trip} ms");
        }
    }

    #[test]
    fn the_least_of_the_last_measurements_counts() {
        let (pace, ms) = (Pace::default(), Duration::from_millis);
        assert_eq!(pace.bound(PROBE), ms(1000));
        pace.measured(ms(2000));
        assert_eq!(pace.bound(PROBE), ms(8000));
        pace.at_most(ms(20));
        pace.at_most(ms(700));
        assert_eq!(pace.round_trip(), Some(ms(20)), "an answer proves only that it takes no longer");
        (0..KEPT).for_each(|_| pace.measured(ms(900)));
        assert_eq!(pace.round_trip(), Some(ms(900)), "a link that has become slow is known as slow");
        pace.forget();
        assert_eq!(pace.round_trip(), None);
    }
}
