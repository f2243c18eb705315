//! Runs the machine: takes events, probes when told to, publishes every change of state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::machine::{self, Action, Event, State};
use crate::clock;
use crate::cloud::Cloud;
use crate::tasks::Shutdown;

/// Events that may wait for the worker; more say nothing new and are dropped.
const QUEUE: usize = 256;

/// Where everybody who talks to the cloud reports how it went. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Signal(mpsc::Sender<Event>);

impl Signal {
    /// Reports an event; dropped when many are waiting already.
    pub fn report(&self, event: Event) {
        let _ = self.0.try_send(event);
    }
}

/// The state and since when it holds.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The machine's state.
    pub state: State,
    /// Monotonic time of the last change between named states.
    pub since: Instant,
    /// The same as Unix seconds, for people.
    pub since_unix: i64,
}

/// What the rest of the hub sees: the current state, and changes to wait for.
#[derive(Clone)]
pub struct Connectivity(watch::Receiver<Snapshot>);

impl Connectivity {
    /// One that a test moves by hand.
    #[cfg(test)]
    pub(crate) fn by_hand(state: State) -> (watch::Sender<Snapshot>, Self) {
        let snapshot = Snapshot { state, since: clock::monotonic(), since_unix: clock::unix() };
        let (moved, seen) = watch::channel(snapshot);
        (moved, Self(seen))
    }

    /// The state now.
    pub fn now(&self) -> Snapshot {
        *self.0.borrow()
    }

    /// Whether requests should be tried upstream at all.
    pub fn reachable(&self) -> bool {
        matches!(self.now().state, State::Online | State::Suspect { .. })
    }

    /// Whether the cloud's state may flow into the store.
    pub fn online(&self) -> bool {
        self.now().state == State::Online
    }

    /// Waits until the state satisfies `wanted` and returns it.
    pub async fn until(&self, wanted: impl FnMut(&Snapshot) -> bool + Send) -> Snapshot {
        let mut receiver = self.0.clone();
        let found = receiver.wait_for(wanted).await.map(|snapshot| *snapshot);
        match found {
            Ok(snapshot) => snapshot,
            // The worker is gone only while the process ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the link counts as offline.
    pub async fn lost(&self) {
        self.until(|s| matches!(s.state, State::Offline { .. } | State::Recovering)).await;
    }

    /// Waits until the very first probe has decided, at most `bound`.
    pub async fn decided(&self, bound: Duration) {
        let decided =
            self.until(|s| !matches!(s.state, State::Offline { starting: true, .. } | State::Recovering));
        let _ = tokio::time::timeout(bound, decided).await;
    }
}

/// The worker before it runs: hand out [`Link::signal`] and [`Link::connectivity`], then [`Link::run`].
pub struct Link {
    events: mpsc::Receiver<Event>,
    signal: Signal,
    published: watch::Sender<Snapshot>,
}

impl Link {
    /// A worker in the initial state.
    pub fn new() -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let state = State::initial();
        let snapshot = Snapshot { state, since: clock::monotonic(), since_unix: clock::unix() };
        Link { events, signal: Signal(sender), published: watch::channel(snapshot).0 }
    }

    /// Where to report events.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Where to read the state.
    pub fn connectivity(&self) -> Connectivity {
        Connectivity(self.published.subscribe())
    }

    /// Works until the shutdown.
    pub async fn run(mut self, cloud: Arc<Cloud>, mut shutdown: Shutdown) {
        // A probe that has begun goes to its end: whoever interrupted it by reporting would keep it from ever
        // telling anything, and a busy node reports all the time.
        let mut probing: Option<Probing> = Some(probe(&cloud, Duration::ZERO, self.patient()));
        loop {
            let event = tokio::select! {
                _ = shutdown.wait() => return,
                event = self.events.recv() => event,
                event = ended(&mut probing) => {
                    probing = None;
                    Some(event)
                }
            };
            let Some(event) = event else { return };
            for action in self.advance(event) {
                match action {
                    Action::Probe(after) => probing = Some(probe(&cloud, after, self.patient())),
                    Action::Disconnect => cloud.disconnect(),
                    // The replay worker waits for the state itself.
                    Action::Recover => {}
                }
            }
        }
    }

    /// Nobody waits for the probe of a link that is lost already.
    fn patient(&self) -> bool {
        matches!(self.published.borrow().state, State::Offline { starting: false, .. })
    }

    fn advance(&mut self, event: Event) -> Vec<Action> {
        let now = clock::monotonic();
        let before = *self.published.borrow();
        let (state, actions) = machine::step(before.state, event, now);
        if state.name() != before.state.name() {
            tracing::info!(from = before.state.name(), to = state.name(), because = ?event, "connectivity changed");
            self.published.send_replace(Snapshot { state, since: now, since_unix: clock::unix() });
        } else if state != before.state {
            self.published.send_replace(Snapshot { state, ..before });
        }
        actions
    }
}

impl Default for Link {
    fn default() -> Self {
        Link::new()
    }
}

type Probing = BoxFuture<'static, Event>;

fn probe(cloud: &Arc<Cloud>, after: Duration, patient: bool) -> Probing {
    let cloud = Arc::clone(cloud);
    Box::pin(async move {
        tokio::time::sleep(after).await;
        match cloud.probe(patient).await {
            Ok(()) => Event::ProbeWorked,
            Err(failure) => Event::ProbeFailed(failure),
        }
    })
}

async fn ended(probing: &mut Option<Probing>) -> Event {
    match probing {
        Some(probing) => probing.await,
        None => std::future::pending().await,
    }
}
