//! What the hub counts. Everything bounded has a counter for what went over.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    /// The verb.
    pub verb: &'static str,
    /// Why it went where it went.
    pub reason: &'static str,
    /// The HTTP status.
    pub code: u16,
}

/// Why an upstream answer was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    /// The reason.
    pub reason: String,
}

/// Why a watch that passed through goes on in a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The collection beside it is held.
    Filled,
    /// The cloud's stream is lost.
    Lost,
}

impl Moved {
    /// The text.
    pub fn as_str(self) -> &'static str {
        match self {
            Moved::Filled => "filled",
            Moved::Lost => "lost",
        }
    }
}

/// All counters. Gauges of what others hold are read when they are asked for.
#[derive(Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: Family<Answered, Counter>,
    /// Lists that reflectors made upstream.
    pub lists: Counter,
    /// Watches that reflectors opened upstream.
    pub watches: Counter,
    /// Events that reflectors stored.
    pub events: Counter,
    /// Upstream bodies that could not be read.
    pub undecodable: Counter,
    /// Upstream answers that were not kept.
    pub not_kept: Family<Why, Counter>,
    /// Watches that passed through and go on in a collection.
    pub moved_watches: Family<Why, Counter>,
    /// Local writes taken into the journal.
    pub journaled: Counter,
    /// Connections refused because too many are open and all are busy.
    pub refused_connections: Counter,
    /// Idle connections that were closed to make room for new ones.
    pub evicted_connections: Counter,
    /// Connections of the admin over the bound.
    pub refused_admin_connections: Counter,
    /// Local watches that were told to list again because they were too slow.
    pub expired_watches: Counter,
    /// Answers from the store that found no memory free and waited for it.
    pub views_waited: Counter,
    /// Those of them that found none in time.
    pub views_refused: Counter,
    /// Connections that ended before TLS stood: garbage, a refused certificate, silence.
    pub failed_handshakes: Counter,
    /// Collections that were forgotten because others were used later.
    pub collections_let_go: Counter,
    /// Bytes of memory that bodies of requests take now.
    pub request_bodies: Gauge,
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, verb: &'static str, reason: &'static str, code: u16) {
        self.requests.get_or_create(&Answered { verb, reason, code }).inc();
    }

    /// Counts an answer that was not kept.
    pub fn not_kept(&self, reason: impl ToString) {
        let reason = reason.to_string();
        if reason == "undecodable" {
            self.undecodable.inc();
        }
        self.not_kept.get_or_create(&Why { reason }).inc();
    }

    /// Counts a watch that goes on in a collection from now on.
    pub fn moved(&self, why: Moved) {
        self.moved_watches.get_or_create(&Why { reason: why.as_str().to_owned() }).inc();
    }

    /// A registry with all counters in it.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("yurthub");
        registry.register(
            "requests",
            "Requests answered, by verb, reason of the route and code",
            self.requests.clone(),
        );
        registry.register("upstream_lists", "Lists made by reflectors", self.lists.clone());
        registry.register("upstream_watches", "Watches opened by reflectors", self.watches.clone());
        registry.register("upstream_events", "Watch events stored", self.events.clone());
        registry.register(
            "undecodable_bodies",
            "Upstream bodies that could not be read",
            self.undecodable.clone(),
        );
        registry.register(
            "answers_not_kept",
            "Upstream answers that were passed on but not kept",
            self.not_kept.clone(),
        );
        registry.register(
            "moved_watches",
            "Watches that passed through and went on in a collection",
            self.moved_watches.clone(),
        );
        registry.register("journaled_writes", "Local writes taken into the journal", self.journaled.clone());
        registry.register(
            "refused_connections",
            "Local connections over the bound",
            self.refused_connections.clone(),
        );
        registry.register(
            "evicted_connections",
            "Idle local connections closed to make room",
            self.evicted_connections.clone(),
        );
        registry.register(
            "refused_admin_connections",
            "Connections of the admin over the bound",
            self.refused_admin_connections.clone(),
        );
        registry.register(
            "expired_watches",
            "Local watches that fell behind and were told to list again",
            self.expired_watches.clone(),
        );
        registry.register(
            "views_waited",
            "Answers from the store that waited for memory",
            self.views_waited.clone(),
        );
        registry.register(
            "views_refused",
            "Answers from the store that found no memory in time",
            self.views_refused.clone(),
        );
        registry.register(
            "failed_handshakes",
            "Local connections that ended before TLS stood",
            self.failed_handshakes.clone(),
        );
        registry.register(
            "collections_let_go",
            "Collections forgotten for others that were used later",
            self.collections_let_go.clone(),
        );
        registry.register(
            "request_bodies_bytes",
            "Memory that bodies of requests take now",
            self.request_bodies.clone(),
        );
        registry
    }
}
