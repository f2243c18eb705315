//! Scenario 3: a node that boots with no cloud gets new pod addresses. Its EndpointSlices, a real kube-proxy and
//! clients like CoreDNS follow within seconds; when the cloud is back its truth takes over with no gap. And while
//! there is a cloud, all of them cost it one watch.

use crate::client_go::ClientGo;
use crate::container;
use crate::link::{self, Cut};
use crate::node::Through;
use crate::process::{Program, Running, quick};
use crate::slices::{Addresses, View};
use crate::wait::until;
use crate::workload::{NAMESPACE, PODS, REPLICAS};
use crate::world::{HOMECOMING, SETTLE, World};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Figure of the scenario.
const FOLLOWED: Duration = Duration::from_secs(5);
const CLIENTS: usize = 3;
/// Answers of a Service in a row; one dead endpoint among ten is met with all but certainty.
const IN_A_ROW: usize = 60;
const KIND: &str = "endpointslices";

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    let (config, _) = world.operator_configs()?;
    let view = View::new(world)?;
    let outcome = one_upstream_watch(world, &config).and_then(|()| story(world, &config, &view));
    // The next case finds no rules of a kube-proxy.
    quick("iptables", &["-w", "5", "-t", "nat", "-F"])?;
    world.disturbed();
    outcome
}

/// Several clients of Services and EndpointSlices cost the apiserver one watch each of the two.
fn one_upstream_watch(world: &World, config: &Path) -> Result<()> {
    let before = (watches(world, KIND)?, watches(world, "services")?);
    let mut clients = informers(world, config, CLIENTS)?;
    let mut proxy = proxy(world, config)?;
    serves(world, &mut proxy).context("kube-proxy online")?;
    until("every client to share one upstream watch", SETTLE, || {
        for client in &mut clients {
            is_synced(client)?;
        }
        let more = (watches(world, KIND)? - before.0, watches(world, "services")? - before.1);
        if more.0 <= 1.0 && more.1 <= 1.0 { Ok(()) } else { bail!("{more:?} more watches at the apiserver") }
    })
}

fn story(world: &mut World, config: &Path, view: &View) -> Result<()> {
    // What nobody read online nobody may read offline.
    view.follow().context("online")?;
    let old = view.slices()?;
    if old.len() != REPLICAS {
        bail!("{} of {REPLICAS} addresses are ready online", old.len());
    }
    world.dark()?;
    link::cut(Cut::BlackHole)?;
    quick("iptables", &["-w", "5", "-t", "nat", "-F"])?;
    world.node.start_hub()?;
    let mut follow = until("the hub to answer", SETTLE, || view.follow())?;
    let mut proxy = proxy(world, config)?;
    world.node.boot(Through::Hub, PODS)?;
    let new = follow.until_pods_are_in(view)?;
    if new == old {
        bail!("the reboot changed no address, so there was nothing to follow");
    }
    world.report.seconds("endpoints, pod ready to its address in the slice", follow.slowest, Some(FOLLOWED));
    let start = Instant::now();
    serves(world, &mut proxy).context("kube-proxy offline")?;
    world.report.seconds("endpoints, kube-proxy answers with new addresses", start.elapsed(), None);
    drop(proxy);
    starts_after(world, config, view, &new)?;
    link::heal()?;
    let events = follow.takes_over(world, view, &new)?;
    world.report.count("endpoints, events until the slice is the cloud's", events);
    if follow.slowest > FOLLOWED {
        bail!("an address came {:.1} s after its pod was ready", follow.slowest.as_secs_f64());
    }
    world.agree(PODS, HOMECOMING).map(drop)
}

/// Clients that start after the change see it from the first list on.
fn starts_after(world: &World, config: &Path, view: &View, new: &Addresses) -> Result<()> {
    let mut late = informers(world, config, 1)?;
    until("a late client to have begun", SETTLE, || late.iter_mut().try_for_each(is_synced))?;
    if view.slices()? != *new {
        bail!("a list after the change says {:?} and not {new:?}", view.slices()?);
    }
    let mut late = proxy(world, config)?;
    serves(world, &mut late).context("kube-proxy started after the change")
}

fn informers(world: &World, config: &Path, count: usize) -> Result<Vec<ClientGo>> {
    let flags = [
        format!("--through={}", config.display()),
        format!("--direct={}", world.cluster.admin_config.display()),
        format!("--kinds=services,{KIND}"),
        "--forms=protobuf".to_string(),
    ];
    let start = |_| {
        let logs = world.settings.run.join("logs/clientgo.log");
        let mut client = ClientGo::start(&world.settings.client_go, false, &flags, &logs)?;
        client.begin()?;
        Ok(client)
    };
    (0..count).map(start).collect()
}

fn is_synced(client: &mut ClientGo) -> Result<()> {
    match client.state()?.into_iter().find(|(_, informer)| !informer.synced) {
        Some((name, informer)) => bail!("{name} has not begun: {:?}", informer.failed),
        None => Ok(()),
    }
}

/// A real kube-proxy whose API is the hub.
fn proxy(world: &World, config: &Path) -> Result<Running> {
    let flags = [
        format!("--kubeconfig={}", config.display()),
        format!("--hostname-override={}", container::NODE_NAME),
        format!("--bind-address={}", container::NODE_ADDRESS),
        "--proxy-mode=iptables".to_string(),
        // These are sysctls of the whole machine.
        "--conntrack-max-per-core=0".to_string(),
        "--conntrack-tcp-timeout-established=0".to_string(),
        "--conntrack-tcp-timeout-close-wait=0".to_string(),
    ];
    let logs = world.settings.run.join("logs");
    Running::start(Program::new(&world.cluster.programs.join("kube-proxy"), &logs, flags))
}

/// Waits until the Service's address answers so often in a row that no dead endpoint is left among its own.
fn serves(world: &World, proxy: &mut Running) -> Result<()> {
    let service = world.cluster.admin.object(&format!("/api/v1/namespaces/{NAMESPACE}/services/web"))?;
    let address = service["spec"]["clusterIP"].as_str().context("the Service has no address")?;
    let address = SocketAddr::new(address.parse()?, 80);
    until("the Service to answer", SETTLE, || {
        proxy.check()?;
        (0..IN_A_ROW).try_for_each(|_| ask(address))
    })
}

fn ask(address: SocketAddr) -> Result<()> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, limit).with_context(|| format!("at {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("hello") { Ok(()) } else { bail!("it says {answer:?}") }
}

/// Watches of that resource that are open at the apiserver.
fn watches(world: &World, resource: &str) -> Result<f64> {
    let answer = world.cluster.admin.get("/metrics")?;
    let text = String::from_utf8_lossy(answer.success()?.body.as_slice()).into_owned();
    let wanted = format!("resource=\"{resource}\"");
    text.lines()
        .filter(|line| line.starts_with("apiserver_longrunning_requests{"))
        .filter(|line| line.contains(&wanted) && line.contains("verb=\"WATCH\""))
        .map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().context("a metric"))
        .sum()
}
