//! A real kubectl with one kubeconfig.

use crate::process::output;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// kubectl for one server and user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    config: PathBuf,
    websocket: bool,
}

impl Kubectl {
    /// kubectl with that kubeconfig.
    pub fn new(program: &Path, config: &Path) -> Kubectl {
        Kubectl { program: program.to_path_buf(), config: config.to_path_buf(), websocket: true }
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
        let mut command = Command::new(&self.program);
        // Its discovery cache would otherwise land in the user's home.
        let cache = self.config.with_extension("kubectl-cache");
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.websocket.to_string());
        command.arg("--kubeconfig").arg(&self.config).arg("--cache-dir").arg(cache).args(args);
        output(&mut command, input, LIMIT)
    }
}
