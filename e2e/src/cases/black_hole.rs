//! Scenario 6: packets vanish while a watch is open. Reads go on, the hub notices, the stream stays, and
//! what happened meanwhile arrives once after the link is back.

use crate::client::Client;
use crate::container::NODE_NAME;
use crate::link::{self, Cut};
use crate::stream::{Next, Watch};
use crate::wait::until;
use crate::workload::{NAMESPACE, PODS};
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Figures of the design.
const READ: Duration = Duration::from_secs(2);
const NOTICED: Duration = Duration::from_secs(5);
/// What a read may take on top before the case fails, for the bound's own timer and a busy machine.
const SLACK: Duration = Duration::from_millis(300);
/// The annotation that marks the changes made during the outage.
const MARK: &str = "e2e.yurt/mark";

pub fn run(world: &mut World) -> Result<()> {
    let pods = world.be_online()?;
    let names: Vec<&String> = pods.keys().filter(|name| name.starts_with("web-")).take(3).collect();
    let hub = world.hub()?;
    let (watch, mut seen) = open_watch(&hub)?;
    link::cut(Cut::BlackHole)?;
    let (noticed, slowest) = read_until_offline(world, &hub)?;
    world.report.seconds("black hole, slowest read", slowest, Some(READ));
    world.report.seconds("black hole, until Offline", noticed, Some(NOTICED));
    for name in &names {
        mark(&world.cluster.admin, name)?;
    }
    remember(&mut seen, watch.drain().context("while offline")?)?;
    link::heal()?;
    let start = Instant::now();
    let mut marked = BTreeSet::new();
    until("the changes made during the outage", HOMECOMING, || {
        let events = watch.drain()?;
        marked.extend(events.iter().filter_map(marked_pod));
        remember(&mut seen, events)?;
        let missing: Vec<_> = names.iter().filter(|name| !marked.contains(**name)).collect();
        if missing.is_empty() { Ok(()) } else { bail!("no event for {missing:?}") }
    })?;
    world.report.seconds("black hole, link back to missed events", start.elapsed(), None);
    world.agree(PODS, HOMECOMING)?;
    match watch.next(Duration::from_millis(500)) {
        Next::Event(event) => remember(&mut seen, vec![event])?,
        Next::Quiet => {}
        Next::Ended => bail!("the watch ended after the link was back"),
    }
    remember(&mut seen, watch.drain()?)?;
    slow_reads(slowest, noticed)
}

/// A list and the watch that goes on from it, with an empty memory of events.
fn open_watch(hub: &Client) -> Result<(Watch, BTreeSet<(String, String)>)> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}");
    let list = hub.object(&path)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("the list has no version")?;
    let watch =
        hub.watch(&format!("{path}&watch=true&allowWatchBookmarks=true&resourceVersion={version}"))?;
    Ok((watch, BTreeSet::new()))
}

/// Reads in a row until the hub says Offline: how long that took, and the slowest read up to a second later.
fn read_until_offline(world: &World, hub: &Client) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut noticed = None;
    while noticed.is_none_or(|at: Duration| start.elapsed() < at + Duration::from_secs(1)) {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}");
        let answer = hub.get(&path)?;
        answer.success().context("a read in the black hole")?;
        slowest = slowest.max(answer.took);
        if noticed.is_none() && world.connectivity()? == "Offline" {
            noticed = Some(start.elapsed());
        }
        if start.elapsed() > NOTICED * 6 {
            bail!("the hub is {} after {} s", world.connectivity()?, start.elapsed().as_secs());
        }
    }
    Ok((noticed.unwrap_or_default(), slowest))
}

fn mark(admin: &Client, pod: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}");
    let value = format!("{:?}", std::time::SystemTime::now());
    admin.json("PATCH", &path, &json!({"metadata": {"annotations": {MARK: value}}})).map(drop)
}

fn marked_pod(event: &Value) -> Option<String> {
    let metadata = &event["object"]["metadata"];
    metadata["annotations"][MARK].as_str()?;
    Some(metadata["name"].as_str()?.to_string())
}

/// An error for an event that is none, or that came before.
fn remember(seen: &mut BTreeSet<(String, String)>, events: Vec<Value>) -> Result<()> {
    for event in events {
        let kind = event["type"].as_str().unwrap_or_default();
        let metadata = &event["object"]["metadata"];
        match kind {
            "BOOKMARK" => {}
            "ADDED" | "MODIFIED" | "DELETED" => {
                let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_string();
                if !seen.insert((text("uid"), text("resourceVersion"))) {
                    bail!("{kind} of {} at {} came twice", text("name"), text("resourceVersion"));
                }
            }
            _ => bail!("the watch says {event}"),
        }
    }
    Ok(())
}

fn slow_reads(slowest: Duration, noticed: Duration) -> Result<()> {
    if slowest > READ + SLACK {
        bail!("a read took {:.2} s", slowest.as_secs_f64());
    }
    if noticed > NOTICED + SLACK {
        bail!("the hub was Offline only after {:.2} s", noticed.as_secs_f64());
    }
    Ok(())
}
