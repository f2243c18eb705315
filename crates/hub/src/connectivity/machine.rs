//! The connectivity state machine: `(state, event, now) -> (state, actions)`, without I/O.
//!
//! A failure weighs by what it proves: a refused connection is told at once by the peer's kernel
//! and is tried three times within a second; a time-out has already cost seconds and counts twice.

use std::time::{Duration, Instant};

/// Weight of failures that makes a suspected link an offline one.
const OFFLINE_AT: u32 = 3;
/// Probes that must succeed in a row before an offline link counts as back.
const SUCCESSES_TO_RETURN: u32 = 3;
/// The least time over which those successes must be spread.
const RETURN_SPREAD: Duration = Duration::from_millis(1500);
/// Pause between probes while the link is suspected.
const SUSPECT_PAUSE: Duration = Duration::from_millis(200);
/// Pause between probes while the link is coming back.
const RETURN_PAUSE: Duration = Duration::from_millis(800);
/// First and longest pause between probes of an offline link.
const OFFLINE_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// How a request, a connection or a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refused, reset or closed by the peer.
    Refused,
    /// No answer within the bound: what a black hole looks like.
    Timeout,
    /// Something answered that is not a working Kubernetes API: 502, 503, 504, HTML, bad TLS.
    NotServing,
}

/// What the machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request or a connection worked.
    Worked,
    /// A connection was lost or could not be made.
    Failed(Failure),
    /// A request was slow or was answered by something odd; it proves nothing, but is worth a probe.
    Doubtful,
    /// The probe got its answer.
    ProbeWorked,
    /// The probe failed.
    ProbeFailed(Failure),
    /// The journal is pushed, the state of both sides is one again.
    Recovered,
}

/// What the machine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The cloud answers.
    Online,
    /// Something failed; a probe is deciding.
    Suspect {
        /// The weight of failures seen.
        weight: u32,
    },
    /// The cloud is out of reach.
    Offline {
        /// Probes that worked in a row, and when the first of them did.
        successes: Option<(u32, Instant)>,
        /// The pause before the next probe.
        pause: Duration,
        /// Nothing has been heard since the process started: one success is enough to return.
        starting: bool,
    },
    /// The cloud answers again; the node's writes are being pushed.
    Recovering,
}

impl State {
    /// Where a process starts: nothing is known, so the store answers until the first probe has.
    pub fn initial() -> Self {
        State::Offline { successes: None, pause: OFFLINE_PAUSE.0, starting: true }
    }

    /// The state's name as users see it in `/v1/status` and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            State::Online => "Online",
            State::Suspect { .. } => "Suspect",
            State::Offline { .. } => "Offline",
            State::Recovering => "Recovering",
        }
    }
}

/// What the worker has to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a probe after this time, replacing one that is scheduled.
    Probe(Duration),
    /// Close the connections to the cloud: they are dead or will lie.
    Disconnect,
    /// Push the journal, then report [`Event::Recovered`].
    Recover,
}

/// One step. Total over every pair of state and event.
pub fn step(state: State, event: Event, now: Instant) -> (State, Vec<Action>) {
    match state {
        State::Online => online(event),
        State::Suspect { weight } => suspect(weight, event),
        State::Offline { successes, pause, starting } => offline(successes, pause, starting, event, now),
        State::Recovering => recovering(event),
    }
}

fn online(event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Failed(f) | Event::ProbeFailed(f) => suspected(weight_of(f)),
        Event::Doubtful => suspected(0),
        Event::Worked | Event::ProbeWorked | Event::Recovered => (State::Online, vec![]),
    }
}

fn suspected(weight: u32) -> (State, Vec<Action>) {
    (State::Suspect { weight }, vec![Action::Probe(Duration::ZERO)])
}

fn suspect(weight: u32, event: Event) -> (State, Vec<Action>) {
    match event {
        // Other traffic that still trickles in must not hide a link that is gone: only the probe clears.
        Event::ProbeWorked => (State::Online, vec![]),
        Event::ProbeFailed(f) if weight + weight_of(f) >= OFFLINE_AT => lost(),
        Event::ProbeFailed(f) => {
            (State::Suspect { weight: weight + weight_of(f) }, vec![Action::Probe(SUSPECT_PAUSE)])
        }
        Event::Worked | Event::Failed(_) | Event::Doubtful | Event::Recovered => {
            (State::Suspect { weight }, vec![])
        }
    }
}

fn lost() -> (State, Vec<Action>) {
    let pause = OFFLINE_PAUSE.0;
    let state = State::Offline { successes: None, pause, starting: false };
    (state, vec![Action::Disconnect, Action::Probe(pause)])
}

fn offline(
    successes: Option<(u32, Instant)>,
    pause: Duration,
    starting: bool,
    event: Event,
    now: Instant,
) -> (State, Vec<Action>) {
    match event {
        Event::ProbeWorked => {
            let (count, first) = successes.map_or((1, now), |(n, t)| (n + 1, t));
            let steady = count >= SUCCESSES_TO_RETURN && now.duration_since(first) >= RETURN_SPREAD;
            if starting || steady {
                return (State::Recovering, vec![Action::Recover]);
            }
            let next = State::Offline { successes: Some((count, first)), pause: OFFLINE_PAUSE.0, starting };
            (next, vec![Action::Probe(RETURN_PAUSE)])
        }
        Event::ProbeFailed(_) => {
            let longer = (pause * 2).min(OFFLINE_PAUSE.1);
            // A process that has failed once is no longer starting: what comes back later may flap.
            let next = State::Offline { successes: None, pause: longer, starting: false };
            (next, vec![Action::Probe(pause)])
        }
        Event::Worked | Event::Failed(_) | Event::Doubtful | Event::Recovered => {
            (State::Offline { successes, pause, starting }, vec![])
        }
    }
}

fn recovering(event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Recovered => (State::Online, vec![]),
        Event::Failed(_) | Event::ProbeFailed(_) => lost(),
        Event::Worked | Event::ProbeWorked | Event::Doubtful => (State::Recovering, vec![]),
    }
}

fn weight_of(failure: Failure) -> u32 {
    match failure {
        Failure::Refused | Failure::NotServing => 1,
        Failure::Timeout => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut state: State, events: &[(u64, Event)]) -> (State, Vec<Action>) {
        let start = crate::clock::monotonic();
        let mut last = vec![];
        for (ms, event) in events {
            (state, last) = step(state, *event, start + Duration::from_millis(*ms));
        }
        (state, last)
    }

    #[test]
    fn a_refused_link_is_offline_after_three_refusals() {
        let refused = Event::ProbeFailed(Failure::Refused);
        let lost = Event::Failed(Failure::Refused);
        assert_eq!(
            run(State::Online, &[(0, lost)]),
            (State::Suspect { weight: 1 }, vec![Action::Probe(Duration::ZERO)])
        );
        assert_eq!(run(State::Online, &[(0, lost), (1, refused)]).0, State::Suspect { weight: 2 });
        let (state, actions) = run(State::Online, &[(0, lost), (1, refused), (201, refused)]);
        assert_eq!(state.name(), "Offline");
        assert_eq!(actions[0], Action::Disconnect);
    }

    #[test]
    fn a_black_hole_is_offline_after_the_ping_and_one_probe() {
        let events = [(0, Event::Failed(Failure::Timeout)), (1000, Event::ProbeFailed(Failure::Timeout))];
        assert_eq!(run(State::Online, &events).0.name(), "Offline");
    }

    #[test]
    fn doubt_is_cleared_by_a_probe_only() {
        assert_eq!(run(State::Online, &[(0, Event::Doubtful), (1, Event::Worked)]).0.name(), "Suspect");
        assert_eq!(run(State::Online, &[(0, Event::Doubtful), (1, Event::ProbeWorked)]).0, State::Online);
    }

    #[test]
    fn a_started_process_returns_at_the_first_success() {
        let (state, actions) = run(State::initial(), &[(0, Event::ProbeWorked)]);
        assert_eq!((state, actions), (State::Recovering, vec![Action::Recover]));
    }

    #[test]
    fn an_offline_link_returns_after_several_successes_over_time() {
        let offline = lost().0;
        let fast = [(0, Event::ProbeWorked), (10, Event::ProbeWorked), (20, Event::ProbeWorked)];
        assert_eq!(run(offline, &fast).0.name(), "Offline");
        let steady = [(0, Event::ProbeWorked), (800, Event::ProbeWorked), (1600, Event::ProbeWorked)];
        assert_eq!(run(offline, &steady).0, State::Recovering);
        let flapping = [
            (0, Event::ProbeWorked),
            (800, Event::ProbeWorked),
            (900, Event::ProbeFailed(Failure::Refused)),
            (1600, Event::ProbeWorked),
        ];
        assert_eq!(run(offline, &flapping).0.name(), "Offline");
    }

    #[test]
    fn offline_probes_back_off_to_a_bound() {
        let mut state = lost().0;
        let mut pauses = vec![];
        for _ in 0..6 {
            let (next, actions) =
                step(state, Event::ProbeFailed(Failure::Timeout), crate::clock::monotonic());
            state = next;
            pauses.extend(actions.iter().map(|a| match a {
                Action::Probe(p) => p.as_millis(),
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
    }

    #[test]
    fn recovery_ends_online_or_offline() {
        assert_eq!(step(State::Recovering, Event::Recovered, crate::clock::monotonic()).0, State::Online);
        let (state, actions) =
            step(State::Recovering, Event::Failed(Failure::Refused), crate::clock::monotonic());
        assert_eq!((state.name(), actions[0]), ("Offline", Action::Disconnect));
    }

    /// Every pair of state and event has an answer, and traffic alone never brings an offline link back.
    #[test]
    fn every_pair_is_defined() {
        let now = crate::clock::monotonic();
        let states =
            [State::Online, State::Suspect { weight: 1 }, State::initial(), lost().0, State::Recovering];
        let failures = [Failure::Refused, Failure::Timeout, Failure::NotServing];
        let mut events = vec![Event::Worked, Event::Doubtful, Event::ProbeWorked, Event::Recovered];
        events.extend(failures.map(Event::Failed));
        events.extend(failures.map(Event::ProbeFailed));
        for state in states {
            for event in &events {
                let (next, _) = step(state, *event, now);
                if matches!(state, State::Offline { .. }) && *event != Event::ProbeWorked {
                    assert_eq!(next.name(), "Offline", "{event:?}");
                }
            }
        }
    }
}
