//! Pods: what each one needs before it runs, and the statuses that the kubelet reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Machine, registration::until_accepted};
use crate::apiserver::{references, timestamp};

/// A pod as the kubelet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// uid.
    pub uid: String,
    /// Time from the boot until its containers ran.
    pub running: Option<Duration>,
    /// Its address in this boot.
    pub address: String,
    /// The last status was accepted by the server.
    pub reported: bool,
    /// The token it was given.
    pub token: String,
}

/// All pods by (namespace, name).
#[derive(Default)]
pub struct Pods(BTreeMap<(String, String), Pod>);

struct Pod {
    view: PodView,
    off: CancellationToken,
    terminating: bool,
}

impl Pods {
    /// What is shown.
    pub fn views(&self) -> Vec<PodView> {
        self.0.values().map(|p| p.view.clone()).collect()
    }
}

/// Starts to follow the node's pods once the node itself is known, as a kubelet does.
pub fn begin(machine: &Arc<Machine>) {
    let task = follow(machine.clone());
    machine.spawn(task);
}

async fn follow(machine: Arc<Machine>) {
    let node = &machine.options.node;
    machine.reflect("/api/v1/nodes", &format!("fieldSelector=metadata.name%3D{node}")).listed().await;
    let reflector = machine.reflect("/api/v1/pods", &format!("fieldSelector=spec.nodeName%3D{node}"));
    let mut changes = reflector.changes();
    reflector.listed().await;
    loop {
        sync(&machine, reflector.objects());
        machine.note_change();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Starts what is new, ends what is gone.
fn sync(machine: &Arc<Machine>, wanted: BTreeMap<(String, String), Value>) {
    let mut pods = machine.pods.lock().unwrap();
    pods.0.retain(|key, pod| {
        let same = wanted.get(key).is_some_and(|w| w["metadata"]["uid"] == pod.view.uid.as_str());
        if !same {
            pod.off.cancel();
        }
        same
    });
    for (key, object) in wanted {
        let terminating = object["metadata"]["deletionTimestamp"].is_string();
        let new = !pods.0.contains_key(&key);
        let pod = pods.0.entry(key).or_insert_with(|| Pod::new(machine, &object));
        if terminating && !std::mem::replace(&mut pod.terminating, true) {
            pod.off.cancel();
            machine.spawn(terminate(machine.clone(), pod.view.clone()));
        } else if new {
            let (machine_, off, view) = (machine.clone(), pod.off.clone(), pod.view.clone());
            machine.spawn(async move {
                off.run_until_cancelled(run(machine_, view, object)).await;
            });
        }
    }
}

impl Pod {
    fn new(machine: &Machine, object: &Value) -> Self {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let number = machine.next_address.fetch_add(1, Ordering::SeqCst);
        let view = PodView {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            running: None,
            address: format!("10.{}.{}.{}", 64 + machine.boot % 128, number >> 8 & 0xff, number & 0xff),
            reported: false,
            token: String::new(),
        };
        Self { view, off: CancellationToken::new(), terminating: false }
    }
}

async fn run(machine: Arc<Machine>, view: PodView, object: Value) {
    let token = gather(&machine, &view, &object).await;
    let running = machine.booted.elapsed();
    amend(&machine, &view, |v| {
        v.token = token;
        v.running = Some(running);
    });
    report(&machine, &view, &status(&view, &object, false)).await;
    report(&machine, &view, &status(&view, &object, true)).await;
    amend(&machine, &view, |v| v.reported = true);
}

/// Waits for everything that the pod mounts; returns its token.
async fn gather(machine: &Arc<Machine>, view: &PodView, object: &Value) -> String {
    for (plural, fields) in [("secrets", SECRETS), ("configmaps", CONFIG_MAPS)] {
        let path = format!("/api/v1/namespaces/{}/{plural}", view.namespace);
        let names: BTreeSet<_> = references::names(object, fields).collect();
        let started: Vec<_> = names
            .iter()
            .map(|name| (machine.reflect(&path, &format!("fieldSelector=metadata.name%3D{name}")), *name))
            .collect();
        for (reflector, name) in started {
            let mut changes = reflector.changes();
            while !reflector.objects().contains_key(&(view.namespace.clone(), name.to_owned())) {
                changes.changed().await.ok();
            }
        }
    }
    token(machine, view, object).await
}

async fn token(machine: &Machine, view: &PodView, object: &Value) -> String {
    let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", view.namespace);
    let request = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "spec": {
            "expirationSeconds": 3607,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": view.name, "uid": view.uid},
        },
    });
    let reply = until_accepted(machine, || machine.wire.write("create", &path, &request)).await;
    reply.object["status"]["token"].as_str().unwrap_or_default().to_owned()
}

fn status(view: &PodView, object: &Value, ready: bool) -> Value {
    let now = timestamp(0);
    let condition = |name: &str, is: bool| json!({"type": name, "status": if is { "True" } else { "False" }, "lastTransitionTime": now});
    let containers = object["spec"]["containers"].as_array().into_iter().flatten();
    let containers = containers.map(|c| {
        json!({
            "name": c["name"], "image": c["image"], "imageID": c["image"], "ready": ready, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    });
    // The list is merged by address: what the pod had in an earlier boot is named to go, as kubelets do.
    let former = object["status"]["podIPs"].as_array().into_iter().flatten().map(|a| &a["ip"]);
    let former =
        former.filter(|ip| **ip != view.address.as_str()).map(|ip| json!({"$patch": "delete", "ip": ip}));
    let addresses: Vec<_> = std::iter::once(json!({"ip": view.address})).chain(former).collect();
    json!({"metadata": {"uid": view.uid}, "status": {
        "phase": "Running",
        "podIP": view.address,
        "podIPs": addresses,
        "conditions": [
            condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready),
            condition("PodScheduled", true),
        ],
        "containerStatuses": containers.collect::<Vec<_>>(),
    }})
}

/// GET, then PATCH of the status; a pod that is gone needs none.
async fn report(machine: &Machine, view: &PodView, status: &Value) {
    let path = format!("/api/v1/namespaces/{}/pods/{}", view.namespace, view.name);
    let mut backoff = machine.backoff();
    loop {
        let held = machine.wire.get("get", &path).await;
        if held
            .is_ok_and(|h| h.code == 404 || h.code == 200 && h.object["metadata"]["uid"] != view.uid.as_str())
        {
            return;
        }
        let reply = machine.wire.patch(&format!("{path}/status"), status).await;
        if reply.is_ok_and(|r| r.code < 300 || r.code == 404 || r.code == 409) {
            return;
        }
        tokio::time::sleep(backoff.next().unwrap_or_default()).await;
    }
}

/// The containers have ended: the status says so, then the object is removed for good.
async fn terminate(machine: Arc<Machine>, view: PodView) {
    let ended = json!({"metadata": {"uid": view.uid}, "status": {"phase": "Succeeded"}});
    report(&machine, &view, &ended).await;
    let path = format!("/api/v1/namespaces/{}/pods/{}", view.namespace, view.name);
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": view.uid},
    });
    until_accepted(&machine, || async {
        let mut reply = machine.wire.delete("delete", &path, &options).await?;
        if matches!(reply.code, 404 | 409) {
            reply.code = 200;
        }
        Ok(reply)
    })
    .await;
}

fn amend(machine: &Machine, view: &PodView, change: impl FnOnce(&mut PodView)) {
    let mut pods = machine.pods.lock().unwrap();
    let key = (view.namespace.clone(), view.name.clone());
    if let Some(pod) = pods.0.get_mut(&key).filter(|p| p.view.uid == view.uid) {
        change(&mut pod.view);
    }
    drop(pods);
    machine.note_change();
}

const SECRETS: references::Fields =
    &[("secret", "secretName"), ("secret", "name"), ("secretKeyRef", "name"), ("secretRef", "name")];
const CONFIG_MAPS: references::Fields =
    &[("configMap", "name"), ("configMapKeyRef", "name"), ("configMapRef", "name")];
