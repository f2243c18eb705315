//! Places for local connections. There are so many and no more; when all are taken, the connection that has
//! asked for nothing for longest gives way, so that idle ones never lock a working one out. When all are at work, a few
//! more are there for the node alone, so that nobody's watches keep its kubelet out (P9).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Notify;

use crate::clock;
use crate::respond::{Body, BoxError};

/// The most connections at one time, however many files the process may open.
const MOST: usize = 1024;
/// Places beyond these, for connections that prove to be the node's.
const RESERVED: usize = 8;
/// Files that are not local connections: the store, the cloud, the admin, the log.
const OTHER_FILES: usize = 128;
/// The fewest places, on a machine that allows next to no files.
const LEAST: usize = 16;

/// All places.
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
    left: Notify,
}

#[derive(Default)]
struct Taken {
    seats: HashMap<u64, Arc<Seat>>,
    next: u64,
}

/// What is known of one connection.
struct Seat {
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
    leave: Notify,
}

/// The place of a connection, free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    reserved: bool,
    seat: Arc<Seat>,
}

/// A request that is being answered, until the last byte of its answer.
pub struct Busy(Arc<Seat>);

/// What [`Places::take`] gives.
pub enum Taking {
    /// A place.
    Free(Place),
    /// A place that an idle connection gave up.
    Instead(Place),
    /// None: every connection is being answered.
    Full,
}

impl Places {
    /// As many as the process's limit of open files allows: an upgraded connection needs two.
    pub fn new() -> Arc<Self> {
        let files = std::fs::read_to_string("/proc/self/limits").ok().and_then(|l| soft_limit_of_files(&l));
        let most = files.map_or(MOST, |files| (files.saturating_sub(OTHER_FILES) / 2).clamp(LEAST, MOST));
        if most < MOST {
            tracing::info!(connections = most, files, "the limit of open files bounds the local connections");
        }
        Arc::new(Places { most, taken: Mutex::default(), left: Notify::new() })
    }

    /// A place for a new connection.
    pub fn take(self: &Arc<Self>) -> Taking {
        let mut taken = self.lock();
        let full = taken.seats.len() >= self.most;
        let idle = full.then(|| longest_idle(&taken.seats)).flatten();
        let left = idle.and_then(|number| taken.seats.remove(&number));
        if let Some(seat) = &left {
            seat.leave.notify_one();
        }
        if taken.seats.len() >= self.most + RESERVED {
            return Taking::Full;
        }
        let reserved = taken.seats.len() >= self.most;
        let number = taken.next;
        taken.next += 1;
        let seat = Seat {
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(clock::monotonic()),
            leave: Notify::new(),
        };
        let seat = Arc::new(seat);
        taken.seats.insert(number, Arc::clone(&seat));
        let place = Place { places: Arc::clone(self), number, reserved, seat };
        if left.is_some() { Taking::Instead(place) } else { Taking::Free(place) }
    }

    /// Waits until every connection has ended.
    pub async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().seats.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether only the node may keep it.
    pub fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Waits until the place is wanted by somebody else.
    pub async fn wanted(&self) {
        self.seat.leave.notified().await;
    }

    /// Where its requests are counted.
    pub fn counter(&self) -> impl Fn() -> Busy + Clone + Send + Sync + 'static {
        let seat = Arc::clone(&self.seat);
        move || {
            seat.requests.fetch_add(1, Ordering::Relaxed);
            Busy(Arc::clone(&seat))
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().seats.remove(&self.number);
        self.places.left.notify_waiters();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its connection busy until its end.
pub fn busy_until_sent(body: Body, busy: Busy) -> Body {
    BodyExt::boxed_unsync(Sending { body, _busy: busy })
}

struct Sending {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn longest_idle(seats: &HashMap<u64, Arc<Seat>>) -> Option<u64> {
    let idle = seats.iter().filter(|(_, s)| s.requests.load(Ordering::Relaxed) == 0);
    let since = |s: &Seat| *s.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
    idle.min_by_key(|(_, s)| since(s)).map(|(number, _)| *number)
}

/// The line `Max open files  SOFT  HARD  files` (proc_pid_limits(5)).
fn soft_limit_of_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_idle_for_longest_gives_way_and_a_busy_one_never() {
        let places = Arc::new(Places { most: 2, taken: Mutex::default(), left: Notify::new() });
        let (Taking::Free(first), Taking::Free(second)) = (places.take(), places.take()) else { panic!() };
        let busy = first.counter()();
        let Taking::Instead(third) = places.take() else { panic!() };
        assert!(
            places.lock().seats.contains_key(&first.number)
                && !places.lock().seats.contains_key(&second.number)
        );
        let also_busy = third.counter()();
        let reserved: Vec<_> = (0..RESERVED)
            .map(|_| {
                let Taking::Free(place) = places.take() else { panic!() };
                assert!(place.is_reserved() && !third.is_reserved());
                (place.counter()(), place)
            })
            .collect();
        assert!(matches!(places.take(), Taking::Full));
        drop((reserved, busy, also_busy));
        assert!(matches!(places.take(), Taking::Instead(place) if !place.is_reserved()));
        assert!(!places.lock().seats.contains_key(&first.number), "it was idle before the third");
    }

    #[test]
    fn the_limit_of_files_is_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax processes  1 2 processes\nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit_of_files(text), Some(1024));
        assert_eq!(soft_limit_of_files("Max open files unlimited unlimited files"), None);
    }
}
