//! The EndpointSlices of the cases' Service and the pods behind it, as a client of the hub follows them.

use crate::client::Client;
use crate::container::NODE_NAME;
use crate::node::HUB_PORT;
use crate::stream::Watch;
use crate::wait::until;
use crate::workload::{NAMESPACE, REPLICAS};
use crate::world::{HOMECOMING, SETTLE, World};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Addresses that are ready.
pub type Addresses = BTreeSet<String>;

/// A client of the hub with a token, as CoreDNS is one.
pub struct View(Client);

/// Open watches of slices and pods, and when what came.
pub struct Follow {
    slices: Watch,
    pods: Watch,
    /// The addresses that the pods had when the watch began.
    before: BTreeMap<String, String>,
    ready: BTreeMap<String, Instant>,
    shown: BTreeMap<String, Instant>,
    /// The longest time from a ready pod to its address in a slice, so far.
    pub slowest: Duration,
}

impl View {
    /// A client of the hub that may read everything.
    pub fn new(world: &World) -> Result<View> {
        let authority = world.node.hub_authority();
        Client::with_token("127.0.0.1", HUB_PORT, &authority, &world.operator_token()?).map(View)
    }

    /// The ready addresses of the Service.
    pub fn slices(&self) -> Result<Addresses> {
        let list = self.0.object(&slices())?;
        let items = list["items"].as_array().context("no items")?;
        Ok(items.iter().flat_map(ready_addresses).collect())
    }

    /// Watches of slices and pods from what the hub holds now.
    pub fn follow(&self) -> Result<Follow> {
        let pods = self.0.object(&pods())?;
        let items = pods["items"].as_array().context("no items")?;
        let watch = |path: String, list: &Value| {
            let version = list["metadata"]["resourceVersion"].as_str().context("a list without version")?;
            self.0.watch(&format!("{path}&watch=true&resourceVersion={version}"))
        };
        Ok(Follow {
            slices: watch(slices(), &self.0.object(&slices())?)?,
            pods: watch(self::pods(), &pods)?,
            before: items.iter().filter_map(address).collect(),
            ready: BTreeMap::new(),
            shown: BTreeMap::new(),
            slowest: Duration::ZERO,
        })
    }
}

impl Follow {
    /// Waits until every pod is ready at a new address and in the slices; the new addresses.
    pub fn until_pods_are_in(&mut self, view: &View) -> Result<Addresses> {
        until("every new address in the slices", SETTLE, || {
            self.read()?;
            let missing: Vec<_> = self.ready.keys().filter(|ip| !self.shown.contains_key(*ip)).collect();
            if self.ready.len() < REPLICAS || !missing.is_empty() {
                bail!("{} pods are ready, no slice has {missing:?}", self.ready.len());
            }
            Ok(())
        })?;
        for (ip, ready) in &self.ready {
            let shown = self.shown.get(ip).context("an address is gone")?;
            self.slowest = self.slowest.max(shown.saturating_duration_since(*ready));
        }
        let new: Addresses = self.ready.keys().cloned().collect();
        // What was ready before the reboot may take a moment longer to go than what is new takes to come.
        until("the old addresses to be gone", SETTLE, || {
            if view.slices()? == new { Ok(()) } else { bail!("{:?} and not {new:?}", view.slices()?) }
        })?;
        self.read()?;
        Ok(new)
    }

    /// Follows the slices until they are the cloud's; how many events that took. An error when one of them shows
    /// other addresses than the pods have.
    pub fn takes_over(&mut self, world: &World, view: &View, new: &Addresses) -> Result<usize> {
        let (mut events, mut gaps) = (0, Vec::new());
        until("the slices of the cloud", HOMECOMING, || {
            for event in self.slices.drain()? {
                events += 1;
                let shown: Addresses = ready_addresses(&event["object"]).collect();
                if shown != *new {
                    gaps.push(shown);
                }
            }
            let (cloud, node) = (world.cluster.admin.object(&slices())?, view.0.object(&slices())?);
            let same = cloud["items"] == node["items"] && world.connectivity()? == "Online";
            let addresses: Addresses =
                cloud["items"].as_array().into_iter().flatten().flat_map(ready_addresses).collect();
            if same && addresses == *new { Ok(()) } else { bail!("the cloud has {cloud}, the node {node}") }
        })?;
        if gaps.is_empty() { Ok(events) } else { bail!("slices showed {gaps:?} and not {new:?}") }
    }

    fn read(&mut self) -> Result<()> {
        let now = Instant::now();
        for event in self.pods.drain().context("the watch of pods")? {
            let pod = &event["object"];
            if let Some((name, ip)) = address(pod)
                && is_ready(pod)
                && self.before.get(&name) != Some(&ip)
            {
                self.ready.entry(ip).or_insert(now);
            }
        }
        for event in self.slices.drain().context("the watch of slices")? {
            for ip in ready_addresses(&event["object"]) {
                self.shown.entry(ip).or_insert(now);
            }
        }
        Ok(())
    }
}

fn slices() -> String {
    format!(
        "/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb"
    )
}

fn pods() -> String {
    format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}&labelSelector=app%3Dweb")
}

/// A pod's name and address.
fn address(pod: &Value) -> Option<(String, String)> {
    Some((pod["metadata"]["name"].as_str()?.to_string(), pod["status"]["podIP"].as_str()?.to_string()))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn ready_addresses(slice: &Value) -> impl Iterator<Item = String> + '_ {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready
        .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten())
        .filter_map(|a| Some(a.as_str()?.to_string()))
}
