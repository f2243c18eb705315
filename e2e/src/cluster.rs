//! The cloud side: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, all real. The run has
//! its network to itself, so the usual ports are free.

use crate::client::{Client, Identity};
use crate::pki::Pki;
use crate::process::{Program, Running};
use crate::settings::Settings;
use crate::wait::until;
use crate::{container, files, link};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where administrators and the control plane itself reach the apiserver, link or no link.
pub const LOCAL: &str = "https://127.0.0.1:6443";
/// The apiserver's port on every address.
pub const PORT: u16 = 6443;
const ETCD: &str = "http://127.0.0.1:2379";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const COMPONENTS: [&str; 5] =
    ["kube-apiserver", CONTROLLER_MANAGER, "kube-scheduler", "kubelet", "kube-proxy"];

/// A running control plane; it ends when dropped.
pub struct Cluster {
    /// The cluster's certificates.
    pub pki: Pki,
    /// An administrator's client, straight to the apiserver.
    pub admin: Client,
    /// An administrator's kubeconfig.
    pub admin_config: PathBuf,
    /// The folder with one name per Kubernetes component.
    pub programs: PathBuf,
    logs: PathBuf,
    running: Vec<Running>,
}

impl Cluster {
    /// Starts the control plane and waits until it is ready.
    pub fn start(settings: &Settings, logs: &Path) -> Result<Cluster> {
        let run = &settings.run;
        let pki = Pki::create(&run.join("pki"), container::NODE_NAME, container::NODE_ADDRESS)?;
        let programs = name_components(run, &settings.kubernetes)?;
        let admin_config = pki.kubeconfig("admin.conf", "admin", LOCAL, &pki.certificate("ca"))?;
        let identity = Identity::certificate(&pki, "admin")?;
        let admin = Client::new("127.0.0.1", PORT, &pki.certificate("ca"), &identity)?;
        let logs = logs.to_path_buf();
        let mut cluster = Cluster { pki, admin, admin_config, programs, logs, running: Vec::new() };
        cluster.run(Program::new(&settings.etcd, &cluster.logs, etcd_flags(&run.join("etcd"))))?;
        cluster.component("kube-apiserver", apiserver_flags(&cluster.pki))?;
        cluster.wait_until_ready()?;
        let flags = controller_manager_flags(&cluster.pki)?;
        cluster.component(CONTROLLER_MANAGER, flags)?;
        let flags = scheduler_flags(&cluster.pki)?;
        cluster.component("kube-scheduler", flags)?;
        Ok(cluster)
    }

    /// An error when a component has ended.
    pub fn check(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(Running::check)
    }

    /// The process ids of the control plane.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.running.iter().map(Running::id)
    }

    /// Starts the controller manager anew, with these flags after its usual ones. A node's power cut spares
    /// the new process once `Node::spare` was told.
    pub fn restart_controller_manager(&mut self, more: &[String]) -> Result<()> {
        let path = self.programs.join(CONTROLLER_MANAGER);
        self.running.retain(|running| running.program().path != path);
        let mut flags = controller_manager_flags(&self.pki)?;
        flags.extend_from_slice(more);
        self.component(CONTROLLER_MANAGER, flags)
    }

    fn component(&mut self, name: &str, flags: Vec<String>) -> Result<()> {
        self.run(Program::new(&self.programs.join(name), &self.logs, flags))
    }

    fn run(&mut self, program: Program) -> Result<()> {
        self.running.push(Running::start(program)?);
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        until("the apiserver to be ready", Duration::from_secs(90), || {
            self.running.iter_mut().try_for_each(Running::check)?;
            let answer = self.admin.get("/readyz")?;
            if answer.status != 200 {
                bail!("/readyz says {}: {}", answer.status, answer.text());
            }
            Ok(())
        })
    }
}

fn name_components(run: &Path, binary: &Path) -> Result<PathBuf> {
    let folder = run.join("bin");
    files::folder(&folder)?;
    for name in COMPONENTS {
        symlink(binary, folder.join(name)).with_context(|| format!("naming {name}"))?;
    }
    Ok(folder)
}

/// A flag whose value is a path.
pub fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn etcd_flags(data: &Path) -> Vec<String> {
    vec![
        flag("data-dir", data),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // The data ends with the run.
        "--unsafe-no-fsync".into(),
    ]
}

fn apiserver_flags(pki: &Pki) -> Vec<String> {
    let mut flags = vec![
        format!("--etcd-servers={ETCD}"),
        format!("--secure-port={PORT}"),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={}", container::NODE_ADDRESS),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        // There is no name service that knows the node.
        "--kubelet-preferred-address-types=InternalIP".into(),
    ];
    flags.extend([
        flag("tls-cert-file", &pki.certificate("apiserver")),
        flag("tls-private-key-file", &pki.key("apiserver")),
        flag("client-ca-file", &pki.certificate("ca")),
        flag("kubelet-client-certificate", &pki.certificate("apiserver-kubelet-client")),
        flag("kubelet-client-key", &pki.key("apiserver-kubelet-client")),
        flag("service-account-key-file", &pki.public("service-accounts")),
        flag("service-account-signing-key-file", &pki.key("service-accounts")),
    ]);
    flags
}

fn controller_manager_flags(pki: &Pki) -> Result<Vec<String>> {
    let mut flags = client_flags(pki, "controller-manager")?;
    flags.extend([
        flag("service-account-private-key-file", &pki.key("service-accounts")),
        flag("root-ca-file", &pki.certificate("ca")),
        flag("cluster-signing-cert-file", &pki.certificate("ca")),
        flag("cluster-signing-key-file", &pki.key("ca")),
        "--use-service-account-credentials=true".into(),
        "--allocate-node-cidrs=true".into(),
        "--cluster-cidr=10.244.0.0/16".into(),
    ]);
    Ok(flags)
}

fn scheduler_flags(pki: &Pki) -> Result<Vec<String>> {
    client_flags(pki, "scheduler")
}

fn client_flags(pki: &Pki, name: &str) -> Result<Vec<String>> {
    let config = pki.kubeconfig(&format!("{name}.conf"), name, LOCAL, &pki.certificate("ca"))?;
    Ok(vec![
        flag("kubeconfig", &config),
        flag("authentication-kubeconfig", &config),
        flag("authorization-kubeconfig", &config),
        "--leader-elect=false".into(),
    ])
}

/// The address that the node's components use, over the link that can be cut.
pub fn over_the_link() -> String {
    format!("https://{}:{PORT}", link::CLOUD)
}
