//! Time travel: a cluster that was restored from a backup, whose versions went back, and servers that lag.
//!
//! A watch from a version that the cloud does not have any more is not refused: it hears nothing until the versions
//! have come so far again (`k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go`), and what it then holds is of two
//! times. So a watch that begins with silence is a reason to ask which version it is now, once for all reflectors.
//! One server's word is enough when there is one; among several the newest is right, and the others lag. Who is left
//! alone, the others not answering, is believed after two minutes.

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use yurt_api::collection::CollectionKey;
use yurt_api::list;
use yurt_api::representation::Representation;
use yurt_api::resource::Resource;
use yurt_api::status::Status;

use super::request;
use crate::cache::{Cache, Collection};
use crate::clock;
use crate::cloud::{Identity, Received};

/// A new watch that is silent for so long is looked into.
pub(super) const QUIET: Duration = Duration::from_secs(5);
/// How long the answer may take.
const BOUND: Duration = Duration::from_secs(10);
/// The largest answer with one object's metadata, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Servers that lag have caught up by then, also when the others cannot be asked.
const CATCH_UP: Duration = Duration::from_secs(120);

/// What is known of the cloud's time.
pub struct History {
    /// The newest version that was asked for, and when.
    newest: Mutex<Option<(Instant, u64)>>,
    /// How often the cloud was seen to go back.
    travels: watch::Sender<u64>,
    /// Since when the servers that answer say so, and others do not answer.
    doubt: StdMutex<Option<Instant>>,
}

impl Default for History {
    fn default() -> Self {
        History { newest: Mutex::default(), travels: watch::Sender::new(0), doubt: StdMutex::default() }
    }
}

/// Where the cloud is, seen from a version that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// At it or beyond it, or nobody says.
    Current,
    /// Before it: it was restored from a backup.
    Back,
    /// Beyond it, but the server that is asked does not know.
    Lagging,
}

impl History {
    /// How often the cloud was seen to go back.
    pub fn travels(&self) -> u64 {
        *self.travels.borrow()
    }

    /// The cloud went back once more.
    pub(in crate::cache) fn travelled(&self) {
        self.travels.send_modify(|n| *n += 1);
    }

    /// Takes note of what was found; true when those who answer have not caught up for so long that they are right.
    fn weigh(&self, past: Past) -> bool {
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        match past {
            Past::Back => doubt.get_or_insert_with(clock::monotonic).elapsed() >= CATCH_UP,
            Past::Current | Past::Lagging => {
                *doubt = None;
                false
            }
        }
    }

    /// Waits until it went back more often than `seen`.
    pub(super) async fn beyond(&self, seen: u64) {
        if self.travels.subscribe().wait_for(|n| *n > seen).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Whether the cloud says that a version is one to come (`storage.NewTooLargeResourceVersionError`).
pub(super) fn is_too_large(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes.into_iter().any(|c| c.reason == "ResourceVersionTooLarge")
}

impl Cache {
    /// Where the cloud is, seen from what `collection` holds; asked not before `since`.
    pub(super) async fn past(&self, collection: &Collection, identity: &Identity, since: Instant) -> Past {
        let held = collection.version();
        match self.cluster_version(since).await {
            Some(now) if now >= held => Past::Current,
            _ => self.compare(collection.key(), held, identity).await,
        }
    }

    /// Whether the cloud, as all of its servers have it, is before version `held` of a collection of which one has
    /// just said so.
    pub(in crate::cache) async fn is_set_back(
        &self,
        key: &CollectionKey,
        held: u64,
        identity: &Identity,
    ) -> bool {
        self.cloud.has_one_server() || self.compare(key, held, identity).await == Past::Back
    }

    /// The version of the whole cluster, as far as the node is told: one small question for all reflectors. `None`
    /// = no answer.
    async fn cluster_version(&self, since: Instant) -> Option<u64> {
        let mut newest = self.history.newest.lock().await;
        if let Some((_, version)) = newest.filter(|(asked, _)| *asked >= since) {
            return Some(version);
        }
        let asked = clock::monotonic();
        let key = CollectionKey {
            resource: Resource::new("", "v1", "nodes"),
            namespace: None,
            labels: String::new(),
            fields: format!("metadata.name={}", self.node_name()),
            representation: Representation::JSON,
        };
        let identity = Identity::Node;
        let lane = crate::cloud::Lane::Reflect;
        let sent = self.cloud.send(&identity, lane, question(&key, &identity));
        let answer = tokio::time::timeout(BOUND, sent).await.ok()?.ok()?;
        let version = self.version_of(answer).await?;
        *newest = Some((asked, version));
        Some(version)
    }

    /// Asks every server for the version of a collection.
    async fn compare(&self, key: &CollectionKey, held: u64, identity: &Identity) -> Past {
        let mut versions = Vec::new();
        for (server, answer) in self.cloud.ask_each(identity, &question(key, identity), BOUND).await {
            versions.extend(self.version_of(answer).await.map(|version| (server, version)));
        }
        let behind = versions.iter().filter(|(_, version)| *version < held);
        let behind: Vec<_> = behind.map(|(server, _)| *server).collect();
        let past = match behind.len() {
            0 => Past::Current,
            all if all == versions.len() => Past::Back,
            _ => Past::Lagging,
        };
        let believed = self.history.weigh(past);
        match past {
            Past::Back if believed || versions.len() == self.cloud.servers().len() => Past::Back,
            // Who does not answer may be the one that knows.
            Past::Back | Past::Lagging => {
                behind.into_iter().for_each(|server| self.cloud.lags(server));
                Past::Lagging
            }
            Past::Current => Past::Current,
        }
    }

    async fn version_of(&self, answer: http::Response<Received>) -> Option<u64> {
        if answer.status() != http::StatusCode::OK {
            return None;
        }
        let said = answer.headers().get(http::header::CONTENT_TYPE)?.to_str().ok()?;
        let encoding = Representation::of_content_type(said)?.encoding;
        let body = self.room.of_reflector().read(answer.into_body(), MAX_ANSWER).await.ok()?;
        let version = list::split(encoding, &body).ok()?.header.resource_version;
        (version > 0).then_some(version)
    }
}

/// A list of now with one object at the most, and of that the metadata only.
fn question(key: &CollectionKey, identity: &Identity) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let representation = Representation { metadata_only: true, ..Representation::JSON };
    request(&CollectionKey { representation, ..key.clone() }, true, "limit=1", identity)
}
