//! Objects of which an answer showed an older version than the one that is held.
//!
//! A server that lags says so for a while, a cluster that was restored from a backup for good. Which of the two it is
//! time tells: when for two minutes nothing but older versions came, they are the truth. A restore that collections show
//! is believed at once (`cache/reflector/history.rs`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use yurt_api::collection::ObjectKey;
use yurt_api::resource::Resource;

/// Servers that lag have caught up by then.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Objects in doubt at one time; the oldest doubt goes when there are more.
const MOST: usize = 256;

/// An object, or a subresource of it.
pub(super) type About = (Resource, ObjectKey, String);

/// Since when each of them is shown in older versions.
#[derive(Default)]
pub(super) struct Doubts(Mutex<HashMap<About, Instant>>);

impl Doubts {
    /// An older version was shown at `now`; true when that has been so for long enough to be believed.
    pub(super) fn grows(&self, about: &About, now: Instant) -> bool {
        let mut doubts = self.lock();
        if let Some(since) = doubts.get(about) {
            return now.saturating_duration_since(*since) >= CATCH_UP;
        }
        let oldest = doubts.iter().min_by_key(|(_, since)| **since).map(|(about, _)| about.clone());
        if let Some(oldest) = oldest.filter(|_| doubts.len() >= MOST) {
            doubts.remove(&oldest);
        }
        doubts.insert(about.clone(), now);
        false
    }

    /// What is held was shown, or something newer.
    pub(super) fn ends(&self, about: &About) {
        self.lock().remove(about);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<About, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn about(name: &str) -> About {
        (Resource::new("", "v1", "nodes"), ObjectKey::new("", name), String::new())
    }

    #[test]
    fn what_stays_older_is_believed_in_the_end() {
        let (doubts, now) = (Doubts::default(), clock::monotonic());
        assert!(!doubts.grows(&about("a"), now));
        assert!(!doubts.grows(&about("a"), now + CATCH_UP / 2) && !doubts.grows(&about("b"), now + CATCH_UP));
        assert!(doubts.grows(&about("a"), now + CATCH_UP));
        doubts.ends(&about("a"));
        assert!(!doubts.grows(&about("a"), now + CATCH_UP), "a newer one was shown in between");
    }

    #[test]
    fn doubts_are_bounded() {
        let (doubts, now) = (Doubts::default(), clock::monotonic());
        for n in 0..2 * MOST {
            doubts.grows(&about(&n.to_string()), now + Duration::from_millis(n as u64));
            assert!(doubts.lock().len() <= MOST);
        }
        assert!(doubts.grows(&about(&(2 * MOST - 1).to_string()), now + 2 * CATCH_UP));
    }
}
