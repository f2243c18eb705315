//! The memory for what was read from the store and waits for its clients (P9).
//!
//! The node has a room of its own. Of the others' no credential gets more than half, so that a client that reads nothing
//! takes it from no other one. Who finds none free waits in order of arrival (tokio's semaphores are fair), at both gates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cloud::Identity;

/// What views may take together until their clients have taken them, in KiB: those of the node, and those of others.
const ALL_KIB: usize = 64 << 10;
/// What those for one credential may take of the others' room, in KiB.
const EACH_KIB: usize = 32 << 10;

/// Both rooms.
pub struct Views {
    node: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// By credential, as long as something waits for it.
    each: Mutex<HashMap<Identity, Weak<Semaphore>>>,
}

/// What one view has taken; given back when this is dropped.
#[derive(Debug)]
pub struct ViewShare {
    own: Option<Part>,
    all: Part,
}

/// What was taken of one room.
#[derive(Debug)]
struct Part {
    room: Arc<Semaphore>,
    /// The most that one view is counted with: a larger one is given alone.
    most: usize,
    taken: OwnedSemaphorePermit,
}

impl Default for Views {
    fn default() -> Self {
        let [node, others] = [ALL_KIB; 2].map(|kib| Arc::new(Semaphore::new(kib)));
        Views { node, others, each: Mutex::default() }
    }
}

impl Views {
    /// A share for a view of so many bytes for a client of this identity; `None` when there is none free now.
    pub fn now(&self, identity: &Identity, bytes: usize) -> Option<ViewShare> {
        let own = match self.own(identity) {
            Some(own) => Some(Part::now(own, EACH_KIB, bytes)?),
            None => None,
        };
        Some(ViewShare { own, all: Part::now(self.all(identity), ALL_KIB, bytes)? })
    }

    /// The same, waited for at most so long; whoever waits must hold nothing that it asks for.
    pub async fn soon(&self, identity: &Identity, bytes: usize, bound: Duration) -> Option<ViewShare> {
        let waiting = async {
            let own = match self.own(identity) {
                Some(own) => Some(Part::soon(own, EACH_KIB, bytes).await?),
                None => None,
            };
            Some(ViewShare { own, all: Part::soon(self.all(identity), ALL_KIB, bytes).await? })
        };
        tokio::time::timeout(bound, waiting).await.ok().flatten()
    }

    /// What views take now, in bytes.
    pub fn taken(&self) -> u64 {
        let free = self.node.available_permits() + self.others.available_permits();
        ((ALL_KIB * 2).saturating_sub(free) as u64) << 10
    }

    fn all(&self, identity: &Identity) -> Arc<Semaphore> {
        Arc::clone(if identity.is_node() { &self.node } else { &self.others })
    }

    /// The room of this credential alone; the node needs none.
    fn own(&self, identity: &Identity) -> Option<Arc<Semaphore>> {
        if identity.is_node() {
            return None;
        }
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = each.get(identity).and_then(Weak::upgrade) {
            return Some(own);
        }
        each.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(EACH_KIB));
        each.insert(identity.clone(), Arc::downgrade(&own));
        Some(own)
    }
}

impl ViewShare {
    /// Makes it large enough for so many bytes; false when there is nothing free for it.
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.own.as_mut().is_none_or(|own| own.grow(bytes)) && self.all.grow(bytes)
    }
}

impl Part {
    fn now(room: Arc<Semaphore>, most: usize, bytes: usize) -> Option<Self> {
        let taken = Arc::clone(&room).try_acquire_many_owned(kib(bytes, most)).ok()?;
        Some(Part { room, most, taken })
    }

    async fn soon(room: Arc<Semaphore>, most: usize, bytes: usize) -> Option<Self> {
        let taken = Arc::clone(&room).acquire_many_owned(kib(bytes, most)).await.ok()?;
        Some(Part { room, most, taken })
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let held = u32::try_from(self.taken.num_permits()).unwrap_or(u32::MAX);
        let missing = kib(bytes, self.most).saturating_sub(held);
        let more = Arc::clone(&self.room).try_acquire_many_owned(missing);
        more.map(|more| self.taken.merge(more)).is_ok()
    }
}

fn kib(bytes: usize, most: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).min(most)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const EACH: usize = EACH_KIB << 10;
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(10);

    fn bearer(name: &'static str) -> Identity {
        Identity::Bearer(HeaderValue::from_static(name))
    }

    #[test]
    fn nobody_takes_what_is_anothers() {
        let views = Views::default();
        let [ann, bob, carl] = ["ann", "bob", "carl"].map(bearer);
        let anns = views.now(&ann, EACH).expect("half of it");
        assert!(views.now(&ann, 1).is_none(), "and no more");
        let mut bobs = views.now(&bob, EACH - 2048).expect("the rest is free");
        assert!(bobs.grow(EACH - 1024) && !bobs.grow(EACH + 1), "{bobs:?}");
        let node = views.now(&Identity::Node, usize::MAX).expect("the node has a room of its own");
        assert!(views.now(&carl, 2048).is_none(), "the room of others is full");
        assert!(views.now(&carl, 1024).is_some());
        drop((anns, bobs, node));
        assert_eq!(views.taken(), 0);
        assert!(views.now(&carl, usize::MAX).is_some(), "the largest one fits");
        assert_eq!(views.each.lock().unwrap().len(), 1, "who takes nothing is forgotten");
    }

    #[tokio::test]
    async fn who_waits_is_served_in_order_of_arrival() {
        let views = Views::default();
        let ann = bearer("ann");
        let held = views.now(&ann, EACH).unwrap();
        let mut first = Box::pin(views.soon(&ann, EACH, LONG));
        let mut second = Box::pin(views.soon(&ann, 1024, LONG));
        for waiting in [&mut first, &mut second] {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(held);
        assert!(views.now(&ann, 1).is_none(), "what is free is theirs who wait");
        assert!(futures_util::poll!(&mut second).is_pending());
        let held = first.await.expect("its turn");
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(held);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let views = Views::default();
        let held = views.now(&Identity::Node, usize::MAX).unwrap();
        assert!(views.soon(&Identity::Node, 1, SHORT).await.is_none());
        drop(held);
        assert_eq!(views.taken(), 0, "and leaves nothing behind");
    }
}
