//! Scenario 2: a hub that starts with an empty memory, a full disk store and no link gets every request
//! that a kubelet sends at a boot. Each has its defined answer at once.

use crate::client::{Answer, Client, PROTOBUF, Request};
use crate::container::NODE_NAME;
use crate::link::{self, Cut};
use crate::protobuf::{Fields, Message};
use crate::wait::until;
use crate::workload::NAMESPACE;
use crate::world::World;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::time::{Duration, Instant};

/// Figures of the design.
const FIRST_ANSWER: Duration = Duration::from_millis(200);
const EACH_ANSWER: Duration = Duration::from_millis(50);
/// Beyond this an answer is not late by a busy machine but waited for something.
const BROKEN: Duration = Duration::from_millis(500);
/// A new kubelet has made its lease by then.
const LEASE: Duration = Duration::from_secs(20);
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The pod whose requests are sent.
struct Subject {
    name: String,
    uid: String,
}

/// Sends requests, compares statuses and remembers the slowest answer.
struct Replay {
    hub: Client,
    slowest: Duration,
    wrong: Vec<String>,
}

pub fn run(world: &mut World) -> Result<()> {
    let pods = world.be_online()?;
    let (name, pod) = pods.iter().find(|(name, _)| name.starts_with("web-")).context("no pod")?;
    let subject = Subject { name: name.clone(), uid: pod.uid.clone() };
    lease_is_made(world)?;
    world.dark()?;
    link::cut(Cut::BlackHole)?;
    let first = first_answer(world)?;
    world.report.seconds("offline start to first 200", first, Some(FIRST_ANSWER));
    let mut replay = Replay { hub: world.hub()?, slowest: Duration::ZERO, wrong: Vec::new() };
    reads(&mut replay, &subject, pods.len())?;
    node_writes(&mut replay)?;
    pod_writes(&mut replay, &subject)?;
    unknown(&mut replay)?;
    world.report.seconds("offline, slowest boot request", replay.slowest, Some(EACH_ANSWER));
    if !replay.wrong.is_empty() {
        bail!("{}", replay.wrong.join("; "));
    }
    if replay.slowest > BROKEN {
        bail!("an answer took {:.2} s", replay.slowest.as_secs_f64());
    }
    Ok(())
}

/// A kubelet makes its lease 10 s after its first start: before that nobody could hold it.
fn lease_is_made(world: &World) -> Result<()> {
    until("the node's lease", LEASE, || {
        world
            .cluster
            .admin
            .object(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE_NAME}"))
    })
    .map(drop)
}

/// Starts the hub and asks until it answers; from the start of its process.
fn first_answer(world: &mut World) -> Result<Duration> {
    let start = Instant::now();
    world.node.start_hub()?;
    let hub = world.hub()?;
    let request = Request::new("GET", format!("/api/v1/nodes/{NODE_NAME}")).protobuf();
    loop {
        let answer = hub.send(&request).map(|answer| answer.status);
        if matches!(answer, Ok(200)) {
            return Ok(start.elapsed());
        }
        world.node.check()?;
        if start.elapsed() > Duration::from_secs(10) {
            bail!("10 s after its start the hub answers {answer:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lists of an informer's start and the watches that follow, then single reads.
fn reads(replay: &mut Replay, subject: &Subject, pods: usize) -> Result<()> {
    let namespaced = format!("/api/v1/namespaces/{NAMESPACE}");
    let lists = [
        ("/api/v1/services?fieldSelector=spec.clusterIP%21%3DNone".to_string(), 2),
        (format!("/api/v1/nodes?fieldSelector=metadata.name%3D{NODE_NAME}"), 1),
        ("/apis/storage.k8s.io/v1/csidrivers?".to_string(), 0),
        ("/apis/node.k8s.io/v1/runtimeclasses?".to_string(), 0),
        (format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}"), pods),
        (format!("{namespaced}/secrets?fieldSelector=metadata.name%3Dweb"), 1),
        (format!("{namespaced}/configmaps?fieldSelector=metadata.name%3Dweb"), 1),
        (format!("{namespaced}/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt"), 1),
    ];
    for (path, items) in lists {
        replay.informer(&path, items)?;
    }
    let csi_node = format!("/apis/storage.k8s.io/v1/csinodes/{NODE_NAME}");
    replay.expect(&Request::new("GET", format!("{csi_node}?resourceVersion=0")).protobuf(), 200)?;
    replay.expect(&Request::new("GET", csi_node).protobuf(), 200)?;
    for _ in 0..10 {
        replay.expect(&Request::new("GET", format!("/api/v1/nodes/{NODE_NAME}")).protobuf(), 200)?;
    }
    let pod = format!("{namespaced}/pods/{}", subject.name);
    replay.expect(&Request::new("GET", pod).protobuf(), 200).map(drop)
}

/// Registration, which the kubelet takes for "already there", status, and the heartbeat.
fn node_writes(replay: &mut Replay) -> Result<()> {
    let node = Message::new().message(1, &Message::new().text(1, NODE_NAME)).object("v1", "Node");
    replay.expect(&protobuf("POST", "/api/v1/nodes", node), 409)?;
    let slices = format!("/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3D{NODE_NAME}");
    let options = Message::new().object("resource.k8s.io/v1", "DeleteOptions");
    replay.expect(&protobuf("DELETE", &slices, options), 200)?;
    let status = format!("/api/v1/nodes/{NODE_NAME}/status?timeout=10s");
    replay.patched(&status, "offline-node")?;
    let lease =
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE_NAME}?timeout=10s");
    let held = replay.expect(&Request::new("GET", &lease).protobuf(), 200)?;
    let version = Fields::of_body(&held.body).and_then(|held| held.child(1)).map(|metadata| metadata.text(6));
    let metadata = Message::new().text(1, NODE_NAME).text(3, "kube-node-lease");
    let metadata = metadata.text(6, &version.unwrap_or_default());
    let spec = Message::new().text(1, NODE_NAME).integer(2, 40);
    let body = Message::new().message(1, &metadata).message(2, &spec);
    replay.expect(&protobuf("PUT", &lease, body.object("coordination.k8s.io/v1", "Lease")), 200).map(drop)
}

/// The pod's status, its token, and events about it.
fn pod_writes(replay: &mut Replay, subject: &Subject) -> Result<()> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    replay.patched(&format!("{pods}/{}/status", subject.name), "offline-pod")?;
    let token = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token");
    let answer = replay.expect(&protobuf("POST", &token, token_request(subject)), 201)?;
    let status = Fields::of_body(&answer.body)?.child(3)?;
    if status.text(1).split('.').count() != 3 {
        replay.wrong.push("the TokenRequest's answer holds no token".to_string());
    }
    let events = format!("/api/v1/namespaces/{NAMESPACE}/events");
    replay.expect(&protobuf("POST", &events, event(subject)), 201)?;
    let patch = Request::new("PATCH", format!("{events}/{}.e2e", subject.name));
    let patch = patch.protobuf().body(STRATEGIC, json!({"count": 2}).to_string());
    replay.expect(&patch, 200).map(drop)
}

/// What nobody ever read is not known to be absent.
fn unknown(replay: &mut Replay) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/never-read");
    let answer = replay.expect(&Request::new("GET", path), 503)?;
    if answer.header("retry-after").is_none() || !answer.text().contains("ServiceUnavailable") {
        replay.wrong.push(format!("503 without Retry-After or reason: {}", answer.text()));
    }
    Ok(())
}

impl Replay {
    fn expect(&mut self, request: &Request, status: u16) -> Result<Answer> {
        let answer = self.hub.send(request).with_context(|| request.shown())?;
        self.slowest = self.slowest.max(answer.took);
        if answer.took > EACH_ANSWER {
            println!("       {} took {:.3} s", request.shown(), answer.took.as_secs_f64());
        }
        if answer.status != status {
            let shown = request.shown();
            self.wrong.push(format!("{shown}: {} and not {status}: {}", answer.status, answer.text()));
        }
        Ok(answer)
    }

    /// A list at version 0 with that many items, then the watch from its version.
    fn informer(&mut self, path: &str, items: usize) -> Result<()> {
        let separator = if path.ends_with('?') { "" } else { "&" };
        let list = Request::new("GET", format!("{path}{separator}limit=500&resourceVersion=0")).protobuf();
        let answer = self.expect(&list, 200)?;
        if answer.status != 200 {
            return Ok(());
        }
        let body = Fields::of_body(&answer.body).with_context(|| list.shown())?;
        let held = body.children(2).count();
        if held != items {
            self.wrong.push(format!("{}: {held} items and not {items}", list.shown()));
        }
        let version = body.child(1)?.text(2);
        let watch = Request::new(
            "GET",
            format!(
                "{path}{separator}allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=400&watch=true"
            ),
        );
        let (status, took) = self.hub.head(&watch.clone().protobuf())?;
        self.slowest = self.slowest.max(took);
        if status != 200 {
            self.wrong.push(format!("{}: {status}", watch.shown()));
        }
        Ok(())
    }

    /// A status patch that adds a condition, which a read then shows.
    fn patched(&mut self, path: &str, condition: &str) -> Result<()> {
        let body = json!({"status": {"conditions": [{"type": condition, "status": "True"}]}});
        let patch = Request::new("PATCH", path).protobuf().body(STRATEGIC, body.to_string());
        self.expect(&patch, 200)?;
        let object = path.split("/status").next().unwrap_or(path);
        let read = self.expect(&Request::new("GET", object).protobuf(), 200)?;
        let found = read.body.windows(condition.len()).any(|window| window == condition.as_bytes());
        if !found {
            self.wrong.push(format!("{path}: the patched condition is not read back"));
        }
        Ok(())
    }
}

fn protobuf(method: &'static str, path: &str, body: Vec<u8>) -> Request {
    Request::new(method, path).protobuf().body(PROTOBUF, body)
}

/// As the kubelet asks for the token of a pod's projected volume, in the audience that the pod names.
fn token_request(subject: &Subject) -> Vec<u8> {
    let pod = Message::new().text(1, "Pod").text(2, "v1").text(3, &subject.name).text(4, &subject.uid);
    let spec = Message::new().text(1, "vault").message(3, &pod).integer(4, 3600);
    Message::new().message(2, &spec).object("authentication.k8s.io/v1", "TokenRequest")
}

fn event(subject: &Subject) -> Vec<u8> {
    let metadata = Message::new().text(1, &format!("{}.e2e", subject.name)).text(3, NAMESPACE);
    let object =
        Message::new().text(1, "Pod").text(2, NAMESPACE).text(3, &subject.name).text(4, &subject.uid);
    let event = Message::new().message(1, &metadata).message(2, &object);
    event
        .text(3, "Replayed")
        .text(4, "sent while offline")
        .integer(8, 1)
        .text(9, "Normal")
        .object("v1", "Event")
}
