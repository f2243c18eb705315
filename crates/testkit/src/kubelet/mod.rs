//! A client that asks what a stock kubelet 1.34 asks, in its order, and "runs" pods in memory.
//!
//! It presents the node's certificate, takes protobuf first and sends protobuf, patches statuses with strategic
//! merge patches, lists and watches as client-go's reflectors do, and backs off as they do. A pod runs when its
//! Pod, Secrets, ConfigMaps and token are there, as with the real one; nothing is kept over [`Kubelet::power_cut`].

mod pods;
mod record;
mod reflector;
mod registration;
mod wire;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use pods::PodView;
pub use record::{Record, Sent};

use crate::{
    client::{Client, KUBELET_ACCEPT, Protocol},
    pki::Identity,
};
use pods::Pods;
use reflector::{Reflector, Reflectors};
use wire::Wire;

/// How the kubelet behaves.
#[derive(Clone, Debug)]
pub struct KubeletOptions {
    /// Its node.
    pub node: String,
    /// Where it sends its requests.
    pub server: String,
    /// The CA it trusts, PEM.
    pub ca_pem: String,
    /// Its client certificate.
    pub identity: Identity,
    /// Time between renewals of the lease (10 s in a real one).
    pub lease_interval: Duration,
    /// First wait after a failure; doubles (client-go: 0.8 s).
    pub backoff: Duration,
    /// Longest wait after a failure (client-go: 30 s).
    pub backoff_max: Duration,
    /// JSON only instead of protobuf.
    pub json: bool,
}

impl KubeletOptions {
    /// A kubelet of `node` at `server`, with the waits of client-go.
    pub fn new(node: &str, server: &str, ca_pem: &str, identity: &Identity) -> Self {
        Self {
            node: node.into(),
            server: server.into(),
            ca_pem: ca_pem.into(),
            identity: identity.clone(),
            lease_interval: Duration::from_secs(10),
            backoff: Duration::from_millis(800),
            backoff_max: Duration::from_secs(30),
            json: false,
        }
    }

    fn client(&self) -> Client {
        let accept = if self.json { "application/json" } else { KUBELET_ACCEPT };
        Client::new(&self.server, &self.ca_pem, Some(&self.identity), Protocol::Http2)
            .header("accept", accept)
            .header("user-agent", "kubelet/v1.34.4 (linux/amd64) kubernetes/testkit")
    }
}

/// A kubelet, on or off.
pub struct Kubelet {
    /// How it behaves from the next boot on.
    pub options: KubeletOptions,
    record: Arc<Record>,
    machine: Option<Arc<Machine>>,
    boots: u64,
}

/// What a kubelet holds between boot and power cut.
struct Machine {
    options: KubeletOptions,
    wire: Wire,
    off: CancellationToken,
    booted: Instant,
    boot: u64,
    reflectors: Reflectors,
    pods: Mutex<Pods>,
    changed: Notify,
    registered: CancellationToken,
    next_address: AtomicU64,
}

impl Kubelet {
    /// Off.
    pub fn new(options: KubeletOptions) -> Self {
        Self { options, record: Arc::default(), machine: None, boots: 0 }
    }

    /// Switches it on: it registers and runs its pods. Returns at once.
    pub fn boot(&mut self) {
        assert!(self.machine.is_none(), "the kubelet runs already");
        self.boots += 1;
        let machine = Arc::new(Machine {
            wire: Wire::new(&self.options, self.record.clone()),
            options: self.options.clone(),
            off: CancellationToken::new(),
            booted: Instant::now(),
            boot: self.boots,
            reflectors: Reflectors::default(),
            pods: Mutex::default(),
            changed: Notify::new(),
            registered: CancellationToken::new(),
            next_address: AtomicU64::new(1),
        });
        registration::begin(&machine);
        pods::begin(&machine);
        self.machine = Some(machine);
    }

    /// Switches it off without a word to anybody; everything in memory is lost.
    pub fn power_cut(&mut self) {
        if let Some(machine) = self.machine.take() {
            machine.off.cancel();
        }
    }

    /// All its pods as it sees them, by namespace and name; empty when it is off.
    pub fn pods(&self) -> Vec<PodView> {
        self.machine.as_ref().map(|m| m.pods.lock().unwrap().views()).unwrap_or_default()
    }

    /// Waits until `count` pods run; the time from the boot to the last of them. Errors: what is missing.
    pub async fn wait_running(&self, count: usize, bound: Duration) -> anyhow::Result<Duration> {
        let running = |pods: &[PodView]| pods.iter().filter(|p| p.running.is_some()).count() >= count;
        let pods = self.wait(bound, running).await?;
        let mut times: Vec<_> = pods.iter().filter_map(|p| p.running).collect();
        times.sort();
        Ok(times.get(count.saturating_sub(1)).copied().unwrap_or_default())
    }

    /// Waits until every pod's last status has been accepted. Errors: what is missing.
    pub async fn wait_reported(&self, bound: Duration) -> anyhow::Result<()> {
        self.wait(bound, |pods| pods.iter().all(|p| p.reported)).await.map(drop)
    }

    /// Waits until its pods are as `wanted`. Errors: how they are after `bound`.
    pub async fn wait(
        &self,
        bound: Duration,
        wanted: impl Fn(&[PodView]) -> bool,
    ) -> anyhow::Result<Vec<PodView>> {
        let machine = self.machine.as_ref().ok_or_else(|| anyhow::anyhow!("the kubelet is off"))?;
        let reached = async {
            loop {
                let changed = machine.changed.notified();
                let pods = self.pods();
                if wanted(&pods) {
                    return pods;
                }
                tokio::time::timeout(Duration::from_millis(50), changed).await.ok();
            }
        };
        let reached = tokio::time::timeout(bound, reached).await;
        reached.map_err(|_| {
            anyhow::anyhow!("after {bound:?}: {:#?}\n{}", self.pods(), self.record.last_errors(10))
        })
    }

    /// Waits until the node is registered and its status sent. Errors: the last failures.
    pub async fn wait_registered(&self, bound: Duration) -> anyhow::Result<Duration> {
        let machine = self.machine.as_ref().ok_or_else(|| anyhow::anyhow!("the kubelet is off"))?;
        let done = tokio::time::timeout(bound, machine.registered.cancelled()).await;
        done.map_err(|_| anyhow::anyhow!("not registered after {bound:?}\n{}", self.record.last_errors(10)))?;
        Ok(machine.booted.elapsed())
    }

    /// An object as its reflector holds it, by the plural of its collection ("secrets", "services").
    pub fn held(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.machine.as_ref()?.reflectors.find(plural, namespace, name)
    }

    /// What it has sent since it was made, over all boots.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.power_cut();
    }
}

impl Machine {
    /// Runs a task until the power is cut.
    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let off = self.off.clone();
        tokio::spawn(async move {
            off.run_until_cancelled(task).await;
        });
    }

    /// The reflector of a collection, started when it is new.
    fn reflect(self: &Arc<Self>, path: &str, selector: &str) -> Arc<Reflector> {
        let (reflector, new) = self.reflectors.get(path, selector);
        if new {
            let (machine, reflector) = (self.clone(), reflector.clone());
            self.spawn(async move { reflector.run(&machine).await });
        }
        reflector
    }

    /// The waits between attempts, without end.
    fn backoff(&self) -> impl Iterator<Item = Duration> + use<> {
        let longest = self.options.backoff_max;
        std::iter::successors(Some(self.options.backoff), move |d| Some((*d * 2).min(longest)))
    }

    fn note_change(&self) {
        self.changed.notify_waiters();
    }
}
