//! The admin's listener on the loopback: health, readiness, metrics, status.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use yurt_store::{CollectionState, OpenReport};

use crate::autonomy::Shown;
use crate::cache::{Cache, Collection, Found};
use crate::clock;
use crate::cloud::{Cloud, ServerStatus};
use crate::connectivity::{Connectivity, State};
use crate::credential::Credentials;
use crate::metrics::Metrics;
use crate::replay::Report;
use crate::respond::{Body, full};
use crate::tasks::{self, Failure, Shutdown};

/// Connections of the admin at one time.
const MAX_CONNECTIONS: usize = 16;
/// A connection of the admin that sends no whole request for so long is closed.
const HEADER_BOUND: Duration = Duration::from_secs(10);
/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Conflicts that the status shows; the journal keeps them all.
const SHOWN_CONFLICTS: usize = 100;

/// Everything the admin may look at.
pub struct Admin {
    /// The cache.
    pub cache: Arc<Cache>,
    /// The connections.
    pub cloud: Arc<Cloud>,
    /// The link.
    pub connectivity: Connectivity,
    /// The credentials.
    pub credentials: Arc<Credentials>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The last replay.
    pub report: Arc<Mutex<Report>>,
    /// Whether the node could boot without the cloud.
    pub autonomy: Shown,
}

impl Admin {
    /// Serves until the shutdown.
    pub async fn run(self: Arc<Self>, socket: TcpListener, mut shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let stream = tokio::select! {
                () = shutdown.wait() => return,
                accepted = socket.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => {
                        // Out of file descriptors: not to be asked again at once.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.metrics.refused_admin_connections.inc();
                continue;
            };
            let admin = Arc::clone(&self);
            tasks::spawn("admin connection", Failure::Local, async move {
                let service = service_fn(move |request| {
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(&request).await) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEADER_BOUND).max_buf_size(16 << 10);
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                drop(place);
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/v1/healthz" => text(StatusCode::OK, "OK".to_owned()),
            "/v1/readyz" => self.ready(),
            "/v1/status" => self.status().await,
            "/metrics" => self.scrape().await,
            _ => text(StatusCode::NOT_FOUND, "/v1/healthz /v1/readyz /v1/status /metrics\n".to_owned()),
        }
    }

    /// Ready = a kubelet that asked now would get answers: from the cloud, or from what is held.
    fn ready(&self) -> Response<Body> {
        let mut missing = self.credentials.missing();
        if !self.connectivity.reachable() && self.cache.is_empty() {
            let why = self.cloud.trouble().unwrap_or_else(|| "it has not answered yet".to_owned());
            missing.push(format!("the store is empty and the cloud cannot be reached: {why}"));
        }
        match missing.is_empty() {
            true => text(StatusCode::OK, "OK".to_owned()),
            false => text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
        }
    }

    async fn status(&self) -> Response<Body> {
        let link = self.connectivity.now();
        let figures =
            self.cache.front.read(|r| Ok((r.journal_figures()?, r.newest_conflicts(SHOWN_CONFLICTS)?))).await;
        let (journal, conflicts) = match figures {
            Ok(both) => both,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        };
        let shown: Vec<Value> = conflicts.iter().map(|c| json!({
            "object": format!("{} {}", c.entry.resource, c.entry.key), "reason": c.reason, "at": clock::rfc3339(c.at),
        })).collect();
        let collections = self.cache.registry.all();
        let counts = self.cache.front.read(|r| r.collections()).await.unwrap_or_default();
        let collections: Vec<Value> = collections
            .iter()
            .map(|c| {
                let objects = counts.iter().find(|r| r.key == *c.key()).map_or(0, |r| r.objects);
                collection_status(c, objects)
            })
            .collect();
        let body = json!({
            "node": self.cache.node_name(),
            "connectivity": {"state": link.state.name(), "since": clock::rfc3339(link.since_unix), "seconds": link.since.elapsed().as_secs(), "trouble": self.cloud.trouble()},
            "autonomy": *self.autonomy.lock().unwrap_or_else(PoisonError::into_inner),
            "store": store_status(&self.cache.found, self.cache.front.failures()),
            "credentials": {"complaints": self.credentials.complaints()},
            "upstreamConnections": self.cloud.connections(),
            "lbMode": self.cloud.mode().as_str(),
            "servers": self.cloud.servers(),
            "collections": collections,
            "journal": {
                "length": journal.entries,
                "oldest": journal.oldest.map(clock::rfc3339),
                "conflicts": journal.conflicts,
                "deliveredNotPulled": journal.delivered,
                "unreadable": self.cache.unreadable_entries(),
            },
            "conflicts": shown,
            "lastReplay": *self.report.lock().unwrap_or_else(PoisonError::into_inner),
        });
        let mut response = text(StatusCode::OK, format!("{body:#}\n"));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn scrape(&self) -> Response<Body> {
        let mut out = String::new();
        if encode(&mut out, &self.metrics.registry()).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode\n".to_owned());
        }
        let mut body = out.trim_end_matches("# EOF\n").to_owned();
        for (name, value) in self.counters() {
            body += &format!("# TYPE yurthub_{name} counter\nyurthub_{name}_total {value}\n");
        }
        for (name, value) in self.gauges().await {
            body += &format!("# TYPE yurthub_{name} gauge\nyurthub_{name} {value}\n");
        }
        body += &self.of_servers();
        let mut response = text(StatusCode::OK, body + "# EOF\n");
        let open_metrics =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, open_metrics);
        response
    }

    /// The servers, each with its address as a label.
    fn of_servers(&self) -> String {
        let servers = self.cloud.servers();
        let gauge = |name: &str, value: &dyn Fn(&ServerStatus) -> u64| {
            let line = |s: &ServerStatus| format!("yurthub_{name}{{server=\"{}\"}} {}\n", s.server, value(s));
            let lines: String = servers.iter().map(line).collect();
            format!("# TYPE yurthub_{name} gauge\n{lines}")
        };
        [
            gauge("server_well", &|s| u64::from(s.well)),
            gauge("server_in_use", &|s| u64::from(s.in_use)),
            gauge("server_connections", &|s| s.connections),
            gauge("server_round_trip_milliseconds", &|s| s.round_trip_ms.unwrap_or(0)),
        ]
        .concat()
    }

    /// What others count.
    fn counters(&self) -> [(&'static str, u64); 6] {
        let damages: usize = self.cache.registry.all().iter().map(|c| c.damages()).sum();
        [
            ("panics", tasks::panics()),
            ("store_failures", self.cache.front.failures()),
            ("events_dropped", self.cache.front.events_dropped()),
            ("grants_dropped", self.cache.grants.dropped()),
            ("damaged_collections", damages as u64),
            ("journal_unreadable", self.cache.unreadable_entries()),
        ]
    }

    async fn gauges(&self) -> [(&'static str, u64); 16] {
        let figures = self.cache.front.read(|r| Ok((r.journal_figures()?, r.remembered_figures()?)));
        let (journal, remembered) = figures.await.unwrap_or_default();
        let state = self.connectivity.now().state;
        let collections = self.cache.registry.all();
        let live = collections.iter().filter(|c| c.state() == CollectionState::Live).count();
        let watchers: usize = collections.iter().map(|c| c.watchers()).sum();
        [
            ("online", u64::from(state == State::Online)),
            ("collections", collections.len() as u64),
            ("collections_live", live as u64),
            ("watchers", watchers as u64),
            ("journal_entries", journal.entries),
            ("conflicts", journal.conflicts),
            ("journal_delivered", journal.delivered),
            ("upstream_connections", self.cloud.connections()),
            ("kept_bytes", self.cache.room.taken()),
            ("view_bytes", self.cache.views.taken()),
            ("being_kept", self.cache.room.being_kept()),
            ("fetched_objects", remembered.fetched),
            ("known_tokens", remembered.principals),
            ("vaulted_tokens", remembered.tokens),
            ("grants", remembered.grants),
            ("store_set_aside", u64::from(matches!(self.cache.found.report, OpenReport::Damaged { .. }))),
        ]
    }
}

fn collection_status(collection: &Collection, objects: u64) -> Value {
    json!({
        "collection": collection.key().to_string(),
        "state": collection.state().as_str(),
        "resourceVersion": collection.version().to_string(),
        "objects": objects,
        "localWrites": collection.masks().len(),
        // A clock that was set back makes nothing younger than now.
        "ageSeconds": (clock::unix() - collection.observed_at()).max(0),
        "watchers": collection.watchers(),
        "damaged": collection.is_damaged(),
        "nodeOwned": collection.node_owned(),
    })
}

fn store_status(found: &Found, failures: u64) -> Value {
    match &found.report {
        OpenReport::Fresh => json!({"found": "fresh", "failures": failures}),
        OpenReport::Existing => json!({"found": "existing", "failures": failures}),
        OpenReport::Damaged { set_aside, why } => {
            let set_aside = set_aside.display().to_string();
            json!({"found": "damaged", "setAside": set_aside, "why": why, "saved": found.saved, "failures": failures})
        }
    }
}

fn text(code: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
