//! The reflector's protocol as a step function: which request comes next, after what.
//!
//! The states are those of client-go's Reflector (`k8s.io/client-go/tools/cache/reflector.go`), with
//! one difference: a version that is held is always tried as a watch before anything is listed.

use std::time::Duration;

/// The first and the longest pause after a failure, as client-go has them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));

/// What the reflector does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for the link.
    Waiting,
    /// Lists everything, after this time.
    Listing(Duration),
    /// Watches from the version that is held.
    Watching,
    /// Pauses before it tries again.
    Pausing(Duration),
    /// Is over.
    Ended,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link stands and the journal is pushed.
    LinkUp,
    /// The whole list is stored.
    Listed,
    /// The watch brought something and then ended as watches do.
    Finished,
    /// Upstream does not have the version any more (410), or sent what cannot be read.
    Gone,
    /// Upstream refuses the credential (401, 403) and no other is known.
    Refused,
    /// Upstream failed.
    Failed,
    /// The server that answers does not know yet what is held.
    Lags,
    /// Upstream asks to come back not before this time (429).
    Later(Duration),
    /// The link is lost.
    LinkLost,
    /// The pause is over.
    Paused,
    /// Nobody has used the collection for long, or the hub stops.
    Unused,
}

/// A watch that ran for so long has worked: what comes after it is no repeated failure.
pub const WORKED: Duration = Duration::from_secs(30);

/// One step; `pause` is the last one, `None` when things work.
///
/// A version that is gone is listed anew at once; when the one of that list is gone, too, before anything has worked,
/// only after a pause: a list is the dearest thing to ask for.
pub fn step(state: State, event: Event, pause: Option<Duration>) -> (State, Option<Duration>) {
    let longer = pause.map_or(PAUSE.0, |p| (p * 2).clamp(PAUSE.0, PAUSE.1));
    match (state, event) {
        (State::Ended, _) | (_, Event::Unused | Event::Refused) => (State::Ended, None),
        (_, Event::LinkLost) => (State::Waiting, None),
        (State::Waiting, Event::LinkUp) => (State::Watching, None),
        (State::Waiting, _) => (State::Waiting, pause),
        (_, Event::Gone) => {
            let wait = pause.map_or(Duration::ZERO, |_| longer);
            (State::Listing(wait), Some(wait))
        }
        (_, Event::Listed) => (State::Watching, pause),
        (_, Event::Finished) => (State::Watching, None),
        (_, Event::Failed | Event::Lags) => (State::Pausing(longer), Some(longer)),
        (_, Event::Later(after)) => (State::Pausing(longer.max(after.min(PAUSE.1))), Some(longer)),
        (State::Pausing(_), Event::Paused) => (State::Watching, pause),
        (other, Event::LinkUp | Event::Paused) => (other, pause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 11] = [
        Event::Lags,
        Event::Later(Duration::from_secs(3600)),
        Event::LinkUp,
        Event::Listed,
        Event::Finished,
        Event::Gone,
        Event::Refused,
        Event::Failed,
        Event::LinkLost,
        Event::Paused,
        Event::Unused,
    ];

    fn next(state: State, event: Event) -> State {
        step(state, event, None).0
    }

    #[test]
    fn a_held_version_is_watched_and_only_its_loss_lists() {
        assert_eq!(next(State::Waiting, Event::LinkUp), State::Watching);
        assert_eq!(next(State::Watching, Event::Finished), State::Watching);
        assert_eq!(next(State::Watching, Event::Gone), State::Listing(Duration::ZERO));
        assert_eq!(next(State::Listing(Duration::ZERO), Event::Listed), State::Watching);
        let listing = EVENTS.map(|e| (e, next(State::Watching, e)));
        assert_eq!(listing.iter().filter(|(_, s)| matches!(s, State::Listing(_))).count(), 1);
    }

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let mut pause = None;
        let mut seen = vec![];
        for _ in 0..8 {
            let (state, p) = step(State::Watching, Event::Failed, pause);
            assert_eq!(Some(state), p.map(State::Pausing));
            pause = p;
            seen.extend(p.map(|p| p.as_millis()));
        }
        assert_eq!(seen, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(step(State::Watching, Event::Finished, pause), (State::Watching, None));
        let later = |s| step(State::Watching, Event::Later(Duration::from_secs(s)), None).0;
        assert_eq!((later(0), later(5)), (State::Pausing(PAUSE.0), State::Pausing(Duration::from_secs(5))));
        assert_eq!(later(3600), State::Pausing(PAUSE.1), "nobody is believed for ever");
    }

    #[test]
    fn a_version_that_is_gone_as_soon_as_it_was_listed_is_listed_ever_more_slowly() {
        let (mut pause, mut waits) = (None, vec![]);
        for _ in 0..4 {
            let (state, gone) = step(State::Watching, Event::Gone, pause);
            let State::Listing(wait) = state else { panic!("{state:?}") };
            waits.push(wait.as_millis());
            let (state, listed) = step(state, Event::Listed, gone);
            assert_eq!(state, State::Watching);
            pause = listed;
        }
        assert_eq!(waits, [0, 800, 1600, 3200]);
        let (_, pause) = step(State::Watching, Event::Finished, pause);
        assert_eq!(step(State::Watching, Event::Gone, pause).0, State::Listing(Duration::ZERO));
    }

    #[test]
    fn nothing_moves_without_a_link_and_nothing_leaves_the_end() {
        let states =
            [State::Waiting, State::Listing(Duration::ZERO), State::Watching, State::Pausing(PAUSE.0)];
        for state in states {
            assert_eq!(next(state, Event::LinkLost), State::Waiting);
            assert_eq!(next(state, Event::Unused), State::Ended);
            assert_eq!(next(state, Event::Refused), State::Ended);
        }
        for event in EVENTS {
            assert_eq!(next(State::Ended, event), State::Ended);
            let moved = next(State::Waiting, event) != State::Waiting;
            assert_eq!(moved, matches!(event, Event::LinkUp | Event::Unused | Event::Refused));
        }
    }
}
