//! The simulated apiserver as a process of its own, for stories in which the cloud must not share anything
//! with the node.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    apiserver,
    client::{Client, Protocol},
    pki::Identity,
};

/// How long it may take to serve.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running apiserver process. It is killed when this is dropped.
pub struct Cloud {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
    node: String,
    token: String,
}

impl Cloud {
    /// Starts `binary` under the name `apiserver` (`argv[0]`) with the arguments of
    /// [`run_from_args`](apiserver::process::run_from_args) and waits until it serves. Everything of it,
    /// `apiserver.log` included, goes to `folder`; it holds `objects` and knows the node `node`.
    /// Errors: a process that cannot be started or does not serve, with its log.
    pub async fn start(binary: &Path, folder: &Path, node: &str, objects: Vec<Value>) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let (first, token) = (folder.join("objects.json"), apiserver::uid());
        std::fs::write(&first, Value::from(objects).to_string())
            .with_context(|| first.display().to_string())?;
        let log = std::fs::File::create(folder.join("apiserver.log"))?;
        let mut command = Command::new(binary);
        command.arg0("apiserver").arg("--dir").arg(folder).arg("--objects").arg(first);
        command.args(["--node", node, "--admin-token", &token]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut cloud = Self { child, address, folder: folder.into(), node: node.into(), token };
        cloud.address = cloud.until_ready().await?;
        Ok(cloud)
    }

    async fn until_ready(&mut self) -> Result<SocketAddr> {
        let started = Instant::now();
        loop {
            if let Some(address) = self.said() {
                return Ok(address);
            }
            let log = || std::fs::read_to_string(self.folder.join("apiserver.log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("the apiserver has ended: {status}\n{}", log());
            }
            ensure!(started.elapsed() < READY_WITHIN, "the apiserver does not serve\n{}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn said(&self) -> Option<SocketAddr> {
        let text = std::fs::read(self.folder.join("apiserver.json")).ok()?;
        let said: Value = serde_json::from_slice(&text).ok()?;
        said["url"].as_str()?.strip_prefix("https://")?.parse().ok()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The file with the cluster's CA certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("pki/ca.crt")
    }

    /// The kubelet's client certificate.
    pub fn node(&self) -> Identity {
        self.identity(&format!("system-node-{}", self.node))
    }

    /// A bearer token that may do everything.
    pub fn admin_token(&self) -> &str {
        &self.token
    }

    /// A client of the apiserver that may do everything.
    pub fn admin(&self) -> Client {
        self.client(&self.identity("kubernetes-admin"))
    }

    /// A client of the apiserver itself, not over any relay.
    pub fn client(&self, identity: &Identity) -> Client {
        Client::with_ca_file(&self.url(), &self.ca_file(), Some(identity), Protocol::Http2)
    }

    /// Ends it and waits for its end.
    pub async fn kill(&mut self) {
        self.child.kill().await.ok();
    }

    fn identity(&self, name: &str) -> Identity {
        let file = |end: &str| self.folder.join("pki").join(format!("{name}.{end}"));
        Identity::read(&file("crt"), &file("key"))
    }
}
