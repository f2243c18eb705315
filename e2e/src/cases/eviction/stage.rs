//! What waves and rows act on: the apiserver, the simulated nodes, and waiting with bounds.

use super::fleet::{Fleet, escaped};
use super::objects::{NAMESPACE, NodeSpec, WAVE, path};
use super::status::condition;
use crate::client::{Client, Request};
use crate::session::{MERGE, Session};
use crate::wait;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at a condition: often enough, and little work for the apiserver.
const STEP: Duration = Duration::from_millis(300);

/// Where a wave plays.
pub struct Stage {
    /// The simulated nodes.
    pub fleet: Fleet,
    /// Whether the cluster knows node pools; it does once the controller's objects are there.
    pub pools: bool,
    session: Mutex<Session>,
}

impl Stage {
    /// A stage in the cluster of that administrator, with a namespace that can take pods.
    pub fn start(admin: &Client) -> Result<Stage> {
        let stage =
            Stage { fleet: Fleet::start(admin), pools: false, session: Mutex::new(Session::new(admin)) };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        stage.session().create("/api/v1/namespaces", &namespace)?;
        stage.expect("the namespace's ServiceAccount", Duration::from_secs(60), |stage| {
            stage.session().object(&path("v1", "serviceaccounts/default")).map(drop)
        })?;
        Ok(stage)
    }

    /// The administrator's connection.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers nodes and waits until the cloud takes them for ready.
    pub fn create_nodes(&self, nodes: &[NodeSpec]) -> Result<()> {
        self.fleet.add(nodes)?;
        self.expect("the simulated nodes to be ready", Duration::from_secs(60), |stage| {
            let list = stage.session().object("/api/v1/nodes")?;
            let ready = |node: &&NodeSpec| {
                let mut items = list["items"].as_array().into_iter().flatten();
                items.any(|item| {
                    item["metadata"]["name"] == node.name.as_str() && condition(item, "Ready") == Some("True")
                })
            };
            match nodes.iter().find(|node| !ready(node)) {
                Some(node) => bail!("{} is not", node.name),
                None => Ok(()),
            }
        })
    }

    /// Makes the pools, where the cluster knows pools.
    pub fn create_pools(&self, names: &[String]) -> Result<()> {
        names.iter().filter(|_| self.pools).try_for_each(|name| self.create_pool(name, &json!({})))
    }

    /// Makes a node pool with that policy of autonomy.
    pub fn create_pool(&self, name: &str, autonomy: &Value) -> Result<()> {
        let pool = json!({
            "apiVersion": "apps.openyurt.io/v1beta2", "kind": "NodePool",
            "metadata": {"name": name}, "spec": {"type": "Edge", "autonomy": autonomy},
        });
        self.session().create("/apis/apps.openyurt.io/v1beta2/nodepools", &pool).map(drop)
    }

    /// Creates objects, each in its collection; their UIDs.
    pub fn create(&self, objects: Vec<(String, Value)>) -> Result<Vec<String>> {
        let mut session = self.session();
        let create = |(path, object): (String, Value)| {
            let made = session.create(&path, &object)?;
            Ok(made["metadata"]["uid"].as_str().context("an object without a UID")?.to_string())
        };
        objects.into_iter().map(create).collect()
    }

    /// Changes an object by a merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        self.session().call("PATCH", path, MERGE, patch).map(drop)
    }

    /// Waits until the cloud evicts from all those nodes: they have the NoExecute taint of a silent node.
    pub fn tainted(&self, nodes: &[String], limit: Duration) -> Result<Instant> {
        self.expect("silent nodes to be tainted", limit, |stage| {
            let list = stage.session().object("/api/v1/nodes")?;
            let items: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
            let tainted = |name: &&String| {
                let mut nodes = items.iter().filter(|item| item["metadata"]["name"] == name.as_str());
                nodes.any(|item| is_unreachable(item))
            };
            match nodes.iter().find(|name| !tainted(name)) {
                Some(name) => bail!("{name} is not"),
                None => Ok(Instant::now()),
            }
        })
    }

    /// The UIDs of the pods that EndpointSlices call ready.
    pub fn served(&self) -> Result<BTreeSet<String>> {
        let list = self.session().object(&path("discovery.k8s.io/v1", "endpointslices"))?;
        let slices = list["items"].as_array().into_iter().flatten();
        let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        Ok(ready.filter_map(|it| Some(it["targetRef"]["uid"].as_str()?.to_string())).collect())
    }

    /// Waits for a condition; an error that says what was missing when it does not come.
    pub fn expect<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Stage) -> Result<T>,
    ) -> Result<T> {
        let outcome = wait::until_slowly(what, limit, STEP, || probe(self));
        match (outcome, self.fleet.trouble()) {
            (Err(error), Some(trouble)) => Err(error.context(format!("the simulated nodes had: {trouble}"))),
            (outcome, _) => outcome,
        }
    }

    /// Waits for a condition whose absence shows in the outcome: it may never come.
    pub fn wait(&self, limit: Duration, mut probe: impl FnMut(&Stage) -> Result<bool>) {
        let _ = wait::until_slowly("it", limit, STEP, || match probe(self)? {
            true => Ok(()),
            false => bail!("not yet"),
        });
    }

    /// Lets an outage last until that moment.
    pub fn wait_until(&self, moment: Instant) {
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
    }

    /// Removes everything of a wave.
    pub fn clear(&self, wave: &str) -> Result<()> {
        let mut paths = vec![
            path("apps/v1", "deployments"),
            path("apps/v1", "statefulsets"),
            format!("/api/v1/nodes?labelSelector={}%3D{wave}", escaped(WAVE)),
            path("v1", "pods"),
        ];
        if self.pools {
            paths.push("/apis/apps.openyurt.io/v1beta2/nodepools".to_string());
        }
        for path in paths {
            // Nobody is left to confirm the deletion of pods.
            let options = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
            let request = Request::new("DELETE", path).body("application/json", options.to_string());
            self.session().send(&request)?.success().with_context(|| request.shown())?;
        }
        self.fleet.forget();
        Ok(())
    }
}

/// Whether the cloud evicts from a node: it has the NoExecute taint of a silent one.
pub fn is_unreachable(node: &Value) -> bool {
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|taint| taint["key"] == "node.kubernetes.io/unreachable" && taint["effect"] == "NoExecute")
}
