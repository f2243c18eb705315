//! What is measured, one file a case.

mod convert;
mod events;
mod fanout;
mod gets;
mod lists;
mod manager;
mod memory;
mod outage;
mod resume;
mod sharing;
mod start;

use std::future::Future;
use std::pin::Pin;

use anyhow::{Result, anyhow};
use serde_json::Value;
use yurt_testkit::client::{Answer, Client};
use yurt_testkit::cluster::Cluster;

use crate::report::Row;

/// The node of all cases.
pub const NODE: &str = "edge-1";
/// The kubelet's pods, as its informer asks for them.
pub const OWN_PODS: &str = "fieldSelector=spec.nodeName%3Dedge-1";
/// Protobuf alone.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// JSON alone.
pub const JSON: &str = "application/json";

type Rows = Pin<Box<dyn Future<Output = Result<Vec<Row>>>>>;

/// A case.
pub struct Case {
    /// Its rows' names begin with it.
    pub name: &'static str,
    rows: fn(Plan) -> Rows,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    quick: bool,
}

impl Plan {
    /// `usual` times, or a few when a look is enough.
    pub fn times(self, usual: usize) -> usize {
        if self.quick { usual.div_ceil(5) } else { usual }
    }
}

/// All cases in the order of the table.
pub fn all() -> &'static [Case] {
    &[
        Case { name: "gets", rows: |plan| Box::pin(gets::rows(plan)) },
        Case { name: "convert", rows: |plan| Box::pin(convert::rows(plan)) },
        Case { name: "lists", rows: |plan| Box::pin(lists::rows(plan)) },
        Case { name: "events", rows: |plan| Box::pin(events::rows(plan)) },
        Case { name: "fanout", rows: |plan| Box::pin(fanout::rows(plan)) },
        Case { name: "resume", rows: |plan| Box::pin(resume::rows(plan)) },
        Case { name: "memory", rows: |plan| Box::pin(memory::rows(plan)) },
        Case { name: "start", rows: |plan| Box::pin(start::rows(plan)) },
        Case { name: "outage", rows: |plan| Box::pin(outage::rows(plan)) },
        Case { name: "manager", rows: |plan| Box::pin(manager::rows(plan)) },
        Case { name: "sharing", rows: |plan| Box::pin(sharing::rows(plan)) },
    ]
}

/// Runs a case. A panic of the testkit is a failure of the case, not of the run.
pub async fn run(case: &Case, quick: bool) -> Result<Vec<Row>> {
    let local = tokio::task::LocalSet::new();
    let rows = (case.rows)(Plan { quick });
    local.run_until(async { tokio::task::spawn_local(rows).await }).await.map_err(|e| anyhow!("{e}"))?
}

/// Waits until the hub says that its link is in this state. Errors: not within 20 s.
pub async fn until_link(cluster: &Cluster, wanted: &str) -> Result<()> {
    until(format!("the link is not {wanted}"), async || {
        let status = cluster.hub.admin("/v1/status").await;
        status.is_ok_and(|s| s.json()["connectivity"]["state"] == wanted)
    })
    .await
}

/// Asks until the answer comes from the hub's own copy. Errors: it does not within 20 s.
pub async fn until_cached(client: &Client, path: &str, accept: &str) -> Result<()> {
    until(format!("{path} is not answered from the cache"), async || {
        client.get_as(path, accept).await.is_ok_and(|a| a.code() == 200 && is_cached(&a))
    })
    .await
}

/// The answer came from the hub's own copy.
pub fn is_cached(answer: &Answer) -> bool {
    answer.header("x-yurthub-source").starts_with("cache")
}

/// Waits for a condition, at most 20 s.
pub async fn until(what: String, condition: impl AsyncFn() -> bool) -> Result<()> {
    for _ in 0..1000 {
        if condition().await {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Err(anyhow!(what))
}

/// A pod of the node whose protobuf form has about 2 KB; `turn` makes its content new.
pub fn pod(name: &str, turn: usize) -> Value {
    let mut pod = yurt_testkit::objects::pod("default", name, NODE);
    let text: String =
        (0..1150).map(|n| char::from(b'a' + ((n * 7 + turn * 11 + n * n / 13) % 26) as u8)).collect();
    pod["metadata"]["annotations"]["example.com/turn"] = format!("{turn} {text}").into();
    pod
}
