//! What the writer and the reader both hold in memory: per collection the figures that change with every event.
//!
//! They are not written to the collection's row each time (that would be one more page per event): the version
//! is the greatest of the row's and of `applied` over its objects, the counts come from a scan at open.
//! A reader takes its snapshot of the file and the figures under one lock, and the writer commits under it,
//! so the two always belong together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The figures of one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub rv: u64,
    /// The oldest version from which the history is whole.
    pub floor: u64,
    /// Rows of the history, and the bytes of their bodies.
    pub past: (u64, u64),
    pub observed_at: i64,
    pub used_at: i64,
    pub objects: u64,
    pub bytes: u64,
    /// A checksum of the collection's key and types.
    pub identity: u64,
    /// Newer than what the collection's row says.
    pub unsaved: bool,
}

impl Figures {
    /// An object of `added` bytes came, one of `removed` bytes went.
    pub fn count(&mut self, added: Option<u64>, removed: Option<u64>) {
        self.objects =
            (self.objects + u64::from(added.is_some())).saturating_sub(u64::from(removed.is_some()));
        self.bytes = (self.bytes + added.unwrap_or(0)).saturating_sub(removed.unwrap_or(0));
    }
}

pub(crate) type FiguresById = BTreeMap<i64, Figures>;

#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<FiguresById>);

impl Shared {
    pub fn new(figures: FiguresById) -> Self {
        Shared(Mutex::new(figures))
    }

    /// The figures, while nobody commits. A thread that panicked left whole values behind.
    pub fn lock(&self) -> MutexGuard<'_, FiguresById> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: i64) -> Option<Figures> {
        self.lock().get(&id).copied()
    }
}
