//! A thousand local watchers of one collection: how soon each has an event that the cloud sends, and what each
//! costs the hub in memory.
//!
//! The watchers are spread over HTTP/2 connections as node agents have them; they take the bytes of an event and do
//! not decode it. The time runs from the change in the apiserver, which has one watch of all this, to the watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use yurt_testkit::client::{Client, Protocol, WatchStream};
use yurt_testkit::cluster::Cluster;

use super::{NODE, OWN_PODS, PROTOBUF, Plan, pod, until, until_cached};
use crate::informer::{Asked, Informer};
use crate::process::Memory;
use crate::report::Row;
use crate::rounds::{median, ms, quantile};

const WATCHERS: usize = 1000;
const CONNECTIONS: usize = 50;
const EVENTS: usize = 100;

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let cluster = Cluster::start(NODE).await;
    cluster.api.create(pod("web-0", 0));
    let client = cluster.node_client(Protocol::Http2);
    let first =
        Informer::start(&client, Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: PROTOBUF });
    let _first = first.await?;
    let list = format!("/api/v1/pods?{OWN_PODS}&resourceVersion=0");
    until_cached(&client, &list, PROTOBUF).await?;
    let pid = cluster.hub.pid().context("the hub has ended")?;
    let before = Memory::settled(pid).await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let stands = Arc::new(AtomicU64::new(0));
    for _ in 0..CONNECTIONS {
        let client = cluster.node_client(Protocol::Http2);
        for _ in 0..WATCHERS / CONNECTIONS {
            let stream = opened(&client).await?;
            tokio::task::spawn_local(watched(stream, arrived.clone(), Arc::clone(&stands)));
        }
    }
    until(format!("not {WATCHERS} watchers"), async || stands.load(Ordering::Relaxed) == WATCHERS as u64)
        .await?;
    let memory = Memory::settled(pid).await;
    let each = (memory.rss.saturating_sub(before.rss)) as f64 / WATCHERS as f64 / 1e3;
    let (mut all, mut last) = (Vec::new(), Vec::new());
    for turn in 1..=plan.times(EVENTS) {
        let changed = Instant::now();
        cluster.api.modify("pods", "default", "web-0", |pod| {
            pod["metadata"]["annotations"] = super::pod("web-0", turn)["metadata"]["annotations"].clone();
        });
        let mut times = Vec::with_capacity(WATCHERS);
        while times.len() < WATCHERS {
            let at = tokio::time::timeout(Duration::from_secs(20), arrivals.recv()).await;
            let at: Instant = at.context("an event did not come")?.context("the watches have ended")?;
            times.push(ms(at - changed));
        }
        last.push(quantile(&mut times, 1.0));
        all.extend(times);
    }
    ensure!(stands.load(Ordering::Relaxed) == WATCHERS as u64, "a watch has ended");
    let p50 = quantile(&mut all, 0.5);
    Ok(vec![
        Row::limited("fanout 1,000 watchers: p99", quantile(&mut all, 0.99), "ms", 20.0)
            .beside(format!("p50 {p50:.1}; the last watcher {:.1} in the median", median(last))),
        Row::limited("fanout 1,000 watchers: memory each", each, "KB", 15.0)
            .beside(format!("over {CONNECTIONS} connections, theirs included")),
    ])
}

/// A watch of now, past the object that it begins with.
async fn opened(client: &Client) -> Result<WatchStream> {
    let path = format!("/api/v1/pods?watch=true&{OWN_PODS}&resourceVersion=0&timeoutSeconds=3600");
    let mut stream = client.watch(&path, PROTOBUF).await?;
    stream.next_raw().await?.context("the pod")?;
    Ok(stream)
}

async fn watched(mut stream: WatchStream, arrived: mpsc::UnboundedSender<Instant>, stands: Arc<AtomicU64>) {
    stands.fetch_add(1, Ordering::Relaxed);
    while let Ok(Some(_)) = stream.next_raw().await {
        if arrived.send(Instant::now()).is_err() {
            return;
        }
    }
    stands.fetch_sub(1, Ordering::Relaxed);
}
