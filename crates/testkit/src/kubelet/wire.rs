//! Requests in the kubelet's encodings, each recorded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use yurt_api::resource::TypeMeta;

use super::{KubeletOptions, Record, Sent};
use crate::{
    apiserver::protobuf,
    client::{Answer, Client, KUBELET_ACCEPT, WatchStream},
};

/// The kubelet's connection.
pub struct Wire {
    client: Client,
    json: bool,
    record: Arc<Record>,
}

/// An answer, decoded.
pub struct Reply {
    /// HTTP status.
    pub code: u16,
    /// The object; `null` when there is none.
    pub object: Value,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Wire {
    /// Not connected yet.
    pub fn new(options: &KubeletOptions, record: Arc<Record>) -> Self {
        Self { client: options.client(), json: options.json, record }
    }

    /// Where everything is written down.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// GET of one object or a list.
    pub async fn get(&self, verb: &'static str, path: &str) -> Result<Reply> {
        self.send(verb, Method::GET, path, "", Bytes::new()).await
    }

    /// POST or PUT of an object.
    pub async fn write(&self, verb: &'static str, path: &str, object: &Value) -> Result<Reply> {
        let method = if verb == "create" { Method::POST } else { Method::PUT };
        let (content_type, body) = self.encode(object);
        self.send(verb, method, path, content_type, body).await
    }

    /// A strategic merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Reply> {
        let body = patch.to_string().into();
        self.send("patch", Method::PATCH, path, "application/strategic-merge-patch+json", body).await
    }

    /// DELETE with options.
    pub async fn delete(&self, verb: &'static str, path: &str, options: &Value) -> Result<Reply> {
        self.send(verb, Method::DELETE, path, "application/json", options.to_string().into()).await
    }

    /// Starts a watch.
    pub async fn watch(&self, path: &str) -> Result<WatchStream> {
        let started = Instant::now();
        let accept = if self.json { "application/json" } else { KUBELET_ACCEPT };
        let result = self.client.watch(path, accept).await;
        let error = result.as_ref().err().map(|e| format!("{e:#}"));
        let source = result.as_ref().map(|w| source(&w.headers)).unwrap_or_default();
        self.note("watch", path, started, result.as_ref().map_or(0, |_| 200), error, source);
        result
    }

    async fn send(
        &self,
        verb: &'static str,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Reply> {
        let started = Instant::now();
        let answer = self.client.send(method, path, content_type, body).await;
        let result = answer.as_ref().map_err(|e| anyhow::anyhow!("{e:#}")).and_then(read);
        let error = match &result {
            Err(e) => Some(format!("{e:#}")),
            Ok(reply) if reply.code >= 400 => reply.object["message"].as_str().map(str::to_owned),
            Ok(_) => None,
        };
        let (code, source) = answer.map(|a| (a.code(), source(&a.headers))).unwrap_or_default();
        self.note(verb, path, started, code, error, source);
        result
    }

    fn encode(&self, object: &Value) -> (&'static str, Bytes) {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let tm = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
        match protobuf::message(&tm, object).filter(|_| !self.json) {
            Some(message) => {
                ("application/vnd.kubernetes.protobuf", protobuf::envelope(&tm, &message).into())
            }
            None => ("application/json", object.to_string().into()),
        }
    }

    fn note(
        &self,
        verb: &'static str,
        path: &str,
        at: Instant,
        status: u16,
        error: Option<String>,
        source: String,
    ) {
        self.record.add(Sent {
            at,
            verb,
            path: path.into(),
            status,
            error: error.unwrap_or_default(),
            latency: at.elapsed(),
            source,
        });
    }
}

fn source(headers: &http::HeaderMap) -> String {
    headers.get("x-yurthub-source").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
}

fn read(answer: &Answer) -> Result<Reply> {
    let object = match answer.header("content-type") {
        _ if answer.body.is_empty() => Value::Null,
        ct if ct.contains("protobuf") => {
            protobuf::decode(&answer.body).context("a protobuf answer that cannot be read")?
        }
        ct if ct.contains("json") => {
            serde_json::from_slice(&answer.body).context("a JSON answer that cannot be read")?
        }
        other => anyhow::bail!("an answer of type {other:?}"),
    };
    let retry_after = answer.header("retry-after").parse().ok().map(Duration::from_secs);
    Ok(Reply { code: answer.code(), object, retry_after })
}
