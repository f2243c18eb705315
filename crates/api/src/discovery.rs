//! Discovery documents of one form made from those of another: the aggregated lists of all groups (KEP-3352,
//! `apidiscovery.k8s.io/v2`) say what the older documents say, each for a part: `/api`, `/apis`, `/apis/GROUP` and
//! `/apis/GROUP/VERSION`.
//!
//! What an aggregated list does not have is left out: `storageVersionHash` and the addresses of servers.

use serde_json::{Map, Value, json};

/// The `Content-Type` of an aggregated list.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// An older discovery document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// `/api`: the versions of the core group.
    Versions,
    /// `/apis`: all other groups.
    Groups,
    /// `/apis/GROUP`
    Group(&'a str),
    /// `/api/VERSION` (an empty group) or `/apis/GROUP/VERSION`
    Resources(&'a str, &'a str),
}

impl<'a> Part<'a> {
    /// The document at this path; `None` when there is none of these.
    pub fn of_path(path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api"] => Some(Part::Versions),
            ["apis"] => Some(Part::Groups),
            ["apis", group] => Some(Part::Group(group)),
            ["api", version] => Some(Part::Resources("", version)),
            ["apis", group, version] => Some(Part::Resources(group, version)),
            _ => None,
        }
    }

    /// The path of the aggregated list that says this.
    pub fn aggregated_path(self) -> &'static str {
        match self {
            Part::Versions | Part::Resources("", _) => "/api",
            _ => "/apis",
        }
    }

    /// The document, from the body of the aggregated list; `None` when the list does not have it, or is none.
    pub fn from_aggregated(self, body: &[u8]) -> Option<Vec<u8>> {
        let list: Value = serde_json::from_slice(body).ok()?;
        if list["kind"] != "APIGroupDiscoveryList" {
            return None;
        }
        let groups = list["items"].as_array()?;
        let named = |name: &str| groups.iter().find(|group| name_of(group) == name);
        let made = match self {
            Part::Versions => versions(named("")?),
            Part::Groups => groups_of(groups),
            Part::Group(name) => {
                let mut group = Map::from_iter([text("kind", "APIGroup"), text("apiVersion", "v1")]);
                group.extend(group_of(named(name)?));
                Value::Object(group)
            }
            Part::Resources(group, version) => resources(named(group)?, version)?,
        };
        serde_json::to_vec(&made).ok()
    }
}

fn text(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), Value::from(value))
}

fn name_of(group: &Value) -> &str {
    group["metadata"]["name"].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn versions(core: &Value) -> Value {
    let versions: Vec<&Value> = list(core, "versions").map(|v| &v["version"]).collect();
    json!({"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": []})
}

fn groups_of(groups: &[Value]) -> Value {
    let others = groups.iter().filter(|group| !name_of(group).is_empty());
    let groups: Vec<Value> = others.map(|group| Value::Object(group_of(group))).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// Name and versions of a group; the first version is the one that the server prefers.
fn group_of(group: &Value) -> Map<String, Value> {
    let name = name_of(group);
    let version = |v: &Value| {
        let version = v["version"].as_str().unwrap_or_default();
        json!({"groupVersion": format!("{name}/{version}"), "version": version})
    };
    let versions: Vec<Value> = list(group, "versions").map(version).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    let parts = [("name", Value::from(name)), ("versions", versions.into()), ("preferredVersion", preferred)];
    parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn resources(group: &Value, version: &str) -> Option<Value> {
    let name = name_of(group);
    let of_version = list(group, "versions").find(|v| v["version"] == version)?;
    // A server that did not answer when the list was made has nothing in it.
    if of_version["freshness"] == "Stale" {
        return None;
    }
    let mut all = Vec::new();
    for resource in list(of_version, "resources") {
        let plural = resource["resource"].as_str().unwrap_or_default();
        let namespaced = resource["scope"] == "Namespaced";
        // Some servers list only subresources.
        if resource["responseKind"]["kind"].as_str().is_some_and(|kind| !kind.is_empty()) {
            all.push(entry(plural, &resource["singularResource"], namespaced, resource, (name, version)));
        }
        for sub in list(resource, "subresources") {
            let path = format!("{plural}/{}", sub["subresource"].as_str().unwrap_or_default());
            all.push(entry(&path, &Value::from(""), namespaced, sub, (name, version)));
        }
    }
    let group_version = if name.is_empty() { version.to_owned() } else { format!("{name}/{version}") };
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": all});
    // The core group's does not say it.
    if !name.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// One resource (`k8s.io/client-go/discovery/aggregated_discovery.go`, the way back).
fn entry(path: &str, singular: &Value, namespaced: bool, of: &Value, here: (&str, &str)) -> Value {
    let kind = &of["responseKind"];
    let mut entry = Map::from_iter([text("name", path)]);
    entry.insert("singularName".to_owned(), singular.as_str().unwrap_or_default().into());
    entry.insert("namespaced".to_owned(), namespaced.into());
    let there = [("group", here.0), ("version", here.1)].map(|(key, own)| {
        let said = kind[key].as_str().unwrap_or_default();
        (key, said, said != own)
    });
    // The type of what is answered is named where it is of another group or version.
    if there.iter().any(|(_, said, other)| *other && !said.is_empty()) {
        entry.extend(
            there.iter().filter(|(_, said, _)| !said.is_empty()).map(|(key, said, _)| text(key, said)),
        );
    }
    entry.insert("kind".to_owned(), kind["kind"].clone());
    entry.insert("verbs".to_owned(), of.get("verbs").cloned().unwrap_or_else(|| json!([])));
    for key in ["shortNames", "categories"] {
        if let Some(names) = of.get(key).filter(|names| names.as_array().is_some_and(|n| !n.is_empty())) {
            entry.insert(key.to_owned(), names.clone());
        }
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn aggregated() -> Value {
        let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
        let deployments = json!({
            "resource": "deployments", "responseKind": kind("apps", "v1", "Deployment"), "scope": "Namespaced",
            "singularResource": "deployment", "verbs": ["get", "list"], "shortNames": ["deploy"], "categories": ["all"],
            "subresources": [
                {"subresource": "scale", "responseKind": kind("autoscaling", "v1", "Scale"), "verbs": ["get"]},
                {"subresource": "status", "responseKind": kind("apps", "v1", "Deployment"), "verbs": ["get", "patch"]},
            ],
        });
        let nodes = json!({
            "resource": "nodes", "responseKind": kind("", "v1", "Node"), "scope": "Cluster",
            "singularResource": "node", "verbs": ["get"],
        });
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [
            {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [nodes], "freshness": "Current"}]},
            {"metadata": {"name": "apps"}, "versions": [
                {"version": "v1", "resources": [deployments], "freshness": "Current"},
                {"version": "v1beta1", "resources": [], "freshness": "Stale"},
            ]},
        ]})
    }

    fn made(path: &str) -> Option<Value> {
        let body = Part::of_path(path)?.from_aggregated(aggregated().to_string().as_bytes())?;
        serde_json::from_slice(&body).ok()
    }

    #[test]
    fn the_older_documents_are_parts_of_the_aggregated_ones() {
        assert_eq!(made("/api").unwrap()["versions"], json!(["v1"]));
        let groups = made("/apis").unwrap();
        let v1 = json!({"groupVersion": "apps/v1", "version": "v1"});
        let versions = json!([v1, {"groupVersion": "apps/v1beta1", "version": "v1beta1"}]);
        let apps = json!({"name": "apps", "versions": versions, "preferredVersion": v1});
        assert_eq!((&groups["kind"], &groups["groups"]), (&json!("APIGroupList"), &json!([apps])));
        let group = made("/apis/apps").unwrap();
        assert_eq!((&group["kind"], &group["versions"]), (&json!("APIGroup"), &versions));
        let core = json!([{"name": "nodes", "singularName": "node", "namespaced": false, "kind": "Node", "verbs": ["get"]}]);
        assert_eq!(made("/api/v1").unwrap()["resources"], core);
        let list = made("/apis/apps/v1").unwrap();
        assert_eq!((&list["kind"], &list["groupVersion"]), (&json!("APIResourceList"), &json!("apps/v1")));
        let expected = json!([
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
             "verbs": ["get", "list"], "shortNames": ["deploy"], "categories": ["all"]},
            {"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
             "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"name": "deployments/status", "singularName": "", "namespaced": true, "kind": "Deployment",
             "verbs": ["get", "patch"]},
        ]);
        assert_eq!(list["resources"], expected);
    }

    #[test]
    fn what_the_list_does_not_say_is_not_made_up() {
        for path in [
            "/apis/batch",
            "/apis/batch/v1",
            "/apis/apps/v2",
            "/apis/apps/v1beta1",
            "/version",
            "/openapi/v3",
        ] {
            assert_eq!(made(path), None, "{path}");
        }
        for body in
            [&b""[..], b"null", b"[]", br#"{"kind":"APIGroupList"}"#, br#"{"kind":"APIGroupDiscoveryList"}"#]
        {
            assert_eq!(Part::Groups.from_aggregated(body), None);
        }
    }
}
