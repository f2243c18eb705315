//! What the stories share: a cluster, nodes that renew their leases, and a manager that runs in the test.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use yurt_controller_manager::clock::Clock;
use yurt_controller_manager::config::Config;
use yurt_controller_manager::controllers::Context;
use yurt_controller_manager::run;
use yurt_testkit::apiserver::{Apiserver, Kind};
use yurt_testkit::kubeconfig::Target;
use yurt_testkit::objects;

/// The scripted clock begins here: 2023-11-14T22:13:20Z.
pub const START: i64 = 1_700_000_000;
/// How long anything may take.
const SOON: Duration = Duration::from_secs(30);
pub const UNTIL: &str = "node.openyurt.io/protected-until";
pub const SINCE: &str = "node.openyurt.io/disconnected-since";
pub const DURATION: &str = "node.openyurt.io/autonomy-duration";
pub const POOL: &str = "apps.openyurt.io/nodepool";

/// A cluster.
pub struct Bed {
    pub api: Apiserver,
    pub clock: Clock,
    alive: Mutex<BTreeSet<String>>,
    folder: tempfile::TempDir,
}

/// A manager that runs.
pub struct Manager {
    pub context: Context,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Bed {
    /// A cluster that serves node pools.
    pub async fn new() -> Self {
        let bed = Self::bare().await;
        let kind = Kind::custom("apps.openyurt.io", "v1beta2", "nodepools", "NodePool");
        bed.api.register(Kind { namespaced: false, ..kind });
        bed
    }

    /// One that does not.
    pub async fn bare() -> Self {
        let (api, folder) = (Apiserver::start().await, tempfile::tempdir().unwrap());
        Self { api, clock: Clock::scripted(START), alive: Mutex::default(), folder }
    }

    /// A node with annotations that renews its lease.
    pub fn node(&self, name: &str, annotations: &[(&str, &str)]) {
        let mut node = objects::node(name);
        for (key, value) in annotations {
            node["metadata"]["annotations"][*key] = (*value).into();
        }
        self.api.create(node);
        self.api.create(objects::lease(name));
        self.alive.lock().unwrap().insert(name.to_owned());
    }

    /// A node of a pool.
    pub fn node_in(&self, name: &str, pool: &str) {
        self.node(name, &[]);
        self.api.modify("nodes", "", name, |n| n["metadata"]["labels"][POOL] = pool.into());
    }

    /// A running, ready pod; `tolerations` of `None` are those of admission.
    pub fn pod(&self, name: &str, node: &str, tolerations: Option<Value>) {
        let mut pod = objects::pod("default", name, node);
        if let Some(tolerations) = tolerations {
            pod["spec"]["tolerations"] = tolerations;
        }
        pod["status"] = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0}],
        });
        self.api.create(pod);
    }

    /// The node says nothing any more, and kube-controller-manager has not noticed yet.
    pub fn silence(&self, node: &str) {
        self.alive.lock().unwrap().remove(node);
    }

    /// kube-controller-manager gives a node up: Ready unknown, taints, its pods not ready.
    pub fn give_up(&self, node: &str) {
        self.silence(node);
        let taint = |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
        self.api.modify("nodes", "", node, |n| {
            set(n, "Ready", "Unknown");
            n["spec"]["taints"] = json!([taint("NoSchedule"), taint("NoExecute")]);
        });
        for pod in self.api.list("pods").into_iter().filter(|p| p["spec"]["nodeName"] == node) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            self.api.modify("pods", "default", name, |p| set(p, "Ready", "False"));
        }
    }

    /// The node renews its lease again.
    pub fn wake(&self, node: &str) {
        self.alive.lock().unwrap().insert(node.to_owned());
    }

    /// kube-controller-manager sees that the node is back.
    pub fn accept(&self, node: &str) {
        self.api.modify("nodes", "", node, |n| {
            set(n, "Ready", "True");
            n["spec"]["taints"] = json!([]);
        });
    }

    /// A manager with these flags as well, as the admin.
    pub async fn manager(&self, flags: &[&str]) -> Manager {
        let target = Target {
            base: self.api.url(),
            ca_pem: self.api.pki().ca_pem().into(),
            identity: Some(self.api.pki().admin()),
            token: String::new(),
        };
        self.manager_as(&target, &[&["--leader-elect=false"], flags].concat()).await
    }

    /// A manager with these flags, as whom `target` says.
    pub async fn manager_as(&self, target: &Target, flags: &[&str]) -> Manager {
        let path = self.folder.path().join("kubeconfig");
        target.write(&path).unwrap();
        let kubeconfig = format!("--kubeconfig={}", path.display());
        let all = ["x", &kubeconfig, "--bind-address=127.0.0.1", "--port=0", "--kube-api-qps=1000"];
        let all = all.iter().chain(flags).map(Into::into);
        let config = Config::read(all).unwrap();
        let client = run::client(&config).await.unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let (told, context) = tokio::sync::oneshot::channel();
        let (clock, wait) = (self.clock.clone(), async move { drop(stopped.wait_for(|s| *s).await) });
        let ended = tokio::spawn(async move {
            run::run(config, client, clock, wait, |_, context| drop(told.send(context.clone()))).await
        });
        Manager { context: context.await.unwrap(), stop, ended }
    }

    /// Time goes by in steps of a monitor period; nodes that live renew their leases, and the manager looks after
    /// each step.
    pub async fn pass(&self, manager: &Manager, seconds: u32) {
        for _ in 0..seconds.div_ceil(5) {
            self.renew();
            let before = manager.looks();
            self.clock.advance(5);
            until("a look at the nodes", || manager.looks() > before).await;
        }
    }

    /// Time goes by until it holds: what the manager decides at its looks waits for one after the news came to it.
    pub async fn until(&self, manager: &Manager, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
            self.pass(manager, 5).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every node that lives renews.
    pub fn renew(&self) {
        let now = self.clock.now().since_start.as_secs();
        for node in self.alive.lock().unwrap().iter() {
            self.api.modify("leases.coordination.k8s.io", "kube-node-lease", node, |l| {
                l["spec"]["renewTime"] = format!("2001-01-01T00:00:00.{now:06}Z").into();
            });
        }
    }

    pub fn pod_now(&self, name: &str) -> Value {
        self.api.get("pods", "default", name).unwrap_or(Value::Null)
    }

    pub fn node_now(&self, name: &str) -> Value {
        self.api.get("nodes", "", name).unwrap()
    }

    /// The mark of a pod.
    pub fn mark(&self, pod: &str) -> Option<String> {
        self.pod_now(pod)["metadata"]["annotations"][UNTIL].as_str().map(str::to_owned)
    }

    /// Seconds of the pod's tolerations for not-ready and unreachable; `None` is for ever.
    pub fn tolerates(&self, pod: &str) -> Vec<Option<i64>> {
        let pod = self.pod_now(pod);
        let list = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        list.iter().map(|t| t["tolerationSeconds"].as_i64()).collect()
    }

    /// The status of a condition of an object.
    pub fn condition(object: &Value, kind: &str) -> Option<String> {
        let all = object["status"]["conditions"].as_array()?;
        all.iter().find(|c| c["type"] == kind)?["status"].as_str().map(str::to_owned)
    }

    /// Reasons of the events about an object.
    pub fn told(&self, about: &str) -> Vec<String> {
        let all = self.api.events();
        let about = all.iter().filter(|e| e["involvedObject"]["name"] == about);
        let mut reasons: Vec<String> = about.map(|e| e["reason"].as_str().unwrap().to_owned()).collect();
        reasons.sort_unstable();
        reasons
    }

    /// Requests that change something other than an event.
    pub fn writes(&self) -> usize {
        let reviews = |path: &str| path.contains("reviews") || path.contains("/events");
        self.api.audit().count(|e| e.method != "GET" && !reviews(&e.path))
    }
}

impl Manager {
    /// How often it looked at everything.
    pub fn looks(&self) -> u64 {
        self.context.metrics.looks.get()
    }

    /// What `/readyz` says.
    pub fn ready(&self) -> (bool, String) {
        self.context.health.report()
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.ended.await.unwrap().unwrap();
    }

    /// It ended by itself.
    pub fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }

    /// How it ended by itself.
    pub async fn end(self) -> anyhow::Result<()> {
        self.ended.await.unwrap()
    }

    /// Ends it as a crash does.
    pub async fn kill(self) {
        self.ended.abort();
        assert!(self.ended.await.unwrap_err().is_cancelled());
    }
}

/// Sets the status of a condition, which is there or is added.
pub fn set(object: &mut Value, kind: &str, status: &str) {
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(condition) => condition["status"] = status.into(),
        None => conditions.push(json!({"type": kind, "status": status})),
    }
}

/// A toleration for both taints.
pub fn tolerations(seconds: i64) -> Value {
    let one = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    json!([one("node.kubernetes.io/not-ready"), one("node.kubernetes.io/unreachable")])
}

/// Waits for a condition.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
