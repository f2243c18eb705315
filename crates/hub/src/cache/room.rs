//! The memory for answers that are read whole because they are to be kept, bounded for all of them together (P9).
//!
//! The node's, everybody else's and the hub's own are apart: nobody can keep the node's answers from being kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keep::NotKept;
use crate::cloud::{Identity, Received};

/// What answers to the node's requests may take together, and those to everybody else's, in KiB.
const CLIENTS_KIB: usize = 64 << 10;
/// What the lists of reflectors may take together, in KiB.
const REFLECTORS_KIB: usize = 128 << 10;

/// Answers that are being kept while nobody waits for it any more, at the most.
const IN_BACKGROUND: usize = 512;

/// A body of which nothing comes for this long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// The room in three parts, and the places of what is being kept.
pub struct Room {
    keeping: Arc<Semaphore>,
    node: Arc<Semaphore>,
    others: Arc<Semaphore>,
    reflectors: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let [node, others, reflectors] =
            [CLIENTS_KIB, CLIENTS_KIB, REFLECTORS_KIB].map(|kib| Arc::new(Semaphore::new(kib)));
        let keeping = Arc::new(Semaphore::new(IN_BACKGROUND));
        Room { keeping, node, others, reflectors }
    }
}

impl Room {
    /// A share, still empty, for the answer to a request of this identity.
    pub fn of_client(&self, identity: &Identity) -> Share {
        Share::of(if identity.is_node() { &self.node } else { &self.others })
    }

    /// A share, still empty, for a list of a reflector.
    pub fn of_reflector(&self) -> Share {
        Share::of(&self.reflectors)
    }

    /// A place for something that is being kept; `None` when the store does not come to an end with what is.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.keeping).try_acquire_owned().ok()
    }

    /// How much is being kept now: what was answered before is kept when there is nothing.
    pub fn being_kept(&self) -> u64 {
        IN_BACKGROUND.saturating_sub(self.keeping.available_permits()) as u64
    }

    /// What is taken now, in bytes.
    pub fn taken(&self) -> u64 {
        let all = CLIENTS_KIB * 2 + REFLECTORS_KIB;
        let free = [&self.node, &self.others, &self.reflectors].map(|part| part.available_permits());
        (all.saturating_sub(free.iter().sum()) as u64) << 10
    }
}

/// What one answer has taken of the room; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    part: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    fn of(part: &Arc<Semaphore>) -> Self {
        Share { part: Arc::clone(part), taken: None }
    }

    /// Makes the share large enough for so many bytes in all. Nobody waits for room: two who each have half of what
    /// they need would wait for ever.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NotKept> {
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing =
            u32::try_from(bytes.div_ceil(1024).saturating_sub(held)).map_err(|_| NotKept::NoRoom)?;
        let more = Arc::clone(&self.part).try_acquire_many_owned(missing).map_err(|_| NotKept::NoRoom)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }

    /// Reads a whole body of at most `bound` bytes. It may take as long as it likes while something of it comes.
    pub async fn read(&mut self, mut body: Received, bound: usize) -> Result<Bytes, NotKept> {
        let mut bytes = Vec::new();
        loop {
            let next = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| NotKept::CutShort)?;
            let Some(frame) = next else { break };
            let Ok(chunk) = frame.map_err(|_| NotKept::CutShort)?.into_data() else { continue };
            if bytes.len() + chunk.len() > bound {
                return Err(NotKept::TooLarge);
            }
            self.grow(bytes.len() + chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_within_their_part_and_are_given_back() {
        let room = Room::default();
        let mut list = room.of_client(&Identity::Anonymous);
        assert_eq!(list.grow(1), Ok(()));
        assert_eq!((list.grow(1000), list.grow(1025), room.taken()), (Ok(()), Ok(()), 2048));
        assert_eq!(list.grow((CLIENTS_KIB + 1) << 10), Err(NotKept::NoRoom));
        assert_eq!(list.grow(CLIENTS_KIB << 10), Ok(()), "what it has is not lost by asking for too much");
        assert_eq!(room.of_client(&Identity::Anonymous).grow(1), Err(NotKept::NoRoom));
        assert_eq!(room.of_client(&Identity::Node).grow(1), Ok(()), "the node has a part of its own");
        assert_eq!(room.of_reflector().grow(REFLECTORS_KIB << 10), Ok(()), "and reflectors too");
        drop(list);
        assert_eq!(room.taken(), 0);
    }
}
