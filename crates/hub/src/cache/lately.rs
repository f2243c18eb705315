//! What was noted a moment ago: who asks for the same again and again costs the store nothing.
//!
//! Only hashes are held, with a key of this process. An entry that is lost, or pushed out, costs one more note.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a note stands: what depends on it (a grant's age, an object's `Age`) is told in larger steps.
const STANDS: Duration = Duration::from_secs(30);
/// Notes at one time; all go when there are more.
const MOST: usize = 1024;

/// Notes of one kind.
#[derive(Default)]
pub struct Lately {
    hasher: RandomState,
    noted: Mutex<HashMap<u64, (u64, Instant)>>,
}

/// Something that may have been noted: what it is about, and what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    about: u64,
    content: u64,
}

impl Lately {
    /// The note that says `content` about `about`.
    pub fn note_of(&self, about: impl Hash, content: impl Hash) -> Note {
        Note { about: self.hasher.hash_one(about), content: self.hasher.hash_one(content) }
    }

    /// Whether the last note about the same said the same, less than 30 s before `now`.
    pub fn has(&self, note: Note, now: Instant) -> bool {
        let noted = self.lock();
        let last = noted.get(&note.about);
        last.is_some_and(|(content, at)| {
            *content == note.content && now.saturating_duration_since(*at) < STANDS
        })
    }

    /// Takes the note down, in the place of the last about the same.
    pub fn put(&self, note: Note, now: Instant) {
        let mut noted = self.lock();
        if noted.len() >= MOST && !noted.contains_key(&note.about) {
            noted.clear();
        }
        noted.insert(note.about, (note.content, now));
    }

    /// Nothing is noted about this any more.
    pub fn forget(&self, about: impl Hash) {
        self.lock().remove(&self.hasher.hash_one(about));
    }

    /// Nothing is noted any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (u64, Instant)>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_note_stands_for_a_while_until_it_is_contradicted() {
        let (lately, now) = (Lately::default(), clock::monotonic());
        let (first, second) = (lately.note_of("pod", "1"), lately.note_of("pod", "2"));
        assert!(!lately.has(first, now));
        lately.put(first, now);
        assert!(lately.has(first, now) && !lately.has(second, now));
        assert!(!lately.has(first, now + STANDS));
        lately.put(second, now);
        assert!(!lately.has(first, now) && lately.has(second, now));
        lately.forget("pod");
        assert!(!lately.has(second, now));
    }

    #[test]
    fn notes_are_bounded() {
        let (lately, now) = (Lately::default(), clock::monotonic());
        for n in 0..10 * MOST {
            lately.put(lately.note_of(n, ()), now);
            assert!(lately.lock().len() <= MOST);
        }
        assert!(lately.has(lately.note_of(10 * MOST - 1, ()), now));
    }
}
