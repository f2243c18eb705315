//! yurt-controller-manager under test: instances of the real binary with the rights of its own manifests, killed
//! and started as the waves ask.

use crate::client::Client;
use crate::cluster::{Cluster, LOCAL};
use crate::pki;
use crate::process::{Program, Running};
use crate::wait::until_slowly;
use crate::world::World;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Where its lease and its ServiceAccount are.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "yurt-controller-manager";
const LOOK: Duration = Duration::from_millis(200);
/// How long a start or a change of the leader may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The instances of the controller; they end when dropped.
pub struct Controller {
    program: PathBuf,
    logs: PathBuf,
    config: PathBuf,
    admin: Client,
    grace: Duration,
    started: usize,
    running: Vec<Running>,
}

impl Controller {
    /// Applies the manifests of `deploy/`; nothing runs yet. A node counts as disconnected after `grace`. The Deployment
    /// is shown to the apiserver and not made: the program runs beside the cluster, and there is no image for the pods,
    /// which would wait on the real node.
    pub fn install(world: &World, grace: Duration) -> Result<Controller> {
        let deploy = world.settings.deploy.display().to_string();
        world.kubectl.run(&["apply", "--dry-run=server", "-k", &deploy])?;
        let [crd, rbac, policy] = ["crd", "rbac", "policy"].map(|name| format!("{deploy}/{name}.yaml"));
        world.kubectl.run(&["apply", "-f", &crd, "-f", &rbac, "-f", &policy])?;
        Ok(Controller {
            program: world.settings.manager.clone(),
            logs: world.settings.run.join("logs"),
            config: kubeconfig(&world.cluster)?,
            admin: world.cluster.admin.clone(),
            grace,
            started: 0,
            running: Vec::new(),
        })
    }

    /// Starts one more instance.
    pub fn start(&mut self) -> Result<()> {
        let mut program = Program::new(&self.program, &self.logs, self.flags());
        program.log = self.logs.join(format!("{NAME}-{}.log", self.started));
        self.running.push(Running::start(program)?);
        self.started += 1;
        Ok(())
    }

    /// Waits until one of the instances leads: its process id.
    pub fn wait_for_leader(&mut self) -> Result<u32> {
        self.wait_for(|_| true)
    }

    /// Kills the leader as a lost machine would, and starts it again.
    pub fn restart_leader(&mut self) -> Result<()> {
        self.kill_leader()?;
        self.start()
    }

    /// Kills the leader and waits until another instance leads.
    pub fn change_leader(&mut self) -> Result<()> {
        let killed = self.kill_leader()?;
        self.wait_for(|process| process != killed).map(drop)
    }

    /// Kills every instance; none runs then.
    pub fn kill_all(&mut self) -> Result<()> {
        // Dropping kills.
        self.running.clear();
        Ok(())
    }

    fn kill_leader(&mut self) -> Result<u32> {
        let leader = self.wait_for_leader()?;
        // Dropping kills.
        self.running.retain(|running| running.id() != leader);
        Ok(leader)
    }

    fn wait_for(&mut self, wanted: impl Fn(u32) -> bool) -> Result<u32> {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{NAME}");
        until_slowly("an instance of the controller to lead", LIMIT, LOOK, || {
            self.running.iter_mut().try_for_each(Running::check)?;
            let lease = self.admin.object(&lease)?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            // `<host>_<process id>_<start>`
            let process = holder.rsplit('_').nth(1).and_then(|id| id.parse().ok()).unwrap_or(0);
            match self.running.iter().any(|running| running.id() == process) && wanted(process) {
                true => Ok(process),
                false => bail!("{holder:?} does"),
            }
        })
    }

    /// An election within seconds.
    fn flags(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.config.display()),
            "--bind-address=127.0.0.1".to_string(),
            "--port=0".to_string(),
            format!("--node-monitor-grace-period={}ms", self.grace.as_millis()),
            "--node-monitor-period=500ms".to_string(),
            "--leader-elect-lease-duration=4s".to_string(),
            "--leader-elect-renew-deadline=3s".to_string(),
            "--leader-elect-retry-period=1s".to_string(),
            "--log=debug".to_string(),
        ]
    }
}

/// A kubeconfig with a token of the ServiceAccount, so that it may do what its ClusterRole says and no more.
fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{NAME}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = cluster.admin.json("POST", &path, &request)?;
    let token = answer["status"]["token"].as_str().context("a TokenRequest without a token")?;
    let authority = cluster.pki.certificate("ca");
    let file = authority.with_file_name(format!("{NAME}.conf"));
    pki::kubeconfig(&file, LOCAL, &authority, &json!({"token": token}))
}
