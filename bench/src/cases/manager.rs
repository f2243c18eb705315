//! yurt-controller-manager in a cluster of 1,000 nodes and 20,000 pods: its resident memory, and how fast it
//! writes when a pool of 100 nodes falls silent at once. The apiserver is a process of its own; the nodes are
//! this one, which renews their leases.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::kubeconfig::Target;
use yurt_testkit::objects;
use yurt_testkit::pki::Identity;

use super::Plan;
use crate::cloud::Cloud;
use crate::process::Memory;
use crate::report::Row;

const NODES: usize = 1000;
const PODS: usize = 20_000;
/// Nodes of the pool that falls silent, the first ones.
const POOL_NODES: usize = 100;
const POOL_PODS: usize = POOL_NODES * PODS / NODES;
/// A node renews its lease this often, and counts as silent after the grace period.
const RENEWAL: Duration = Duration::from_secs(8);
const GRACE: &str = "25s";
/// `--kube-api-qps` and `--kube-api-burst` at their defaults: the bound on writes.
const RATE: f64 = 50.0;
const BURST: f64 = 100.0;
const WINDOW: usize = 10;
const LIMIT: Duration = Duration::from_secs(240);

pub async fn rows(_plan: Plan) -> Result<Vec<Row>> {
    let folder = scratch()?;
    let outcome = measure(&folder).await;
    std::fs::remove_dir_all(&folder).ok();
    outcome
}

async fn measure(folder: &std::path::Path) -> Result<Vec<Row>> {
    let cloud = Cloud::start(folder, "admin", &cluster()).await?;
    let target = administrator(&cloud)?;
    let config = folder.join("kubeconfig");
    target.write(&config)?;
    let alive = Arc::new(AtomicUsize::new(0));
    let nodes = tokio::spawn(renew(target.client(Protocol::Http2), alive.clone()));
    let mut manager = Manager::start(&config).await?;
    manager.until("every pod is known", |m| m("pods") >= PODS as f64).await?;
    manager.until("nothing is left to write", |m| m("pending_writes") == 0.0).await?;
    let settled = Memory::settled(manager.pid()?).await;
    alive.store(POOL_NODES, Ordering::SeqCst);
    let silent = Instant::now();
    let (rate, protected) = manager.writes_until_protected(silent).await?;
    let outage = Memory::settled(manager.pid()?).await;
    nodes.abort();
    let name = "manager: memory with 1,000 nodes and 20,000 pods";
    Ok(vec![
        Row::limited(name, settled.megabytes(), "MB", 80.0).beside(settled.parts()),
        Row::limited(format!("{name}, a pool of 100 nodes silent"), outage.megabytes(), "MB", 80.0)
            .beside(outage.parts()),
        Row::limited("manager: writes when a pool falls silent, busiest 10 s", rate, "/s", bound())
            .beside(format!("{POOL_PODS} pods on {POOL_NODES} nodes; 50/s on average, 100 at once")),
        Row::told("manager: pool silent to all its pods protected", protected.as_secs_f64(), "s")
            .beside(format!("of it {GRACE} are the grace period")),
    ])
}

fn bound() -> f64 {
    RATE + BURST / WINDOW as f64
}

fn scratch() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("yurt-bench-manager-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn administrator(cloud: &Cloud) -> Result<Target> {
    let file = |name: &str| cloud.pki().join(name);
    Ok(Target {
        base: cloud.url.clone(),
        ca_pem: std::fs::read_to_string(file("ca.crt"))?,
        identity: Some(Identity::read(&file("kubernetes-admin.crt"), &file("kubernetes-admin.key"))),
        token: String::new(),
    })
}

fn node(n: usize) -> String {
    format!("node-{n}")
}

/// Nodes of ten pools, autonomous for a day, with pods that tolerate as much already.
fn cluster() -> Vec<Value> {
    let nodes = (0..NODES).flat_map(|n| {
        let mut node = objects::node(&node(n));
        node["metadata"]["labels"]["apps.openyurt.io/nodepool"] = format!("pool-{}", n / POOL_NODES).into();
        node["metadata"]["annotations"]["node.openyurt.io/autonomy-duration"] = "24h".into();
        [node, objects::lease(&self::node(n))]
    });
    nodes.chain((0..PODS).map(pod)).collect()
}

fn pod(n: usize) -> Value {
    let mut pod = super::pod(&format!("web-{n}"), 0);
    pod["spec"]["nodeName"] = node(n % NODES).into();
    let tolerates = |taint: &str| {
        json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists",
            "effect": "NoExecute", "tolerationSeconds": 86_400})
    };
    pod["spec"]["tolerations"] = json!([tolerates("not-ready"), tolerates("unreachable")]);
    for taint in ["not-ready", "unreachable"] {
        let key = format!("apps.openyurt.io/original-{taint}-toleration-duration");
        pod["metadata"]["annotations"][key] = "300".into();
    }
    pod["status"] = json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
        "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0}],
    });
    pod
}

/// Renews the lease of every node from the first one that is alive on, evenly over the time.
async fn renew(client: Client, alive: Arc<AtomicUsize>) {
    for turn in 0_u64.. {
        let round = Instant::now();
        for n in alive.load(Ordering::SeqCst)..NODES {
            let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", node(n));
            let patch = json!({"spec": {"renewTime": format!("2026-01-01T00:00:00.{turn:06}Z")}});
            client.patch(&path, "merge-patch", &patch).await.ok();
            let due = RENEWAL.mul_f64(n as f64 / NODES as f64);
            tokio::time::sleep(due.saturating_sub(round.elapsed())).await;
        }
        tokio::time::sleep(RENEWAL.saturating_sub(round.elapsed())).await;
    }
}

/// The running binary. It ends with this value.
struct Manager {
    child: Child,
    address: String,
}

impl Manager {
    async fn start(config: &std::path::Path) -> Result<Self> {
        let mut command = Command::new(yurt_testkit::cluster::manager());
        command.arg("--kubeconfig").arg(config).args(["--bind-address=127.0.0.1", "--port=0"]);
        command.args(["--leader-elect=false", "--node-monitor-grace-period", GRACE]);
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let address = loop {
            let line = lines.next_line().await?.context("the manager has ended")?;
            if let Some((_, address)) = line.split_once("are served address=") {
                break address.to_owned();
            }
        };
        // The pipe is read to its end, so that the manager never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address })
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the manager has ended")
    }

    /// The page of `/metrics`; HTTP/1.0, so that its end is that of the connection.
    async fn page(&mut self) -> Result<String> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the manager has ended: {status}");
        }
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page)
    }

    /// Waits until the metrics, given by name, fulfil the condition.
    async fn until(&mut self, what: &str, met: impl Fn(&dyn Fn(&str) -> f64) -> bool) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            let page = self.page().await?;
            if met(&|name| value(&page, name)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("not within {} s: {what}", LIMIT.as_secs())
    }

    /// Writes a second in the busiest window, and how long it took until all pods of the pool were protected.
    async fn writes_until_protected(&mut self, silent: Instant) -> Result<(f64, Duration)> {
        let mut counted = Vec::new();
        while silent.elapsed() < LIMIT {
            let page = self.page().await?;
            counted.push((silent.elapsed().as_secs_f64(), value(&page, "writes_total")));
            if value(&page, "protected_pods") >= POOL_PODS as f64 && value(&page, "pending_writes") == 0.0 {
                ensure!(counted.len() > 1, "all were protected at once");
                return Ok((busiest(&counted), silent.elapsed()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bail!("the pool's pods are not protected after {} s", LIMIT.as_secs())
    }
}

/// The most a second between two counts that are a window apart or more.
fn busiest(counted: &[(f64, f64)]) -> f64 {
    let rate = |(i, (from, before)): (usize, &(f64, f64))| {
        let (to, after) = counted[i..].iter().find(|(at, _)| at - from >= WINDOW as f64).or(counted.last())?;
        Some((after - before) / (to - from).max(WINDOW as f64))
    };
    counted.iter().enumerate().filter_map(rate).fold(0.0, f64::max)
}

/// The sum of the series of a metric, by its name without the prefix.
fn value(page: &str, name: &str) -> f64 {
    let series = page.lines().filter_map(|line| line.strip_prefix("yurt_manager_")?.strip_prefix(name));
    series
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_series() {
        let page = "# HELP\nyurt_manager_pods 7\nyurt_manager_pods_of 9\n\
            yurt_manager_writes_total{kind=\"pod\"} 2\nyurt_manager_writes_total{kind=\"node\"} 3\n";
        assert_eq!((value(page, "pods"), value(page, "writes_total"), value(page, "none")), (7.0, 5.0, 0.0));
    }

    #[test]
    fn the_busiest_window_is_found() {
        let counted: Vec<(f64, f64)> =
            (0..40).map(|s| (f64::from(s), if s < 20 { 0.0 } else { f64::from(s - 20) * 50.0 })).collect();
        assert!((busiest(&counted) - 50.0).abs() < 1e-9, "{}", busiest(&counted));
    }
}
