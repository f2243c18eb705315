//! List and watch as client-go's reflector does it.
//! Source: k8s.io/client-go/tools/cache/reflector.go.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::sync::watch;

use super::Machine;
use crate::client::{Event, WatchStream};

type Key = (String, String);

/// A watch that lasted so long is started again at once.
const LASTING: Duration = Duration::from_secs(1);

/// All reflectors of a kubelet by path and selector.
#[derive(Default)]
pub struct Reflectors(Mutex<BTreeMap<(String, String), Arc<Reflector>>>);

impl Reflectors {
    /// The reflector, and whether it was made now.
    pub fn get(&self, path: &str, selector: &str) -> (Arc<Reflector>, bool) {
        let mut all = self.0.lock().unwrap();
        let key = (path.to_owned(), selector.to_owned());
        if let Some(held) = all.get(&key) {
            return (held.clone(), false);
        }
        let new = Arc::new(Reflector::new(path, selector));
        all.insert(key, new.clone());
        (new, true)
    }

    /// An object of any reflector of a plural.
    pub fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let all = self.0.lock().unwrap();
        let mut fitting = all.values().filter(|r| r.path.rsplit('/').next() == Some(plural));
        fitting.find_map(|r| r.objects().remove(&(namespace.to_owned(), name.to_owned())))
    }
}

/// One collection as the kubelet holds it.
pub struct Reflector {
    path: String,
    selector: String,
    state: watch::Sender<State>,
}

#[derive(Clone, Default)]
struct State {
    listed: bool,
    version: String,
    objects: BTreeMap<Key, Arc<Value>>,
}

/// Why a watch is over.
enum End {
    /// Go on from the last version.
    Resume,
    /// List again.
    Relist,
}

impl Reflector {
    fn new(path: &str, selector: &str) -> Self {
        Self { path: path.into(), selector: selector.into(), state: watch::Sender::default() }
    }

    /// A copy of all objects.
    pub fn objects(&self) -> BTreeMap<Key, Value> {
        self.state.borrow().objects.iter().map(|(k, v)| (k.clone(), v.as_ref().clone())).collect()
    }

    /// Resolves when the first list has arrived.
    pub async fn listed(&self) {
        self.state.subscribe().wait_for(|s| s.listed).await.ok();
    }

    /// Resolves at the next change.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.state.subscribe()
    }

    /// Lists and watches for ever.
    pub async fn run(&self, machine: &Machine) {
        let mut version = "0".to_owned();
        let mut backoff = machine.backoff();
        loop {
            match self.list(machine, &version).await {
                Ok(()) => {
                    backoff = machine.backoff();
                    self.watch(machine).await;
                    tokio::time::sleep(backoff.next().unwrap_or_default()).await;
                    version = self.state.borrow().version.clone();
                }
                Err(gone) => {
                    if gone {
                        version.clear();
                    }
                    tokio::time::sleep(backoff.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// One list; the error says whether the asked version was gone.
    async fn list(&self, machine: &Machine, version: &str) -> Result<(), bool> {
        if self.state.borrow().listed {
            machine.wire.record().happened("relist");
        }
        let limit = if version == "0" { "&limit=500" } else { "" };
        let path =
            format!("{}?{}{limit}&resourceVersion={version}", self.path, self.selector).replace("?&", "?");
        let reply = machine.wire.get("list", &path).await.map_err(|_| false)?;
        if reply.code != 200 || !reply.object["items"].is_array() && !reply.object["items"].is_null() {
            return Err(reply.code == 410);
        }
        let items = reply.object["items"].as_array().cloned().unwrap_or_default();
        self.state.send_modify(|state| {
            state.listed = true;
            state.version = text(&reply.object["metadata"]["resourceVersion"]);
            state.objects = items.into_iter().map(|o| (key(&o), Arc::new(o))).collect();
        });
        Ok(())
    }

    /// Watches until a list is needed. As in client-go only a refused connection and the server's own 429 and
    /// 500 are tried again as a watch; any other failure leads to a list.
    async fn watch(&self, machine: &Machine) {
        let mut backoff = machine.backoff();
        loop {
            let started = Instant::now();
            match machine.wire.watch(&self.watch_path()).await {
                Ok(mut stream) => match self.follow(machine, &mut stream).await {
                    Ok(End::Relist) => return machine.wire.record().happened("gone"),
                    Ok(End::Resume) | Err(_) => {}
                },
                Err(e) if !is_retried(&format!("{e:#}")) => return,
                Err(_) => {}
            }
            machine.wire.record().happened("watch-restart");
            if started.elapsed() > LASTING {
                backoff = machine.backoff();
            } else {
                tokio::time::sleep(backoff.next().unwrap_or_default()).await;
            }
        }
    }

    fn watch_path(&self) -> String {
        let version = self.state.borrow().version.clone();
        let query = format!(
            "allowWatchBookmarks=true&{}&resourceVersion={version}&timeoutSeconds=420&watch=true",
            self.selector
        );
        format!("{}?{}", self.path, query.replace("&&", "&"))
    }

    async fn follow(&self, machine: &Machine, stream: &mut WatchStream) -> Result<End> {
        while let Some(event) = stream.next().await? {
            if event.kind == "ERROR" {
                return Ok(if event.object["code"] == 410 { End::Relist } else { End::Resume });
            }
            self.apply(&event)?;
            machine.note_change();
        }
        Ok(End::Resume)
    }

    fn apply(&self, event: &Event) -> Result<()> {
        let key = key(&event.object);
        if !matches!(event.kind.as_str(), "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK") {
            bail!("an event of type {:?}", event.kind);
        }
        self.state.send_modify(|state| {
            state.version = text(&event.object["metadata"]["resourceVersion"]);
            match event.kind.as_str() {
                "ADDED" | "MODIFIED" => drop(state.objects.insert(key, Arc::new(event.object.clone()))),
                "DELETED" => drop(state.objects.remove(&key)),
                _ => {}
            }
        });
        Ok(())
    }
}

fn is_retried(error: &str) -> bool {
    ["Connection refused", ": 429", ": 500"].iter().any(|e| error.contains(e))
}

fn key(object: &Value) -> Key {
    (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
