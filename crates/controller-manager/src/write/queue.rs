//! What is to be written, in its order, and what was tried. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Rank, Target, Write};

/// Waiting after the first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made, or is moot: the same decision about the same version is not written again.
    Settled,
    /// It has to be tried again if it is still wanted.
    Failed,
}

type Place = (Rank, i64, Target);

/// The writes that are wanted now. Bounded by what there is to write about: one for each target.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<Place, (Arc<str>, Write)>,
    subjects: HashMap<Arc<str>, Wishes>,
    running: HashSet<Target>,
}

/// What one subject wants.
#[derive(Debug, Default)]
struct Wishes {
    places: Vec<Place>,
    settled: HashMap<Target, Write>,
    failed: HashMap<Target, (Duration, u32)>,
}

impl Queue {
    /// `writes` is all that `subject` wants now.
    pub fn want(&mut self, subject: &str, writes: Vec<Write>) {
        if writes.is_empty() && !self.subjects.contains_key(subject) {
            return;
        }
        let subject: Arc<str> = subject.into();
        let wishes = self.subjects.entry(subject.clone()).or_default();
        for place in std::mem::take(&mut wishes.places) {
            self.waiting.remove(&place);
        }
        let wanted: HashMap<&Target, &Write> = writes.iter().map(|w| (&w.target, w)).collect();
        wishes.settled.retain(|target, done| wanted.get(target).is_some_and(|w| *w == done));
        wishes.failed.retain(|target, _| wanted.contains_key(target));
        for write in writes {
            if !wishes.settled.contains_key(&write.target) {
                let place = (write.rank, write.urgency, write.target.clone());
                wishes.places.push(place.clone());
                self.waiting.insert(place, (subject.clone(), write));
            }
        }
        if wishes.places.is_empty() && wishes.settled.is_empty() {
            self.subjects.remove(&subject);
        }
    }

    /// The same of a decision that may rest on old signs of life: of the writes that end pods of dead nodes only those go on that were
    /// wanted before, about the very same version. One that has changed since may be a pod of a node that is back.
    pub fn want_no_more_ends(&mut self, subject: &str, mut writes: Vec<Write>) {
        writes.retain(|write| write.rank != Rank::Empty || self.wants(subject, write));
        self.want(subject, writes);
    }

    fn wants(&self, subject: &str, write: &Write) -> bool {
        let waits = self.waiting.get(&(write.rank, write.urgency, write.target.clone()));
        let settled = || self.subjects.get(subject).and_then(|wishes| wishes.settled.get(&write.target));
        waits.map(|(_, waiting)| waiting).or_else(settled) == Some(write)
    }

    /// Subjects that want something, or did.
    pub fn subjects(&self) -> impl Iterator<Item = &Arc<str>> {
        self.subjects.keys()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next write at `now`, with its subject.
    pub fn next(&mut self, now: Duration) -> Option<(Arc<str>, Write)> {
        let due = |(_, (subject, write)): &(&Place, &(Arc<str>, Write))| {
            let failed = self.subjects.get(subject).and_then(|w| w.failed.get(&write.target));
            !self.running.contains(&write.target) && failed.is_none_or(|(until, _)| *until <= now)
        };
        let place = self.waiting.iter().find(due).map(|(place, _)| place.clone())?;
        let (subject, write) = self.waiting.remove(&place)?;
        self.running.insert(write.target.clone());
        Some((subject, write))
    }

    /// A write that was given out has ended at `now`.
    pub fn ended(&mut self, subject: &Arc<str>, write: Write, outcome: Outcome, now: Duration) {
        self.running.remove(&write.target);
        let wishes = self.subjects.entry(subject.clone()).or_default();
        match outcome {
            Outcome::Settled => {
                wishes.failed.remove(&write.target);
                wishes.settled.insert(write.target.clone(), write);
            }
            Outcome::Failed => {
                let (until, tries) = wishes.failed.entry(write.target).or_insert((now, 0));
                *until = now + FIRST_PAUSE.saturating_mul(1 << (*tries).min(6)).min(LONGEST_PAUSE);
                *tries += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(name: &str, rank: Rank, urgency: i64, version: &str) -> Write {
        let target = Target::Pod("d".into(), name.into());
        Write { target, rank, urgency, version: version.into(), body: json!({}) }
    }

    fn names(queue: &mut Queue, now: u64) -> Vec<(Arc<str>, Write)> {
        std::iter::from_fn(|| queue.next(Duration::from_millis(now))).collect()
    }

    fn of(given: &[(Arc<str>, Write)]) -> Vec<String> {
        given.iter().map(|(_, w)| format!("{:?}", w.target).replace(['"', ' '], "")).collect()
    }

    #[test]
    fn the_most_urgent_goes_first_and_each_target_once() {
        let mut queue = Queue::default();
        let late = [write("c", Rank::Tidy, 0, "1"), write("b", Rank::Protect, 300, "1")];
        queue.want("n1", late.to_vec());
        queue.want("n2", vec![write("a", Rank::Protect, 5, "1")]);
        assert_eq!(queue.waiting(), 3);
        let given = names(&mut queue, 0);
        assert_eq!(of(&given), ["Pod(d,a)", "Pod(d,b)", "Pod(d,c)"]);
        queue.want("n1", late.to_vec());
        assert!(names(&mut queue, 0).is_empty(), "they are under way");
    }

    #[test]
    fn nothing_but_a_new_look_adds_to_what_ends_pods() {
        let end = |version: &str| write("a", Rank::Empty, 0, version);
        let mut queue = Queue::default();
        queue.want_no_more_ends("n", vec![end("1"), write("b", Rank::Protect, 0, "1")]);
        assert_eq!(of(&names(&mut queue, 0)), ["Pod(d,b)"]);
        queue.want("n", vec![end("1")]);
        queue.want_no_more_ends("n", vec![end("1")]);
        assert_eq!(queue.waiting(), 1);
        queue.want_no_more_ends("n", vec![end("2")]);
        assert_eq!(queue.waiting(), 0, "its kubelet may have spoken");
        queue.want("n", vec![end("2")]);
        let (subject, given) = queue.next(Duration::ZERO).unwrap();
        queue.ended(&subject, given, Outcome::Settled, Duration::ZERO);
        queue.want_no_more_ends("n", vec![end("2")]);
        queue.want("n", vec![end("2")]);
        assert!(names(&mut queue, 0).is_empty(), "that it was made is not forgotten");
    }

    #[test]
    fn what_was_written_waits_for_another_version() {
        let mut queue = Queue::default();
        let first = write("a", Rank::Protect, 0, "1");
        queue.want("n", vec![first.clone()]);
        let (subject, given) = queue.next(Duration::ZERO).unwrap();
        queue.ended(&subject, given, Outcome::Settled, Duration::ZERO);
        queue.want("n", vec![first]);
        assert!(names(&mut queue, 0).is_empty(), "decided on what was before the write");
        queue.want("n", vec![write("a", Rank::Protect, 0, "2")]);
        assert_eq!(names(&mut queue, 0).len(), 1);
    }

    #[test]
    fn what_failed_waits_longer_each_time_and_what_is_not_wanted_is_forgotten() {
        let mut queue = Queue::default();
        let wanted = || vec![write("a", Rank::Protect, 0, "1")];
        let mut at = 0;
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            queue.want("n", wanted());
            let (subject, given) = queue.next(Duration::from_millis(at)).unwrap();
            queue.ended(&subject, given, Outcome::Failed, Duration::from_millis(at));
            queue.want("n", wanted());
            assert!(names(&mut queue, at + pause - 1).is_empty(), "{pause}");
            at += pause;
        }
        queue.want("n", Vec::new());
        assert_eq!((queue.waiting(), queue.subjects().count()), (0, 0));
    }
}
