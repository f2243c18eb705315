//! Who may do what: masters all, a node what a node does, others what a test's rules say.
//! Sources: plugin/pkg/auth/authorizer/node/node_authorizer.go and the bootstrap policy of RBAC.

use std::sync::RwLock;

use super::{
    auth::Principal, error::Refusal, object::Object, registry::Kind, request::Target, storage::Storage,
};

/// One question to the authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// "get", "list", ...
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural name; "" asks for a path.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// "" = all.
    pub namespace: String,
    /// "" = all.
    pub name: String,
    /// The `spec.nodeName` that the request is restricted to.
    pub node_selected: Option<String>,
    /// Path of a request outside the resources.
    pub path: String,
}

/// Something that a user or group may do. "*" stands for all; "" in `namespace` for all namespaces.
#[derive(Clone, Debug)]
pub struct Rule {
    /// User or group.
    pub subject: String,
    /// Verbs.
    pub verbs: Vec<String>,
    /// "pods", "pods/status", "leases.coordination.k8s.io" is written as resource with its group below.
    pub resource: String,
    /// API group.
    pub group: String,
    /// Namespace.
    pub namespace: String,
    /// Only the object of this name; "" = every.
    pub name: String,
}

impl Rule {
    /// `subject` may do `verbs` (comma separated) with `resource` of `group` in every namespace.
    pub fn allow(subject: &str, verbs: &str, group: &str, resource: &str) -> Self {
        Self {
            subject: subject.into(),
            verbs: verbs.split(',').map(str::to_owned).collect(),
            resource: resource.into(),
            group: group.into(),
            namespace: String::new(),
            name: String::new(),
        }
    }

    /// The same, in one namespace only.
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same, for one object only.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    fn allows(&self, principal: &Principal, asked: &Attributes) -> bool {
        let is = |rule: &str, asked: &str| rule == "*" || rule == asked;
        let resource = qualified(asked);
        (principal.name == self.subject || principal.is_in(&self.subject))
            && self.verbs.iter().any(|v| is(v, &asked.verb))
            && is(&self.resource, &resource)
            && is(&self.group, &asked.group)
            && (self.namespace.is_empty() || self.namespace == asked.namespace)
            && (self.name.is_empty() || self.name == asked.name)
    }
}

/// The rules that tests added.
#[derive(Debug, Default)]
pub struct Rules(RwLock<Vec<Rule>>);

impl Rules {
    /// Allows one more thing.
    pub fn add(&self, rule: Rule) {
        self.0.write().unwrap().push(rule);
    }

    /// Takes back every rule of a subject.
    pub fn remove(&self, subject: &str) {
        self.0.write().unwrap().retain(|r| r.subject != subject);
    }

    /// The decision.
    pub fn allows(&self, principal: &Principal, asked: &Attributes, storage: &Storage) -> bool {
        principal.is_in("system:masters")
            || principal.node().is_some_and(|n| node_may(n, asked, storage))
            || everybody_may(principal, asked)
            || self.0.read().unwrap().iter().any(|r| r.allows(principal, asked))
    }
}

/// The words of a 403.
pub fn forbidden(principal: &Principal, asked: &Attributes, kind: &Kind) -> Refusal {
    let place = match asked.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {:?} cannot {} resource {:?} in API group {:?} {place}",
        principal.name,
        asked.verb,
        qualified(asked),
        asked.group
    );
    Refusal::forbidden(kind, &asked.name, &why)
}

impl Attributes {
    /// The question that a request asks.
    pub fn of_request(verb: &str, target: &Target, name: Option<&str>, node_selected: Option<&str>) -> Self {
        Self {
            verb: verb.into(),
            group: target.group.clone(),
            resource: target.plural.clone(),
            subresource: target.subresource.clone().unwrap_or_default(),
            namespace: target.namespace.clone().unwrap_or_default(),
            name: name.unwrap_or_default().into(),
            node_selected: node_selected.map(str::to_owned),
            path: String::new(),
        }
    }
}

fn qualified(asked: &Attributes) -> String {
    match asked.subresource.as_str() {
        "" => asked.resource.clone(),
        subresource => format!("{}/{subresource}", asked.resource),
    }
}

fn everybody_may(principal: &Principal, asked: &Attributes) -> bool {
    if asked.resource.is_empty() {
        let public = ["/healthz", "/livez", "/readyz", "/version"].iter().any(|p| asked.path.starts_with(p));
        let discovery =
            ["/api", "/openapi", "/openid", "/.well-known"].iter().any(|p| asked.path.starts_with(p));
        return public || discovery && principal.is_in("system:authenticated");
    }
    let own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"];
    principal.is_in("system:authenticated") && own.contains(&asked.resource.as_str())
}

fn node_may(node: &str, asked: &Attributes, storage: &Storage) -> bool {
    let verb = asked.verb.as_str();
    let read = matches!(verb, "get" | "list" | "watch");
    let own = asked.name.is_empty() || asked.name == node;
    let selected = asked.node_selected.as_deref() == Some(node);
    match (asked.group.as_str(), asked.resource.as_str(), asked.subresource.as_str()) {
        ("", "secrets" | "configmaps", "") => read && refers(node, asked, storage),
        ("", "pods", "") if verb == "get" => on_node(node, asked, storage),
        ("", "pods", "") if read => selected,
        ("", "pods", "") => matches!(verb, "create" | "delete"),
        ("", "pods", "status") => matches!(verb, "patch" | "update") && on_node(node, asked, storage),
        ("", "pods", "eviction") => verb == "create" && on_node(node, asked, storage),
        ("", "nodes", "") => asked.name == node && verb != "delete" || verb == "create",
        ("", "nodes", "status") => matches!(verb, "patch" | "update") && own,
        ("", "services", "")
        | ("node.k8s.io", "runtimeclasses", "")
        | ("storage.k8s.io", "csidrivers", "") => read,
        ("", "events", "") => matches!(verb, "create" | "patch" | "update"),
        ("", "serviceaccounts", "token") => verb == "create" && serves(node, asked, storage),
        ("coordination.k8s.io", "leases", "") => {
            own && asked.namespace == "kube-node-lease"
                && !matches!(verb, "list" | "watch" | "deletecollection")
        }
        ("storage.k8s.io", "csinodes", "") => own && !matches!(verb, "list" | "watch" | "deletecollection"),
        ("resource.k8s.io", "resourceslices", "") => !asked.name.is_empty() || selected || verb == "create",
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "")
        | ("certificates.k8s.io", "certificatesigningrequests", "") => {
            matches!(verb, "create" | "get" | "list" | "watch")
        }
        _ => false,
    }
}

fn on_node(node: &str, asked: &Attributes, storage: &Storage) -> bool {
    let key = super::object::Key::new(&asked.namespace, &asked.name);
    storage.get("pods", &key).is_some_and(|pod| pod.text("/spec/nodeName") == node)
}

/// A pod on the node runs as the ServiceAccount.
fn serves(node: &str, asked: &Attributes, storage: &Storage) -> bool {
    let runs = |pod: &Object| {
        pod.key.namespace == asked.namespace
            && pod.text("/spec/nodeName") == node
            && pod.text("/spec/serviceAccountName") == asked.name
    };
    storage.table("pods").is_some_and(|pods| pods.values().any(|p| runs(p)))
}

fn refers(node: &str, asked: &Attributes, storage: &Storage) -> bool {
    let field = if asked.resource == "secrets" { SECRET_NAMES } else { CONFIG_MAP_NAMES };
    let named = |pod: &Object| {
        pod.key.namespace == asked.namespace
            && pod.text("/spec/nodeName") == node
            && super::references::names(pod.value(), field).any(|n| n == asked.name)
    };
    !asked.name.is_empty() && storage.table("pods").is_some_and(|pods| pods.values().any(|p| named(p)))
}

const SECRET_NAMES: super::references::Fields = &[
    ("secret", "secretName"),
    ("secret", "name"),
    ("secretKeyRef", "name"),
    ("secretRef", "name"),
    ("imagePullSecrets", "name"),
];
const CONFIG_MAP_NAMES: super::references::Fields =
    &[("configMap", "name"), ("configMapKeyRef", "name"), ("configMapRef", "name")];
