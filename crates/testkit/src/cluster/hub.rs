//! The yurthub process: started, killed, stopped, started again on the same folder and ports.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::{
    client::{Answer, Client, Protocol},
    pki::Identity,
};

/// How long a hub may take to serve.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What the hub is started with.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The binary.
    pub binary: PathBuf,
    /// `--node-name`.
    pub node: String,
    /// `--server-addr`.
    pub servers: String,
    /// `--ca-file`.
    pub ca_file: PathBuf,
    /// `--client-cert` and `--client-key`.
    pub identity: Identity,
    /// `--root-dir`.
    pub root: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(OsString, OsString)>,
}

impl HubOptions {
    /// The usual ones: root folder and log below `folder`, the binary that tests use.
    pub fn new(node: &str, servers: &str, ca_file: &Path, identity: &Identity, folder: &Path) -> Self {
        Self::with_binary(super::yurthub(), node, servers, ca_file, identity, folder)
    }

    /// The same with another binary. It is started under the name `yurthub` (`argv[0]`).
    pub fn with_binary(
        binary: PathBuf,
        node: &str,
        servers: &str,
        ca_file: &Path,
        identity: &Identity,
        folder: &Path,
    ) -> Self {
        Self {
            binary,
            node: node.into(),
            servers: servers.into(),
            ca_file: ca_file.into(),
            identity: identity.clone(),
            root: folder.join("yurthub"),
            log: folder.join("yurthub.log"),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// The ports that the hub has bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Ports {
    /// HTTPS for local clients.
    pub secure: u16,
    /// Health, metrics, status.
    pub admin: u16,
}

/// A hub, running or not.
pub struct Hub {
    /// What it is started with the next time.
    pub options: HubOptions,
    ports: Ports,
    child: Option<Child>,
}

impl Hub {
    /// Not started yet.
    pub fn new(options: HubOptions) -> Self {
        Self { options, ports: Ports::default(), child: None }
    }

    /// Starts it and waits until it serves; panics with the end of its log when it does not.
    pub async fn start(&mut self) {
        self.spawn();
        self.wait_ready().await;
    }

    /// Starts it without waiting. The ports of an earlier run are taken again.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the hub runs already");
        std::fs::remove_file(self.ports_file()).ok();
        let log =
            OpenOptions::new().create(true).append(true).open(&self.options.log).expect("the hub's log");
        let error_log = log.try_clone().expect("the hub's log");
        let child =
            self.command().stdin(Stdio::null()).stdout(log).stderr(error_log).kill_on_drop(true).spawn();
        self.child =
            Some(child.unwrap_or_else(|e| panic!("cannot start {}: {e}", self.options.binary.display())));
    }

    /// Waits until it has said its ports and its health is OK; panics with the end of its log otherwise.
    pub async fn wait_ready(&mut self) {
        self.until_ready().await.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// The same; the error is that it has ended or is late, with the end of its log.
    pub async fn until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.is_serving().await {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                anyhow::bail!("the hub has ended: {status}\n{}", self.log_end());
            }
            anyhow::ensure!(started.elapsed() < READY_WITHIN, "the hub does not serve\n{}", self.log_end());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Power loss for this process: SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.ok();
        }
    }

    /// SIGTERM, and how it ended; panics when it has not within 20 s.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running hub");
        let pid = child.id().expect("a running hub").to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.expect("the kill command");
        let ended = tokio::time::timeout(READY_WITHIN, child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the hub does not stop\n{}", self.log_end()))
            .expect("its exit status")
    }

    /// SIGKILL and a new start.
    pub async fn crash_and_restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// The ports of the last run.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.secure)
    }

    /// A client that trusts the hub's own CA.
    pub fn client(&self, identity: Option<&Identity>, protocol: Protocol) -> Client {
        Client::with_ca_file(&self.url(), &self.ca_file(), identity, protocol)
    }

    /// GET of the admin listener.
    pub async fn admin(&self, path: &str) -> anyhow::Result<Answer> {
        let client =
            Client::new(&format!("http://127.0.0.1:{}", self.ports.admin), "", None, Protocol::Http1);
        client.timeout(Duration::from_secs(5)).get(path).await
    }

    /// The CA that signed the hub's serving certificate.
    pub fn ca_file(&self) -> PathBuf {
        let folders = std::fs::read_dir(&self.options.root).into_iter().flatten().flatten().map(|e| e.path());
        let mut places = std::iter::once(self.options.root.clone()).chain(folders).map(|f| f.join("ca.crt"));
        places
            .find(|p| p.exists())
            .unwrap_or_else(|| panic!("no ca.crt below {}", self.options.root.display()))
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.options.log).unwrap_or_default()).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    async fn is_serving(&mut self) -> bool {
        let Ok(text) = std::fs::read(self.ports_file()) else { return false };
        let Ok(ports) = serde_json::from_slice(&text) else { return false };
        self.ports = ports;
        self.admin("/v1/healthz").await.is_ok_and(|a| a.code() == 200)
    }

    fn ports_file(&self) -> PathBuf {
        self.options.root.join("run/ports.json")
    }

    fn command(&self) -> Command {
        let options = &self.options;
        let mut command = Command::new(&options.binary);
        command.arg0("yurthub").args(["--node-name", &options.node, "--server-addr", &options.servers]);
        if !options.arguments.iter().any(|a| a.starts_with("--bind-proxy-address")) {
            command.args(["--bind-proxy-address", "127.0.0.1"]);
        }
        command.arg("--root-dir").arg(&options.root).arg("--ca-file").arg(&options.ca_file);
        command.arg("--client-cert").arg(&options.identity.cert_file);
        command.arg("--client-key").arg(&options.identity.key_file);
        command.args(["--proxy-secure-port", &self.ports.secure.to_string()]);
        command.args(["--serve-port", &self.ports.admin.to_string()]);
        command.args(&options.arguments);
        command.envs(options.environment.iter().cloned());
        command
    }
}
