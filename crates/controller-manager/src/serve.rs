//! `/healthz`, `/readyz` and `/metrics`, plain HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the process knows of its own state.
#[derive(Debug, Default)]
pub struct Health(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    rights: Option<Vec<String>>,
    leading: bool,
    read: bool,
    off: BTreeMap<&'static str, String>,
}

impl Health {
    /// The rights were asked for: those that are missing.
    pub fn rights(&self, missing: Vec<String>) {
        self.known().rights = Some(missing);
    }

    /// Whether this process works or waits.
    pub fn leads(&self, leading: bool) {
        self.known().leading = leading;
    }

    /// The cluster was read once.
    pub fn read(&self) {
        self.known().read = true;
    }

    /// A part that does nothing, and why; `None` when it works (again). Whether that is news.
    pub fn part(&self, name: &'static str, off: Option<String>) -> bool {
        let mut known = self.known();
        let before = known.off.get(name).cloned();
        match &off {
            Some(why) => known.off.insert(name, why.clone()),
            None => known.off.remove(name),
        };
        before != off
    }

    /// Whether it is ready, and lines that say why or why not. A process that waits for the lease is ready.
    pub fn report(&self) -> (bool, String) {
        let known = self.known();
        let mut lines = Vec::new();
        let rights = known.rights.as_ref().is_some_and(Vec::is_empty);
        match &known.rights {
            None => lines.push("[-] rights: not asked for yet".to_owned()),
            Some(missing) if missing.is_empty() => lines.push("[+] rights".to_owned()),
            Some(missing) => lines.extend(missing.iter().map(|m| format!("[-] missing right: {m}"))),
        }
        lines.push(format!("[+] {}", if known.leading { "leading" } else { "waiting for the leader lease" }));
        let read = known.read || !known.leading;
        lines.push(format!("[{}] cluster read", if read { '+' } else { '-' }));
        lines.extend(known.off.iter().map(|(part, why)| format!("[!] {part} is off: {why}")));
        (rights && read, lines.join("\n") + "\n")
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Shared = State<(Arc<Health>, Arc<Metrics>)>;

/// Binds the address. Errors: it is taken or not of this machine.
pub async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    use anyhow::Context;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    let pages = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page))
        .with_state((health, metrics));
    if let Err(error) = axum::serve(listener, pages).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

async fn readyz(State((health, _)): Shared) -> (StatusCode, String) {
    let (ready, text) = health.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn page(State((_, metrics)): Shared) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.page())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing() {
        let health = Health::default();
        assert!(!health.report().0);
        health.rights(vec!["patch pods/status".to_owned()]);
        let (ready, text) = health.report();
        assert!(!ready && text.contains("[-] missing right: patch pods/status"), "{text}");
        health.rights(Vec::new());
        assert!(health.report().0, "one that waits is ready");
        health.leads(true);
        assert!(!health.report().0, "one that works has to have read the cluster");
        health.read();
        assert!(health.part("node-pool", Some("not served".to_owned())));
        assert!(!health.part("node-pool", Some("not served".to_owned())), "no news");
        let (ready, text) = health.report();
        assert!(ready && text.contains("[!] node-pool is off: not served"), "{text}");
    }
}
