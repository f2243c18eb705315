//! A real kubectl with one kubeconfig.

use crate::process::{lines, output};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// kubectl for one server and user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    config: PathBuf,
    /// Its discovery cache would otherwise land in the user's home.
    cache: PathBuf,
    websocket: bool,
}

/// A kubectl that goes on printing; it ends when dropped.
pub struct Follow {
    child: Child,
    printed: Receiver<String>,
}

impl Follow {
    /// The lines that it has printed since it was asked last.
    pub fn printed(&self) -> Vec<String> {
        self.printed.try_iter().collect()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kubectl {
    /// kubectl with that kubeconfig.
    pub fn new(program: &Path, config: &Path) -> Kubectl {
        let cache = config.with_extension("kubectl-cache");
        Kubectl { program: program.to_path_buf(), config: config.to_path_buf(), cache, websocket: true }
    }

    /// The same, with a discovery cache of its own, which nobody has filled yet.
    #[must_use]
    pub fn with_empty_cache(&self, name: &str) -> Kubectl {
        Kubectl { cache: self.config.with_extension(format!("kubectl-cache-{name}")), ..self.clone() }
    }

    /// The same, with exec over SPDY as before Kubernetes 1.31.
    #[must_use]
    pub fn with_spdy(&self) -> Kubectl {
        Kubectl { websocket: false, ..self.clone() }
    }

    /// Runs it and returns what it printed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.with_input(args, "")
    }

    /// Applies objects, given as JSON or YAML.
    pub fn apply(&self, objects: &str) -> Result<String> {
        self.with_input(&["apply", "-f", "-"], objects)
    }

    /// Runs it with this on its standard input and returns what it printed.
    pub fn with_input(&self, args: &[&str], input: &str) -> Result<String> {
        output(&mut self.command(args), input, LIMIT)
    }

    /// Starts it and leaves it running.
    pub fn follow(&self, args: &[&str]) -> Result<Follow> {
        let mut child = self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let printed = lines(child.stdout.take().context("no standard output")?);
        Ok(Follow { child, printed })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.websocket.to_string());
        command.arg("--kubeconfig").arg(&self.config).arg("--cache-dir").arg(&self.cache).args(args);
        command
    }
}
