//! Events: what people see in `kubectl describe`. Each has a name made of what it tells, so that telling it again,
//! by this process or the next, makes no second one.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use serde_json::{Value, json};

/// Something that is told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The kind of what it is about.
    pub kind: &'static str,
    /// Its API version.
    pub api_version: &'static str,
    /// Its namespace; "" outside of namespaces.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `Normal` or `Warning`.
    pub level: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// What, for people.
    pub message: String,
    /// What makes it another event than the one before, such as the time of a transition.
    pub occasion: String,
}

/// Longest message that an apiserver takes (pkg/apis/core/validation/events.go).
const LONGEST: usize = 1_024;

impl Event {
    /// One about a node.
    pub fn of_node(
        name: &str,
        uid: &str,
        level: &'static str,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self {
            kind: "Node",
            api_version: "v1",
            namespace: String::new(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            level,
            reason,
            message,
            occasion: String::new(),
        }
    }

    /// The same, on that occasion.
    pub fn on(mut self, occasion: impl ToString) -> Self {
        self.occasion = occasion.to_string();
        self
    }

    /// Where it is kept: events of objects outside of namespaces are in `default`.
    pub fn place(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// Its own name.
    pub fn key(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (self.kind, &self.uid, self.reason, &self.occasion).hash(&mut hasher);
        // A name may have 253 characters.
        let name: String = self.name.chars().take(200).collect();
        format!("{name}.{:016x}", hasher.finish())
    }

    /// The object; its times are those of sending.
    pub fn object(&self) -> Value {
        let message: String = self.message.chars().take(LONGEST).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.key(), "namespace": self.place()},
            "involvedObject": {
                "apiVersion": self.api_version, "kind": self.kind, "name": self.name,
                "namespace": self.namespace, "uid": self.uid,
            },
            "type": self.level,
            "reason": self.reason,
            "message": message,
            "source": {"component": "yurt-controller-manager"},
            "reportingComponent": "yurt-controller-manager",
            "count": 1,
        })
    }
}
