//! The node's pods that the cloud changed since the node last heard of them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use yurt_api::representation::Encoding;
use yurt_api::watch::{Decoder, EventType, Frame};

use super::Replay;
use super::ask::{Halt, MAX_BODY, in_time, text};
use crate::cache::write::version_of;
use crate::clock;

/// How long one watch may last, in seconds.
const SECONDS: u32 = 10;
/// An apiserver sends at once what it has, so silence of two round trips is the end of it. Bookmarks would prove it, but a
/// quiet apiserver sends none (`process` in `k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go`). What is missed on a
/// link that stalls just then, the kubelet puts right with its next report.
const QUIET: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));
/// Watches, each from where the last one came to, before all pods are listed: a slow link takes more than one.
const WATCHES: usize = 30;

/// What a watch has come to.
enum Heard {
    /// All that changed.
    All,
    /// What changed up to this version, and there may be more.
    UpTo(u64),
    /// The cloud does not tell what changed since.
    Nothing,
}

impl Replay {
    /// The node's pods that changed since the version that is held, as the cloud has them now: on the way home nothing
    /// else has to be carried. All of them when the cloud does not know any more what changed since.
    pub(super) async fn changed_pods(&self) -> Result<Vec<Value>, Halt> {
        // Without a view there is nothing that the cloud's state could differ from.
        let Some(mut version) = self.cache.own_pods_version() else { return Ok(Vec::new()) };
        let mut changed = BTreeMap::new();
        for _ in 0..WATCHES {
            match self.watch_pods(version, &mut changed).await? {
                Heard::All => return Ok(changed.into_values().collect()),
                Heard::UpTo(reached) => version = reached,
                Heard::Nothing => break,
            }
        }
        self.all_pods().await
    }

    async fn all_pods(&self) -> Result<Vec<Value>, Halt> {
        let (code, mut list) = self.ask(Method::GET, &self.pods(), None).await?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(pods)) if code.is_success() => Ok(pods),
            _ => Ok(Vec::new()),
        }
    }

    fn pods(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.cache.node_name())
    }

    /// Takes over, by UID, what the cloud says of changes after `version`.
    async fn watch_pods(&self, version: u64, changed: &mut BTreeMap<String, Value>) -> Result<Heard, Halt> {
        let path = format!("{}&watch=true&timeoutSeconds={SECONDS}&resourceVersion={version}", self.pods());
        let asked = clock::monotonic();
        let answer = match self.send(Method::GET, &path, None).await {
            Ok(answer) if answer.status() == StatusCode::OK => answer,
            Ok(_) | Err(Halt::Busy(_)) => return Ok(Heard::Nothing),
            Err(halt) => return Err(halt),
        };
        let quiet = (asked.elapsed() * 2).clamp(QUIET.0, QUIET.1);
        let (mut body, mut reached, mut size) = (answer.into_body(), version, 0);
        let mut decoder = Decoder::new(Encoding::Json, MAX_BODY);
        loop {
            let next = match decoder.is_mid_frame() {
                true => in_time(body.frame()).await?,
                false => match tokio::time::timeout(quiet, body.frame()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(Heard::All),
                },
            };
            let Some(frame) = next else { return Ok(Heard::UpTo(reached)) };
            let Ok(chunk) = frame.map_err(|e| Halt::Link(e.to_string()))?.into_data() else { continue };
            size += chunk.len();
            if size > MAX_BODY {
                return Err(Halt::Busy(format!("changes of pods are larger than {MAX_BODY} bytes")));
            }
            decoder.push(chunk);
            match take_all(&mut decoder, changed) {
                Some(version) => reached = reached.max(version),
                None => return Ok(Heard::Nothing),
            }
        }
    }
}

/// Puts every whole change in its place; the newest version among them, `None` when the cloud said that it cannot go on.
fn take_all(decoder: &mut Decoder, changed: &mut BTreeMap<String, Value>) -> Option<u64> {
    let mut newest = 0;
    while let Some(event) = decoder.next().ok()? {
        if event.kind == EventType::Error {
            return None;
        }
        newest = newest.max(take(&event, changed));
    }
    Some(newest)
}

/// Puts a change in its place; its version.
fn take(event: &Frame, changed: &mut BTreeMap<String, Value>) -> u64 {
    let Ok(pod) = serde_json::from_slice::<Value>(&event.object) else { return 0 };
    let (uid, version) = (text(&pod, "/metadata/uid").to_owned(), version_of(&pod));
    match event.kind {
        EventType::Deleted => changed.remove(&uid),
        _ => changed.insert(uid, pod),
    };
    version
}
