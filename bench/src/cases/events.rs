//! Watch events of pods of 2 KB: stored by the hub and told to a local watcher, beside nginx, which only
//! relays the same events to a watcher of its own.
//!
//! One at a time: the next change is made when both watchers have the last one. In a burst: changes as fast as
//! the apiserver makes them. Bytes and fsyncs are counted by strace in a run of their own.

use anyhow::{Context, Result};
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;

use super::{NODE, OWN_PODS, PROTOBUF, Plan, pod, until_cached};
use crate::informer::{Asked, Informer};
use crate::nginx::{self, Nginx};
use crate::process;
use crate::report::Row;
use crate::rounds::{median, ms};
use crate::trace::Trace;

const PODS: usize = 100;

struct Stage {
    cluster: Cluster,
    local: Informer,
    beside: Option<(Nginx, Informer)>,
    turn: usize,
}

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let mut stage = Stage::set().await?;
    stage.change(plan.times(200), true).await?;
    let (mut alone, mut burst, mut nginx) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.times(15) {
        let (hub, other) = stage.change(200, true).await?;
        alone.push(hub);
        nginx.push(other);
        burst.push(stage.change(200, false).await?.0);
    }
    let (alone, nginx) = (median(alone), median(nginx));
    let mut rows = vec![
        Row::limited("events one at a time: CPU", alone, "ms", 0.1)
            .beside(format!("nginx relays it for {nginx:.3}")),
        Row::limited("events in a burst: CPU", median(burst), "ms", 0.1),
    ];
    rows.push(match stage.beside {
        Some(_) => Row::told("events one at a time: CPU / nginx's", alone / nginx, "x"),
        None => Row::unmeasured("events one at a time: CPU / nginx's", "x", "nginx is not installed"),
    });
    rows.extend(stage.traced("one at a time", plan.times(1000), true).await?);
    rows.extend(stage.traced("in a burst", plan.times(1000), false).await?);
    Ok(rows)
}

impl Stage {
    async fn set() -> Result<Self> {
        let mut cluster = Cluster::prepare(NODE, Options::default()).await;
        for n in 0..PODS {
            cluster.api.create(pod(&format!("web-{n}"), n));
        }
        cluster.hub.start().await;
        let asked = Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: PROTOBUF };
        let client = cluster.node_client(Protocol::Http2);
        let local = Informer::start(&client, asked).await?;
        until_cached(&client, &format!("/api/v1/pods?{OWN_PODS}&resourceVersion=0"), PROTOBUF).await?;
        let nginx = Nginx::start(nginx::Options {
            folder: cluster.folder().path(),
            pki: cluster.api.pki().dir(),
            upstream: cluster.api.addr(),
            identity: [cluster.node.cert_file.clone(), cluster.node.key_file.clone()],
        });
        let beside = match nginx.await? {
            None => None,
            Some(nginx) => {
                let url = format!("https://{}", nginx.address);
                let client =
                    Client::new(&url, cluster.api.pki().ca_pem(), Some(&cluster.node), Protocol::Http2);
                Some((nginx, Informer::start(&client, asked).await?))
            }
        };
        Ok(Self { cluster, local, beside, turn: PODS })
    }

    /// So many changes; CPU per event of hub and nginx in ms.
    async fn change(&mut self, events: usize, one_at_a_time: bool) -> Result<(f64, f64)> {
        let hub = self.cluster.hub.pid().context("the hub has ended")?;
        let nginx = self.beside.as_ref().map(|(nginx, _)| nginx.pid());
        let spent = || (process::cpu(hub), nginx.map(process::cpu).unwrap_or_default());
        let (before, seen) = (spent(), self.local.events());
        for n in 0..events {
            self.turn += 1;
            let name = format!("web-{}", self.turn % PODS);
            let turn = self.turn;
            let changed = self.cluster.api.modify("pods", "default", &name, |pod| {
                pod["metadata"]["annotations"] = super::pod(&name, turn)["metadata"]["annotations"].clone();
            });
            if one_at_a_time || n + 1 == events {
                self.reach(&changed).await?;
            }
        }
        anyhow::ensure!(
            self.local.events() - seen == events as u64,
            "{} of {events} events",
            self.local.events() - seen
        );
        let after = spent();
        let each = |time| ms(time) / events as f64;
        Ok((each(after.0 - before.0), each(after.1 - before.1)))
    }

    async fn reach(&mut self, changed: &serde_json::Value) -> Result<()> {
        let version = changed["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
        let version = version.context("a changed pod without a version")?;
        self.local.reach(version).await?;
        match &mut self.beside {
            Some((_, relayed)) => relayed.reach(version).await,
            None => Ok(()),
        }
    }

    async fn traced(&mut self, how: &str, events: usize, one_at_a_time: bool) -> Result<Vec<Row>> {
        let names = [format!("events {how}: bytes written"), format!("events {how}: fsyncs")];
        let pid = self.cluster.hub.pid().context("the hub has ended")?;
        let Some(trace) = Trace::attach(pid, self.cluster.folder().path()).await? else {
            return Ok(names.map(|n| Row::unmeasured(n, "", "strace is not installed")).into());
        };
        self.change(events, one_at_a_time).await?;
        let written = trace.stop().await?;
        let [bytes, syncs] = names;
        let object = self.cluster.api.get("pods", "default", "web-0").map_or(0, |o| o.to_string().len());
        Ok(vec![
            Row::limited(bytes, written.bytes as f64 / events as f64, "bytes", 3000.0)
                .beside(format!("the object is {object} bytes of JSON")),
            Row::told(syncs, written.syncs as f64 / events as f64, ""),
        ])
    }
}
