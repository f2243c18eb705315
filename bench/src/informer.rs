//! A client that lists once and then watches, as client-go's informers do; it keeps nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use yurt_testkit::apiserver::protobuf;
use yurt_testkit::client::Client;

/// What an informer asks for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Path of the collection.
    pub path: &'a str,
    /// Selectors as in a query, "" for none.
    pub selector: &'a str,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// A running watch. It ends with this value.
pub struct Informer {
    /// Objects in the first list.
    pub listed: usize,
    events: Arc<AtomicU64>,
    newest: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Informer {
    /// Lists with `resourceVersion=0` and opens the watch. Errors: an answer other than 200.
    pub async fn start(client: &Client, asked: Asked<'_>) -> Result<Self> {
        let Asked { path, selector, accept } = asked;
        let target = format!("{path}?{selector}&resourceVersion=0").replace("?&", "?");
        let answer = client.get_as(&target, accept).await?;
        ensure!(answer.code() == 200, "{target}: {} {}", answer.code(), answer.text());
        let list: Value = match answer.header("content-type").contains("protobuf") {
            true => protobuf::decode(&answer.body).context("a protobuf list")?,
            false => answer.json(),
        };
        let listed = list["items"].as_array().map_or(0, Vec::len);
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
        let query = format!("allowWatchBookmarks=true&{selector}&resourceVersion={version}&watch=true")
            .replace("&&", "&");
        let mut stream = client.watch(&format!("{path}?{query}"), accept).await?;
        let events = Arc::new(AtomicU64::new(0));
        let (sender, newest) = watch::channel(0);
        let counted = events.clone();
        let task = tokio::spawn(async move {
            while let Ok(Some(event)) = stream.next().await {
                if event.kind != "BOOKMARK" {
                    counted.fetch_add(1, Ordering::Relaxed);
                    sender.send_replace(event.version());
                }
            }
        });
        Ok(Self { listed, events, newest, task })
    }

    /// Waits until an event of `version` or later has come.
    pub async fn reach(&mut self, version: u64) -> Result<()> {
        let reached = self.newest.wait_for(|v| *v >= version);
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.context("an event did not come")?.context("the watch has ended").map(drop)
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// The watch still stands.
    pub fn stands(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
