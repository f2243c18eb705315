//! kubectl on a node that has no cloud: it finds the API with an empty cache, gets, describes, watches and
//! explains what it read before, and is told plainly what cannot be done. The same again after the hub was killed in
//! the outage; back online it applies and waits as before.

use crate::container;
use crate::kubectl::{Follow, Kubectl};
use crate::link::{self, Cut};
use crate::pods;
use crate::wait::until;
use crate::workload::{NAMESPACE, PODS};
use crate::world::{HOMECOMING, Pods, World};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::Duration;

const NOTICED: Duration = Duration::from_secs(20);
/// A kubelet starts a container again at once when it ended for the first time, after 10 s the next time.
const RESTARTED: Duration = Duration::from_secs(60);

/// What is asked online and then offline; the first columns of the tables have to be the same.
const TABLES: [(&[&str], usize); 13] = [
    (&["get", "pods", "-n", NAMESPACE], 3),
    (&["get", "nodes"], 3),
    (&["get", "services", "-A"], 4),
    (&["get", "configmaps", "-n", NAMESPACE], 2),
    (&["get", "deployments", "-n", NAMESPACE], 4),
    (&["get", "replicasets", "-n", NAMESPACE], 4),
    (&["get", "endpointslices", "-n", NAMESPACE], 4),
    (&["get", "endpoints", "-n", NAMESPACE], 2),
    (&["get", "secrets", "-A"], 4),
    (&["get", "serviceaccounts", "-A"], 3),
    (&["get", "namespaces"], 2),
    (&["get", "leases", "-n", "kube-node-lease"], 2),
    (&["get", "widgets", "-n", NAMESPACE], 2),
];

/// What is asked online and then offline; the answers have to be the same.
const DOCUMENTS: [&[&str]; 6] = [
    &["api-resources", "--no-headers"],
    &["api-versions"],
    &["explain", "deployment.spec.strategy"],
    &["explain", "pods", "--recursive"],
    &["get", "configmap", "web", "-n", NAMESPACE, "-o", "yaml"],
    &["get", "--raw", "/version"],
];

pub fn run(world: &mut World) -> Result<()> {
    let pods = world.be_online()?;
    let kubectl = Kubectl::new(&world.settings.kubectl, &world.operator_configs()?.0);
    let pod = pods.keys().find(|name| name.starts_with("web-")).context("no pod of the Deployment")?;
    define_widgets(&kubectl).context("defining a custom resource")?;
    let online = ask_everything(&kubectl.with_empty_cache("online"), pod)?;
    works_online(&kubectl, pod, "before").context("online")?;
    let shown = Shown::begin(&kubectl, &pods).context("a watch that begins online")?;
    link::cut(Cut::BlackHole)?;
    world.wait_for("Offline", NOTICED)?;
    works_offline(&kubectl, "offline", pod, &online).context("offline")?;
    watches(world, &kubectl, pod, Some(shown)).context("watching offline")?;
    world.node.crash_hub()?;
    world.wait_for("Offline", NOTICED)?;
    works_offline(&kubectl, "killed", pod, &online).context("offline, after the hub was killed")?;
    watches(world, &kubectl, pod, None).context("watching after the hub was killed")?;
    link::heal()?;
    world.agree(PODS, HOMECOMING)?;
    works_online(&kubectl, pod, "after").context("back online")?;
    kubectl.run(&["delete", "crd", "widgets.example.org"])?;
    kubectl.run(&["delete", "configmap", "kubectl", "-n", NAMESPACE]).map(drop)
}

/// A custom resource with a column of its own, whose path the apiserver tells in the description.
fn define_widgets(kubectl: &Kubectl) -> Result<()> {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let columns = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "additionalPrinterColumns": columns}],
        },
    });
    kubectl.apply(&definition.to_string())?;
    let widget = crate::workload::object("example.org/v1", "Widget", "w", json!({"spec": {"size": 3}}));
    until("a widget can be made", NOTICED, || {
        kubectl.with_empty_cache("widgets").apply(&widget.to_string()).map(drop)
    })
}

/// Everything that is to be the same with and without the cloud.
fn ask_everything(kubectl: &Kubectl, pod: &str) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    for (args, columns) in TABLES {
        answers.push(first_columns(&kubectl.run(args)?, columns));
    }
    for args in DOCUMENTS {
        answers.push(kubectl.run(args)?);
    }
    let described = kubectl.run(&["describe", "pod", "-n", NAMESPACE, pod])?;
    for part in ["Ready", "GREETING", "Containers:", "Node:"] {
        if !described.contains(part) {
            bail!("describe says nothing of {part}: {described}");
        }
    }
    Ok(answers)
}

/// The first columns of each row, rows in the order of their names.
fn first_columns(table: &str, columns: usize) -> String {
    let row = |line: &str| line.split_whitespace().take(columns).collect::<Vec<_>>().join(" ");
    let mut rows: Vec<_> = table.lines().map(row).collect();
    rows.sort_unstable();
    rows.join("\n")
}

fn works_online(kubectl: &Kubectl, pod: &str, text: &str) -> Result<()> {
    kubectl.apply(&config_map(text))?;
    let again = kubectl.apply(&config_map(text))?;
    if !again.contains("unchanged") {
        bail!("applied again: {again}");
    }
    waits(kubectl, pod, text)
}

/// With a cache that nobody has filled: everything as it was online, and what only the cloud can do is refused.
fn works_offline(kubectl: &Kubectl, cache: &str, pod: &str, online: &[String]) -> Result<()> {
    let offline = ask_everything(&kubectl.with_empty_cache(cache), pod)?;
    for (online, offline) in online.iter().zip(&offline) {
        if online != offline {
            bail!("online kubectl said {online:?}, now {offline:?}");
        }
    }
    waits(kubectl, pod, "before").context("waiting")?;
    is_refused(kubectl)
}

/// `kubectl wait` (a list and a watch by name) ends at once when it holds, and when its time is over otherwise.
fn waits(kubectl: &Kubectl, pod: &str, text: &str) -> Result<()> {
    let wait = |on: &str, what: &str, timeout: &str| {
        kubectl.run(&["wait", on, "-n", NAMESPACE, what, &format!("--timeout={timeout}")])
    };
    let pod = format!("pod/{pod}");
    wait("--for=condition=Ready", &pod, "20s")?;
    wait(&format!("--for=jsonpath={{.data.text}}={text}"), "configmap/kubectl", "20s")?;
    match wait("--for=delete", &pod, "1s") {
        Ok(said) => bail!("a pod that stays was waited for until it was deleted: {said}"),
        Err(error) if format!("{error:#}").contains("timed out") => Ok(()),
        Err(error) => Err(error.context("waiting for what does not come")),
    }
}

/// A `kubectl get --watch` and what it has printed.
struct Shown {
    follow: Follow,
    rows: Vec<String>,
}

impl Shown {
    /// Begins it and waits until it has printed every pod.
    fn begin(kubectl: &Kubectl, pods: &Pods) -> Result<Shown> {
        let follow = kubectl.follow(&["get", "pods", "-n", NAMESPACE, "--watch"])?;
        let mut shown = Shown { follow, rows: Vec::new() };
        until("every pod in the watch", NOTICED, || {
            shown.rows.extend(shown.follow.printed());
            match pods.keys().find(|name| !shown.rows.iter().any(|row| row.starts_with(name.as_str()))) {
                Some(missing) => bail!("{missing} is not in {:?}", shown.rows),
                None => Ok(()),
            }
        })?;
        Ok(shown)
    }

    /// Waits until it has printed that the pod is ready after so many restarts.
    fn shows_restart(&mut self, pod: &str, restarts: u64) -> Result<()> {
        let again = restarts.to_string();
        until("the restart in the watch", RESTARTED, || {
            self.rows.extend(self.follow.printed());
            let restarted =
                |row: &&String| row.starts_with(pod) && row.split_whitespace().nth(3) == Some(&again);
            let ready = |row: &String| row.split_whitespace().nth(1) == Some("1/1");
            match self.rows.iter().rfind(restarted) {
                Some(row) if ready(row) => Ok(()),
                other => bail!("its last row is {other:?} of {:?}", self.rows),
            }
        })
    }
}

/// A container that ends and is started again shows in watches that begin now, and in those that began before.
fn watches(world: &World, kubectl: &Kubectl, pod: &str, before: Option<Shown>) -> Result<()> {
    let pods = pods::of_node(&world.hub()?)?;
    let now = Shown::begin(kubectl, &pods)?;
    let held = pods.get(pod).context("the pod is gone")?;
    let process = container::running().get(&held.container).context("its container does not run")?.process;
    kill_process(Pid::from_raw(process).context("no process")?, Signal::KILL)?;
    for (mut shown, began) in before.map(|shown| (shown, "online")).into_iter().chain([(now, "offline")]) {
        shown.shows_restart(pod, held.restarts + 1).with_context(|| format!("one that began {began}"))?;
    }
    Ok(())
}

/// What only the cloud can do is refused, and said so.
fn is_refused(kubectl: &Kubectl) -> Result<()> {
    let refused = match kubectl.apply(&config_map("offline")) {
        Ok(said) => bail!("kubectl apply says {said} while there is no cloud"),
        Err(error) => format!("{error:#}"),
    };
    if !refused.contains("cannot be reached") && !refused.contains("unavailable") {
        bail!("kubectl apply does not say why it failed: {refused}");
    }
    Ok(())
}

fn config_map(text: &str) -> String {
    crate::workload::object("v1", "ConfigMap", "kubectl", json!({"data": {"text": text}})).to_string()
}
