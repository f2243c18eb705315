//! What this program may do: one table a controller. The ClusterRole and Roles in `deploy/` are made from it, and at the
//! start every right of it is asked for, so that a missing one is named instead of met in an outage.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;
use crate::controllers::{self, Controller};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that has to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group, "" for core.
    pub group: &'static str,
    /// Plural name; with "/" and the subresource where there is one.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Only objects of these names; empty for all.
    pub names: &'static [&'static str],
    /// Where.
    pub place: Place,
}

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In every namespace, or outside of namespaces.
    Cluster,
    /// In the namespace of this program.
    Own,
    /// In a namespace of that name.
    Namespace(&'static str),
}

impl Right {
    /// A right on all objects of a resource.
    pub const fn of(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Self {
        Self { group, resource, verbs, names: &[], place: Place::Cluster }
    }

    /// The same, at one place.
    pub const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The same, for objects of these names.
    pub const fn named(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }
}

/// The rights that every instance needs: those of the election.
pub const ELECTION: &[Right] = &[
    Right::of("coordination.k8s.io", "leases", &["create"]).at(Place::Own),
    Right::of("coordination.k8s.io", "leases", &["get", "update"])
        .at(Place::Own)
        .named(&["yurt-controller-manager"]),
];

/// All rights of a set of controllers, each once.
pub fn of<'a>(controllers: impl Iterator<Item = &'a Controller>) -> Vec<Right> {
    let mut all: Vec<Right> = Vec::new();
    for right in ELECTION.iter().chain(controllers.flat_map(|c| c.rights)) {
        if !all.contains(right) {
            all.push(*right);
        }
    }
    all
}

/// The rights that this configuration needs and the cluster denies, as texts. Errors: a question without an answer.
pub async fn missing(client: &kube::Client, config: &Config) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    let chosen = controllers::TABLE.iter().filter(|c| config.runs(c.name));
    for right in of(chosen).iter().filter(|r| config.lead.leader_elect || !ELECTION.contains(r)) {
        for question in questions(right, config) {
            if !allowed(client, &question).await? {
                missing.push(text(&question));
            }
        }
    }
    Ok(missing)
}

async fn allowed(client: &kube::Client, attributes: &BTreeMap<&'static str, String>) -> anyhow::Result<bool> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&review)?)?;
    let answer: Value = tokio::time::timeout(PATIENCE, client.request(request)).await??;
    Ok(answer["status"]["allowed"].as_bool().unwrap_or(false))
}

/// One question for every verb and name.
fn questions(right: &Right, config: &Config) -> Vec<BTreeMap<&'static str, String>> {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let namespace = match right.place {
        Place::Cluster => "",
        Place::Own => config.namespace.as_str(),
        Place::Namespace(name) => name,
    };
    let names = if right.names.is_empty() { &[""] } else { right.names };
    let ask = |verb: &str, name: &str| -> BTreeMap<&'static str, String> {
        let all = [
            ("verb", verb),
            ("group", right.group),
            ("resource", resource),
            ("subresource", subresource),
            ("namespace", namespace),
            ("name", name),
        ];
        all.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, v.to_owned())).collect()
    };
    right
        .verbs
        .iter()
        .flat_map(|verb| names.iter().map(move |name| (verb, name)))
        .map(|(v, n)| ask(v, n))
        .collect()
}

/// Such as `patch pods/status` or `get leases.coordination.k8s.io in kube-system`.
fn text(question: &BTreeMap<&'static str, String>) -> String {
    let get = |key: &str| question.get(key).map_or("", String::as_str);
    let mut text = format!("{} {}", get("verb"), get("resource"));
    for (before, key) in [(".", "group"), ("/", "subresource"), (" ", "name"), (" in ", "namespace")] {
        if !get(key).is_empty() {
            text = format!("{text}{before}{}", get(key));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_name_is_asked_for() {
        let config = Config::read(["x".into()]).unwrap();
        let texts = |right: Right| -> Vec<String> { questions(&right, &config).iter().map(text).collect() };
        assert_eq!(texts(Right::of("", "pods/status", &["patch"])), ["patch pods/status"]);
        assert_eq!(
            texts(ELECTION[1]),
            [
                "get leases.coordination.k8s.io yurt-controller-manager in kube-system",
                "update leases.coordination.k8s.io yurt-controller-manager in kube-system",
            ]
        );
        assert_eq!(
            texts(Right::of("apps.openyurt.io", "nodepools", &["list", "watch"])),
            ["list nodepools.apps.openyurt.io", "watch nodepools.apps.openyurt.io"]
        );
    }
}
