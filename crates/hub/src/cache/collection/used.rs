//! When a collection was used last, by this process and before it.

use std::time::{Duration, Instant};

use super::Collection;
use crate::clock;

impl Collection {
    /// When somebody last used it.
    pub fn used(&self) -> Instant {
        self.lock().used
    }

    /// Notes a use.
    pub fn touch(&self) {
        let mut inner = self.lock();
        (inner.used, inner.used_before, inner.unnoted) = (clock::monotonic(), None, true);
    }

    /// For how long nobody has used it, also before the start, as far as the dates can be trusted.
    pub fn idle(&self) -> Duration {
        let inner = self.lock();
        let before =
            inner.used_before.and_then(clock::seconds_since).map_or(Duration::ZERO, Duration::from_secs);
        inner.used.elapsed().max(before)
    }

    /// When it was last used, in Unix seconds, unless that was said before.
    pub fn take_use(&self) -> Option<i64> {
        let mut inner = self.lock();
        let ago = i64::try_from(inner.used.elapsed().as_secs()).unwrap_or(i64::MAX);
        std::mem::take(&mut inner.unnoted).then(|| clock::unix().saturating_sub(ago))
    }
}
