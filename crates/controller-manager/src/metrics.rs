//! What is counted, in the text format of OpenMetrics.

use std::sync::Mutex;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label names and values of one series.
pub type Labels = Vec<(&'static str, String)>;

/// The counters and gauges of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// 1 while this process works.
    pub leading: Gauge,
    /// Requests that change the cluster, by `kind` and `result`.
    pub writes: Family<Labels, Counter>,
    /// Nodes by `state` of their link.
    pub nodes: Family<Labels, Gauge>,
    /// Nodes by `status` of their condition `Autonomy`.
    pub autonomy: Family<Labels, Gauge>,
    /// Pods that are protected now.
    pub protected: Gauge,
    /// Pods that are known.
    pub pods: Gauge,
    /// Pools that count as cut now.
    pub cut_pools: Gauge,
    /// Writes that are decided and wait for their turn.
    pub pending: Gauge,
    /// Looks at all nodes after which everything was decided anew.
    pub looks: Counter,
    /// CSRs by `decision`.
    pub requests: Family<Labels, Counter>,
}

impl Metrics {
    /// All of them at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("yurt_manager");
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            leading: Gauge::default(),
            writes: Family::default(),
            nodes: Family::default(),
            autonomy: Family::default(),
            protected: Gauge::default(),
            pods: Gauge::default(),
            cut_pools: Gauge::default(),
            pending: Gauge::default(),
            looks: Counter::default(),
            requests: Family::default(),
        };
        registry.register("leading", "1 while this process works", metrics.leading.clone());
        registry.register("writes", "Requests that change the cluster", metrics.writes.clone());
        registry.register("nodes", "Nodes by the state of their link", metrics.nodes.clone());
        let text = "Nodes by the status of their condition Autonomy";
        registry.register("autonomy_nodes", text, metrics.autonomy.clone());
        registry.register("protected_pods", "Pods that are protected now", metrics.protected.clone());
        registry.register("pods", "Pods that are known", metrics.pods.clone());
        registry.register("cut_pools", "Pools that count as cut now", metrics.cut_pools.clone());
        registry.register("pending_writes", "Writes that wait for their turn", metrics.pending.clone());
        registry.register("looks", "Looks at all nodes", metrics.looks.clone());
        registry.register("certificate_requests", "CSRs by decision", metrics.requests.clone());
        Self { registry: Mutex::new(registry), ..metrics }
    }

    /// The page of `/metrics`.
    pub fn page(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
