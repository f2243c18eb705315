//! What a run works with: the command line, then the paths that follow from it.

use crate::{binaries, cases};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Debian packages' files that a run needs; `.ci/install` brings each of them.
const TOOLS: [&str; 8] = [
    "/usr/bin/containerd",
    "/usr/bin/ctr",
    "/usr/sbin/runc",
    "/usr/lib/cni/bridge",
    "/bin/busybox",
    "/usr/sbin/iptables",
    "/usr/bin/unshare",
    "/usr/bin/mount",
];

/// Options of `e2e run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// The hub's binary; without it cargo builds crates/hub.
    #[arg(long, value_name = "PATH")]
    hub: Option<PathBuf>,
    /// The controller manager's binary; without it cargo builds crates/controller-manager.
    #[arg(long, value_name = "PATH")]
    manager: Option<PathBuf>,
    /// Runs only the cases whose name contains this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Boots of each kind that the timing takes the median of.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    boots: u32,
    /// Leaves the cluster running at the end, until a key is pressed, and says how to reach it.
    #[arg(long)]
    keep: bool,
}

/// What the processes of one run hand to each other, as a JSON file in the run's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The run's own folder: logs, certificates, data.
    pub run: PathBuf,
    /// The file of figures for scripts.
    pub report: PathBuf,
    /// Taken while a run goes on: two at once would share the cgroups.
    pub lock: PathBuf,
    /// The binary that is every Kubernetes component.
    pub kubernetes: PathBuf,
    /// The etcd server.
    pub etcd: PathBuf,
    /// Informers of client-go.
    pub client_go: PathBuf,
    /// The checks that say what an apiserver does; built only when the case is wanted.
    pub conformance: Option<PathBuf>,
    /// Upstream's API-machinery specs; built only when the case is wanted.
    pub specs: Option<PathBuf>,
    /// A real kubectl.
    pub kubectl: PathBuf,
    /// The hub under test.
    pub hub: PathBuf,
    /// The controller manager under test.
    pub manager: PathBuf,
    /// The folder of its manifests.
    pub deploy: PathBuf,
    /// Parts of the names of the cases to run; empty for all.
    pub only: Vec<String>,
    /// Boots of each kind in the timing.
    pub boots: u32,
    /// Whether the cluster is left running at the end.
    pub keep: bool,
    /// The process id of `run` outside the namespaces, for whoever wants in.
    pub outside: u32,
}

impl Settings {
    /// The file that holds these settings.
    pub fn file(&self) -> PathBuf {
        self.run.join("settings.json")
    }
}

/// Checks the machine, builds what is missing and makes the run's folder.
pub fn prepare(args: &RunArgs) -> Result<Settings> {
    check_machine()?;
    let top = workspace();
    let cache = binaries::cache()?;
    let kubernetes = binaries::go(&top.join("e2e/kubernetes"), "kubernetes", &cache)?;
    let etcd = binaries::go(&top.join("e2e/etcd"), "etcd", &cache)?;
    let client_go = binaries::go(&top.join("e2e/clientgo"), "clientgo", &cache)?;
    let wanted = |case: &str| cases::is_wanted(&args.only, case);
    let specs =
        wanted(cases::SPECS).then(|| binaries::go(&top.join("e2e/specs"), "specs", &cache)).transpose()?;
    let hub = given_or_built(args.hub.as_deref(), &top, "yurt-hub", "yurthub")?;
    let manager = "yurt-controller-manager";
    let manager = given_or_built(args.manager.as_deref(), &top, manager, manager)?;
    let conformance = wanted(cases::CONFORMANCE)
        .then(|| binaries::cargo_test(&top, "yurt-testkit", "conformance"))
        .transpose()?;
    let settings = Settings {
        run: top.join("target/e2e").join(run_name()),
        report: top.join("target/report/e2e.json"),
        lock: cache.join("e2e.lock"),
        kubectl: binaries::kubectl(&cache)?,
        only: args.only.clone(),
        boots: args.boots,
        keep: args.keep,
        outside: std::process::id(),
        kubernetes,
        etcd,
        client_go,
        conformance,
        specs,
        hub,
        manager,
        deploy: top.join("deploy"),
    };
    std::fs::create_dir_all(&settings.run)?;
    std::fs::write(settings.file(), serde_json::to_vec_pretty(&settings)?)?;
    Ok(settings)
}

fn given_or_built(given: Option<&Path>, top: &Path, package: &str, binary: &str) -> Result<PathBuf> {
    match given {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string()),
        None => binaries::cargo(top, package, binary),
    }
}

/// Reads the settings that `run` left for the processes inside.
pub fn load(file: &Path) -> Result<Settings> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", file.display()))
}

fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("root is needed: containers, network and mount namespaces are made");
    }
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| !Path::new(tool).exists()).collect();
    if !missing.is_empty() {
        bail!("missing {}: run .ci/install", missing.join(", "));
    }
    Ok(())
}

/// The top of the source tree, where this crate was built.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn run_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", since.as_secs(), std::process::id())
}
