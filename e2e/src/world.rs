//! The cluster and the node of a run, with the steps that several cases share.

use crate::client::{Client, Identity};
use crate::cluster::{self, Cluster};
use crate::kubectl::Kubectl;
use crate::node::{Boot, HUB_ADMIN_PORT, HUB_PORT, Node, Through};
use crate::pki::kubeconfig;
use crate::pods::{self, Pod};
use crate::report::Report;
use crate::settings::Settings;
use crate::wait::until;
use crate::workload::{NAMESPACE, OPERATOR};
use crate::{container, files, link, workload};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest wait for pods to be ready after their containers run.
pub const SETTLE: Duration = Duration::from_secs(60);
/// The longest wait for the hub to notice that the link is back and to bring its state home.
pub const HOMECOMING: Duration = Duration::from_secs(60);

/// Pods by name, as one server tells them.
pub type Pods = BTreeMap<String, Pod>;

/// Everything that a case works with.
pub struct World {
    /// The run's settings.
    pub settings: Settings,
    /// The cloud side.
    pub cluster: Cluster,
    /// The node.
    pub node: Node,
    /// kubectl of an administrator, straight to the apiserver.
    pub kubectl: Kubectl,
    /// What the run found.
    pub report: Report,
    /// Whether the node runs through the hub with a whole link.
    online: bool,
}

impl World {
    /// Starts the control plane, installs the node and gives the cluster its objects. No node runs yet.
    pub fn start(settings: &Settings) -> Result<World> {
        let logs = settings.run.join("logs");
        files::folder(&logs)?;
        let start = Instant::now();
        let cluster = Cluster::start(settings, &logs)?;
        let node = Node::install(settings, &cluster, &logs)?;
        let kubectl = Kubectl::new(&settings.kubectl, &cluster.admin_config);
        workload::write_static_pod(&node.manifests())?;
        kubectl.apply(&workload::objects())?;
        println!("       control plane and node are set up ({:.0} s)", start.elapsed().as_secs_f64());
        let report = Report::default();
        Ok(World { settings: settings.clone(), cluster, node, kubectl, report, online: false })
    }

    /// The kubelet's view: a client of the hub with the node's certificate.
    pub fn hub(&self) -> Result<Client> {
        let identity = Identity::certificate(&self.cluster.pki, "kubelet")?;
        Client::new("127.0.0.1", HUB_PORT, &self.node.hub_authority(), &identity)
    }

    /// A token of the ServiceAccount that may do anything.
    pub fn operator_token(&self) -> Result<String> {
        let token = self.kubectl.run(&["create", "token", OPERATOR, "-n", NAMESPACE, "--duration=2h"])?;
        Ok(token.trim().to_string())
    }

    /// kubeconfigs with such a token: for the hub, and for the cloud.
    pub fn operator_configs(&self) -> Result<(PathBuf, PathBuf)> {
        let user = serde_json::json!({"token": self.operator_token()?});
        let write = |name: &str, server: &str, authority: &Path| {
            kubeconfig(&self.settings.run.join(name), server, authority, &user)
        };
        let hub = format!("https://127.0.0.1:{HUB_PORT}");
        let authority = self.cluster.pki.certificate("ca");
        Ok((
            write("operator.conf", &hub, &self.node.hub_authority())?,
            write("operator-direct.conf", cluster::LOCAL, &authority)?,
        ))
    }

    /// The hub's state of the link, such as `Online`.
    pub fn connectivity(&self) -> Result<String> {
        let status = Client::plain(HUB_ADMIN_PORT).object("/v1/status")?;
        let state = status["connectivity"]["state"].as_str();
        Ok(state.with_context(|| format!("no connectivity.state in {status}"))?.to_string())
    }

    /// Waits until the hub says that the link is in that state; how long it took.
    pub fn wait_for(&self, state: &str, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        until(&format!("the hub to be {state}"), limit, || {
            let now = self.connectivity()?;
            if now == state { Ok(start.elapsed()) } else { bail!("it is {now}") }
        })
    }

    /// A power cut, then a boot with a whole link until every container runs.
    pub fn reboot(&mut self, through: Through) -> Result<Boot> {
        self.dark()?;
        link::heal()?;
        self.node.boot(through, workload::PODS)
    }

    /// A power cut, then a boot through the hub with the link black-holed, until `count` containers run.
    pub fn reboot_offline(&mut self, count: usize) -> Result<Boot> {
        self.dark()?;
        link::cut(link::Cut::BlackHole)?;
        self.node.boot(Through::Hub, count)
    }

    /// A power cut and nothing after it.
    pub fn dark(&mut self) -> Result<()> {
        self.online = false;
        self.cluster.check()?;
        self.node.power_cut()
    }

    /// The state that the hub's cases start in: the node runs through the hub, the link is whole, cloud and
    /// node agree on every pod. Returns the pods.
    pub fn be_online(&mut self) -> Result<Pods> {
        if !self.online {
            self.reboot(Through::Hub)?;
        }
        let pods = self.agree(workload::PODS, SETTLE)?;
        self.online = true;
        Ok(pods)
    }

    /// Says that a case has changed the world in a way that only a reboot mends.
    pub fn disturbed(&mut self) {
        self.online = false;
    }

    /// Waits until all pods of the node are ready in the cloud's eyes, and truly run.
    pub fn settled_in_cloud(&self, count: usize, limit: Duration) -> Result<Pods> {
        settled("the pods to be ready in the cloud", &self.cluster.admin, count, limit)
    }

    /// Waits until all pods of the node are ready in the node's own eyes, and truly run.
    pub fn settled_on_node(&self, count: usize, limit: Duration) -> Result<Pods> {
        settled("the pods to be ready in the hub's view", &self.hub()?, count, limit)
    }

    /// Waits until the hub is online and cloud, hub and kernel tell the same of every pod.
    pub fn agree(&self, count: usize, limit: Duration) -> Result<Pods> {
        self.wait_for("Online", limit)?;
        let hub = self.hub()?;
        until("cloud and node to agree", limit, || {
            let (cloud, node) = (pods::of_node(&self.cluster.admin)?, pods::of_node(&hub)?);
            truly_running(&cloud, count).context("in the cloud")?;
            if cloud != node {
                bail!("the cloud says {cloud:?}, the hub says {node:?}");
            }
            Ok(cloud)
        })
    }

    /// An error unless every pod of the Deployment has its environment, Secret and token.
    pub fn check_contents(&self, pods: &Pods) -> Result<()> {
        let running = container::running();
        for (name, pod) in pods.iter().filter(|(name, _)| name.starts_with("web-")) {
            let process =
                running.get(&pod.container).with_context(|| format!("{name} does not run"))?.process;
            if !container::environment(process).iter().any(|entry| entry == workload::GREETING) {
                bail!("{name} has not the ConfigMap's value in its environment");
            }
            let (path, content) = workload::SECRET;
            if container::read(process, path)? != content {
                bail!("{name} has not the Secret's content in {path}");
            }
            if container::read(process, workload::TOKEN)?.split('.').count() != 3 {
                bail!("{name} has no token in {}", workload::TOKEN);
            }
        }
        Ok(())
    }
}

/// An error unless these are the same pods: the same names with the same UIDs.
pub fn same_pods(before: &Pods, after: &Pods) -> Result<()> {
    let uids = |pods: &Pods| -> BTreeMap<String, String> {
        pods.iter().map(|(name, pod)| (name.clone(), pod.uid.clone())).collect()
    };
    if uids(before) != uids(after) {
        bail!("pods were recreated: before {:?}, after {:?}", uids(before), uids(after));
    }
    Ok(())
}

fn settled(what: &str, client: &Client, count: usize, limit: Duration) -> Result<Pods> {
    until(what, limit, || {
        let pods = pods::of_node(client)?;
        truly_running(&pods, count)?;
        Ok(pods)
    })
}

/// Ready, and the container that the status names is one that the kernel runs: an old status names one
/// that died with the power.
fn truly_running(pods: &Pods, count: usize) -> Result<()> {
    pods::all_ready(pods, count)?;
    let running = container::running();
    match pods.iter().find(|(_, pod)| !running.contains_key(&pod.container)) {
        Some((name, pod)) => bail!("the status of {name} names {}, which does not run", pod.container),
        None => Ok(()),
    }
}
