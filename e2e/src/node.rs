//! The edge node: containerd, the hub and the kubelet, started together as at a boot, and the power cut
//! that ends them and everything they started in the same moment.

use crate::cluster::{Cluster, flag, over_the_link};
use crate::process::{Program, Running, Supervised, quick};
use crate::settings::Settings;
use crate::wait::until;
use crate::{cgroup, container, files, image};
use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The hub's port for clients.
pub const HUB_PORT: u16 = 10268;
/// The hub's port for health, metrics and status.
pub const HUB_ADMIN_PORT: u16 = 10267;

const CONTAINERD: &str = "/usr/bin/containerd";
/// The longest that a boot may take before a case gives up.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// How often a boot looks for containers, and so how exact its times are.
const LOOK: Duration = Duration::from_millis(20);

/// What the kubelet talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// The apiserver over the link, as on any node without a hub.
    Cloud,
    /// The hub.
    Hub,
}

/// How long a boot took, from the start of its first process.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// Until the first application container ran.
    pub first: Duration,
    /// Until all of them ran.
    pub all: Duration,
}

/// The node; its processes end when dropped.
pub struct Node {
    folder: PathBuf,
    logs: PathBuf,
    programs: PathBuf,
    hub_flags: Program,
    cloud_config: PathBuf,
    hub_config: PathBuf,
    /// The processes that are not the node's: init, this one and the control plane.
    spared: BTreeSet<i32>,
    containerd: Option<Running>,
    hub: Option<Running>,
    kubelet: Option<Supervised>,
}

impl Node {
    /// Writes the node's configuration and loads its images; nothing runs afterwards.
    pub fn install(settings: &Settings, cluster: &Cluster, logs: &Path) -> Result<Node> {
        let folder = settings.run.join("node");
        let hub_root = settings.run.join("hub");
        files::folder(&folder.join("manifests"))?;
        write_configuration(&folder, cluster, settings)?;
        let pki = &cluster.pki;
        let server = format!("https://127.0.0.1:{HUB_PORT}");
        let node = Node {
            hub_flags: Program::new(&settings.hub, logs, hub_flags(cluster, &hub_root)),
            cloud_config: pki.kubeconfig(
                "kubelet.conf",
                "kubelet",
                &over_the_link(),
                &pki.certificate("ca"),
            )?,
            hub_config: pki.kubeconfig(
                "kubelet-hub.conf",
                "kubelet",
                &server,
                &hub_root.join("pki/ca.crt"),
            )?,
            programs: cluster.programs.clone(),
            logs: logs.to_path_buf(),
            spared: spared(cluster)?,
            folder,
            containerd: None,
            hub: None,
            kubelet: None,
        };
        node.load_images()?;
        Ok(node)
    }

    /// Says anew which processes are the control plane's, after one of them was started again.
    pub fn spare(&mut self, cluster: &Cluster) -> Result<()> {
        self.spared = spared(cluster)?;
        Ok(())
    }

    /// The folder of static pods.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// The certificate authority that the hub made for itself.
    pub fn hub_authority(&self) -> PathBuf {
        hub_authority(&self.hub_flags)
    }

    /// Starts everything (a hub that runs stays) and waits until `count` application containers run.
    pub fn boot(&mut self, through: Through, count: usize) -> Result<Boot> {
        let start = Instant::now();
        self.containerd = Some(self.start_containerd()?);
        if through == Through::Hub && self.hub.is_none() {
            self.start_hub()?;
        }
        self.start_kubelet(through);
        let mut first = None;
        loop {
            let running = container::running().len();
            if running > 0 {
                first.get_or_insert_with(|| start.elapsed());
            }
            if let (Some(first), true) = (first, running >= count) {
                return Ok(Boot { first, all: start.elapsed() });
            }
            if start.elapsed() > BOOT_LIMIT {
                bail!("{running} of {count} containers run {} s after the boot", BOOT_LIMIT.as_secs());
            }
            self.check()?;
            std::thread::sleep(LOOK);
        }
    }

    /// Starts the hub alone. On its very first start this waits for the authority that it makes, which the
    /// kubelet's configuration names.
    pub fn start_hub(&mut self) -> Result<()> {
        self.hub = Some(Running::start(self.hub_flags.clone())?);
        let authority = self.hub_authority();
        until("the hub's own certificate authority", Duration::from_secs(10), || {
            self.check()?;
            std::fs::metadata(&authority).map(drop).with_context(|| format!("{}", authority.display()))
        })
    }

    /// Kills the hub as a crash would and starts it again; the rest of the node goes on.
    pub fn crash_hub(&mut self) -> Result<()> {
        self.hub = None;
        self.start_hub()
    }

    /// An error when containerd or the hub has ended.
    pub fn check(&mut self) -> Result<()> {
        self.containerd.as_mut().map_or(Ok(()), Running::check)?;
        self.hub.as_mut().map_or(Ok(()), Running::check)
    }

    /// Cuts the power: every process of the node dies at once and what lives in memory is gone.
    pub fn power_cut(&mut self) -> Result<()> {
        self.kubelet = None;
        self.hub = None;
        self.containerd = None;
        kill_all_but(&self.spared)?;
        unmount_below("/run")?;
        unmount_below("/var/lib/kubelet")?;
        empty(Path::new("/run"))?;
        remove_interfaces()?;
        cgroup::remove()?;
        cgroup::create()
    }

    fn start_containerd(&self) -> Result<Running> {
        let flags = ["--config".to_string(), self.folder.join("containerd.toml").display().to_string()];
        Running::start(Program::new(Path::new(CONTAINERD), &self.logs, flags))
    }

    fn start_kubelet(&mut self, through: Through) {
        let config = match through {
            Through::Cloud => &self.cloud_config,
            Through::Hub => &self.hub_config,
        };
        let flags = [
            flag("config", &self.folder.join("kubelet.json")),
            flag("kubeconfig", config),
            format!("--hostname-override={}", container::NODE_NAME),
            format!("--node-ip={}", container::NODE_ADDRESS),
            "--v=2".to_string(),
        ];
        self.kubelet =
            Some(Supervised::start(Program::new(&self.programs.join("kubelet"), &self.logs, flags)));
    }

    fn load_images(&self) -> Result<()> {
        let mut containerd = self.start_containerd()?;
        until("containerd to answer", Duration::from_secs(30), || {
            containerd.check()?;
            quick("ctr", &["version"])
        })?;
        for file in image::write_all(&self.folder.join("images"))? {
            quick("ctr", &["-n", "k8s.io", "images", "import", &file.display().to_string()])?;
        }
        Ok(())
    }
}

fn spared(cluster: &Cluster) -> Result<BTreeSet<i32>> {
    let ours = [1, std::process::id()].into_iter().chain(cluster.processes());
    Ok(ours.map(i32::try_from).collect::<Result<_, _>>()?)
}

fn hub_authority(hub: &Program) -> PathBuf {
    let root = hub.args.iter().find_map(|flag| flag.strip_prefix("--root-dir=")).unwrap_or_default();
    Path::new(root).join("pki/ca.crt")
}

fn hub_flags(cluster: &Cluster, root: &Path) -> Vec<String> {
    vec![
        format!("--node-name={}", container::NODE_NAME),
        format!("--server-addr={}", over_the_link()),
        flag("root-dir", root),
        format!("--proxy-secure-port={HUB_PORT}"),
        format!("--serve-port={HUB_ADMIN_PORT}"),
        "--bind-proxy-address=127.0.0.1".to_string(),
        flag("ca-file", &cluster.pki.certificate("ca")),
        flag("client-cert", &cluster.pki.certificate("kubelet")),
        flag("client-key", &cluster.pki.key("kubelet")),
    ]
}

fn write_configuration(folder: &Path, cluster: &Cluster, settings: &Settings) -> Result<()> {
    files::folder(&folder.join("cni"))?;
    files::write(&folder.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    files::write(&folder.join("cni/10-edge.conflist"), serde_json::to_vec_pretty(&cni())?)?;
    files::write(&folder.join("containerd.toml"), containerd_config(folder, snapshotter(&settings.run)?))?;
    files::write(&folder.join("kubelet.json"), serde_json::to_vec_pretty(&kubelet_config(folder, cluster))?)
}

fn cni() -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "edge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Overlay file systems do not stack: on one of them containerd has to copy.
fn snapshotter(run: &Path) -> Result<&'static str> {
    let kind = quick("stat", &["-f", "-c", "%T", &run.display().to_string()])?;
    Ok(if kind.trim() == "overlayfs" { "native" } else { "overlayfs" })
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc cannot lower a score below its own.
/// The `opt` plugin would make a folder in /opt of the machine.
fn containerd_config(folder: &Path, snapshotter: &str) -> String {
    let cri = r#"plugins."io.containerd.grpc.v1.cri""#;
    format!(
        r#"version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
[{cri}]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [{cri}.containerd]
    snapshotter = "{snapshotter}"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"#,
        pause = image::PAUSE,
        cni = folder.join("cni").display(),
    )
}

fn kubelet_config(folder: &Path, cluster: &Cluster) -> serde_json::Value {
    let pki = &cluster.pki;
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.certificate("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.certificate("kubelet"),
        "tlsPrivateKeyFile": pki.key("kubelet"),
        "staticPodPath": folder.join("manifests"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "volumePluginDir": folder.join("volume-plugins"),
        "resolvConf": folder.join("resolv.conf"),
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup::NAME),
        "failCgroupV1": false,
        "failSwapOn": false,
        // A full disk or a small machine is not what is tested.
        "evictionHard": {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "10Mi"},
        "imageGCHighThresholdPercent": 100,
    })
}

/// Kills every process but those: the node's programs, whatever they started, and the containers.
fn kill_all_but(spared: &BTreeSet<i32>) -> Result<()> {
    until("the node's processes to end", Duration::from_secs(20), || {
        let victims: Vec<Pid> = container::processes()
            .into_iter()
            .filter(|id| {
                !spared.contains(&id.as_raw_pid()) && !container::command(id.as_raw_pid()).is_empty()
            })
            .collect();
        for victim in &victims {
            let _ = kill_process(*victim, Signal::KILL);
        }
        if victims.is_empty() { Ok(()) } else { bail!("{} processes are left", victims.len()) }
    })
}

/// Detaches every mount below a folder, the newest first; the folder itself may be a mount and stays.
pub fn unmount_below(folder: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let inside = format!("{folder}/");
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    for place in places.filter(|place| place.starts_with(&inside)) {
        unmount(place, UnmountFlags::DETACH).with_context(|| format!("unmounting {place}"))?;
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let removed = match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Pod interfaces go with their namespaces, but a moment later; the bridge would stay.
fn remove_interfaces() -> Result<()> {
    let listed = quick("ip", &["-o", "link", "show"])?;
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    for name in names.filter(|name| name.starts_with("veth") || *name == "cni0") {
        // It may have gone with its peer by now.
        let _ = quick("ip", &["link", "del", name]);
    }
    Ok(())
}
