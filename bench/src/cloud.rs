//! The simulated apiserver as a process of its own: this binary in another role.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};
use yurt_testkit::pki::Identity;

/// The first argument that makes this binary an apiserver.
pub const ROLE: &str = "apiserver";

/// Runs in that role until the process is killed.
pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    if let Err(error) = yurt_testkit::apiserver::process::run_from_args(arguments) {
        eprintln!("apiserver: {error}");
    }
    ExitCode::FAILURE
}

/// A running apiserver process. It ends with this value.
pub struct Cloud {
    _child: Child,
    dir: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
}

impl Cloud {
    /// Starts one in `dir` that holds `objects` and knows the kubelet of `node`.
    pub async fn start(dir: &Path, node: &str, objects: &[Value]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let file = dir.join("objects.json");
        std::fs::write(&file, serde_json::to_vec(objects)?)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ROLE).arg("--dir").arg(dir).arg("--objects").arg(&file).args(["--node", node]);
        let mut child = command.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        for _ in 0..1000 {
            if let Ok(text) = std::fs::read(dir.join("apiserver.json")) {
                let said: Value = serde_json::from_slice(&text)?;
                let url = said["url"].as_str().context("no url in apiserver.json")?.to_owned();
                return Ok(Self { _child: child, dir: dir.to_owned(), url });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the apiserver has ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the apiserver does not serve")
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.url.trim_start_matches("https://").parse().with_context(|| self.url.clone())
    }

    /// The folder of its certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The certificate of the kubelet of `node`.
    pub fn node(&self, node: &str) -> Identity {
        let file = |end: &str| self.pki().join(format!("system-node-{node}.{end}"));
        Identity::read(&file("crt"), &file("key"))
    }
}
