//! Simulated nodes. Two threads do for all of them what kubelets do: one renews leases and node statuses,
//! one runs pods, that is, it says that they run and confirms their deletion. A silent node does neither,
//! and its pods go on as they are.

use super::objects::{GROUP, NodeSpec};
use super::record::Record;
use super::status;
use crate::client::{Client, Request};
use crate::session::{MERGE, STRATEGIC, Session};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two renewals of a lease.
const RENEW: Duration = Duration::from_secs(1);
/// Between two looks at the pods, and so how exact their times are.
const LOOK: Duration = Duration::from_millis(250);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// The nodes and the threads that move them; they end when dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    client: Client,
    /// Whether each node answers. A pass over the nodes holds it for reading, so that a node that was made
    /// silent has said its last word.
    nodes: RwLock<BTreeMap<String, bool>>,
    record: Mutex<Record>,
    trouble: Mutex<Option<String>>,
    stopped: AtomicBool,
}

impl Fleet {
    /// Starts the threads; there are no nodes yet.
    pub fn start(client: &Client) -> Fleet {
        let shared = Arc::new(Shared {
            client: client.clone(),
            nodes: RwLock::default(),
            record: Mutex::default(),
            trouble: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (renewing, running) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || repeat(&renewing, RENEW, renew)),
            std::thread::spawn(move || repeat(&running, LOOK, run_pods)),
        ];
        Fleet { shared, threads }
    }

    /// Registers nodes; they answer from now on.
    pub fn add(&self, nodes: &[NodeSpec]) -> Result<()> {
        let mut session = Session::new(&self.shared.client);
        for node in nodes {
            session.create("/api/v1/nodes", &node.object())?;
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node.name, "namespace": "kube-node-lease"},
                "spec": lease_spec(&node.name)?,
            });
            session.create(LEASES, &lease)?;
        }
        self.set(nodes.iter().map(|node| node.name.clone()), true);
        Ok(())
    }

    /// Makes nodes silent. When this returns, their last word is said.
    pub fn silence(&self, nodes: impl IntoIterator<Item = String>) {
        self.set(nodes, false);
    }

    /// Makes silent nodes answer again.
    pub fn answer(&self, nodes: impl IntoIterator<Item = String>) {
        self.set(nodes, true);
    }

    /// Forgets the nodes and everything about their pods.
    pub fn forget(&self) {
        self.shared.nodes.write().unwrap_or_else(PoisonError::into_inner).clear();
        *self.shared.record.lock().unwrap_or_else(PoisonError::into_inner) = Record::default();
    }

    /// What was seen of the pods so far.
    pub fn record(&self) -> Record {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the threads complained about last.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, nodes: impl IntoIterator<Item = String>, answers: bool) {
        let mut all = self.shared.nodes.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(nodes.into_iter().map(|name| (name, answers)));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

type Pass = fn(&Shared, &mut Session) -> Result<()>;

fn repeat(shared: &Shared, every: Duration, pass: Pass) {
    let mut session = Session::new(&shared.client);
    while !shared.stopped.load(Ordering::Relaxed) {
        let start = Instant::now();
        if let Err(error) = pass(shared, &mut session) {
            *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
        }
        std::thread::sleep(every.saturating_sub(start.elapsed()));
    }
}

impl Shared {
    fn nodes(&self) -> RwLockReadGuard<'_, BTreeMap<String, bool>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answering(nodes: &BTreeMap<String, bool>) -> BTreeSet<&str> {
    nodes.iter().filter(|(_, answers)| **answers).map(|(name, _)| name.as_str()).collect()
}

/// Renews the lease of every node that answers, and writes the status of those that are not ready: a
/// kubelet does so when it comes and when it comes back.
fn renew(shared: &Shared, session: &mut Session) -> Result<()> {
    let nodes = shared.nodes();
    let answering = answering(&nodes);
    for name in &answering {
        let patch = json!({"spec": lease_spec(name)?});
        session.call("PATCH", &format!("{LEASES}/{name}"), MERGE, &patch)?;
    }
    let list = session.object(&format!("/api/v1/nodes?labelSelector={}", escaped(GROUP)))?;
    for node in list["items"].as_array().into_iter().flatten() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        if answering.contains(name) && status::condition(node, "Ready") != Some("True") {
            let path = format!("/api/v1/nodes/{name}/status");
            session.call("PATCH", &path, STRATEGIC, &status::of_node(&status::now()?))?;
        }
    }
    Ok(())
}

/// Notes what all pods look like and does for those of answering nodes what a kubelet would.
fn run_pods(shared: &Shared, session: &mut Session) -> Result<()> {
    let nodes = shared.nodes();
    let answering = answering(&nodes);
    let list = session.object(&format!("/api/v1/pods?labelSelector={}", escaped(GROUP)))?;
    let items = list["items"].as_array().context("a list without items")?;
    shared.record.lock().unwrap_or_else(PoisonError::into_inner).note(items, Instant::now());
    for pod in items {
        if answering.contains(pod["spec"]["nodeName"].as_str().unwrap_or_default()) {
            run_pod(session, pod)?;
        }
    }
    Ok(())
}

fn run_pod(session: &mut Session, pod: &Value) -> Result<()> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}", text("/metadata/namespace"), text("/metadata/name"));
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": text("/metadata/uid")}});
        let request = Request::new("DELETE", path).body("application/json", options.to_string());
        return may_be_gone(session.send(&request)?.status);
    }
    let wanted = status::of_pod(pod, &status::now()?);
    if status::is_told(pod, &wanted) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": text("/metadata/uid")}, "status": wanted});
    let request = Request::new("PATCH", format!("{path}/status")).body(STRATEGIC, patch.to_string());
    may_be_gone(session.send(&request)?.status)
}

/// A pod that went meanwhile, or was replaced by one of its name, is no trouble.
fn may_be_gone(status: u16) -> Result<()> {
    match status {
        200..300 | 404 | 409 | 422 => Ok(()),
        _ => bail!("a pod's write was answered {status}"),
    }
}

fn lease_spec(node: &str) -> Result<Value> {
    Ok(json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": status::now_micro()?}))
}

/// A label's key as part of a query.
pub fn escaped(key: &str) -> String {
    key.replace('/', "%2F")
}
