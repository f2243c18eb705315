//! Paths outside the resources: discovery, version, health, OpenAPI, keys.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{
    error::Refusal,
    registry::{Kind, Registry},
    respond::Reply,
    review::REVIEWS,
    server::Server,
    token::ISSUER,
};

/// Answers a GET of a path that is no resource.
pub fn answer(server: &Server, path: &str, headers: &HeaderMap) -> Result<Reply, Refusal> {
    let registry = server.registry.read().unwrap();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if let (["api" | "apis"], true) = (&parts[..], accept.split(',').any(|a| a.trim() == AGGREGATED)) {
        let list = aggregated(&registry, parts[0] == "api")?;
        let Reply::Raw(mut response) = json_with_etag(&list, headers) else { unreachable!() };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
        return Ok(Reply::Raw(response));
    }
    Ok(Reply::Value(
        200,
        match parts[..] {
            ["healthz" | "livez" | "readyz", ..] => return Ok(text("ok")),
            ["version"] => return Ok(json_with_etag(&version(&server.options.git_version), headers)),
            ["openid", "v1", "jwks"] => return Ok(json_with_etag(&server.tokens.jwks(), headers)),
            [".well-known", "openid-configuration"] => return Ok(json_with_etag(&openid(), headers)),
            ["openapi", "v2"] => {
                return Ok(json_with_etag(&openapi_v2(&server.options.git_version), headers));
            }
            ["openapi", "v3"] => return Ok(json_with_etag(&openapi_v3(&registry), headers)),
            ["openapi", "v3", ..] => return Ok(json_with_etag(&openapi_document(path), headers)),
            ["api"] => json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}]}),
            ["apis"] => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(&registry)}),
            ["apis", group] => named_group(&registry, group)?,
            ["api", "v1"] => resources(&registry, "", "v1")?,
            ["apis", group, version] => resources(&registry, group, version)?,
            _ => return Err(Refusal::no_such_path()),
        },
    ))
}

/// The form of a discovery of all groups at once (KEP-3352).
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn aggregated(registry: &Registry, core: bool) -> Result<Value, Refusal> {
    let groups =
        if core { vec![json!({"name": "", "versions": [{"version": "v1"}]})] } else { groups(registry) };
    let mut items = Vec::new();
    for group in groups {
        let name = group["name"].as_str().unwrap_or_default();
        let mut versions = Vec::new();
        for version in group["versions"].as_array().into_iter().flatten() {
            let version = version["version"].as_str().unwrap_or_default();
            let plain = resources(registry, name, version)?;
            let resources = aggregated_resources(name, version, plain["resources"].as_array().unwrap());
            versions.push(json!({"version": version, "resources": resources, "freshness": "Current"}));
        }
        items.push(json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions}));
    }
    Ok(
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}),
    )
}

/// Resources with their subresources below them.
fn aggregated_resources(group: &str, version: &str, plain: &[Value]) -> Vec<Value> {
    let kind = |r: &Value| {
        let said = |key: &str, own: &str| r[key].as_str().unwrap_or(own).to_owned();
        json!({"group": said("group", group), "version": said("version", version), "kind": r["kind"]})
    };
    let mut all: Vec<Value> = Vec::new();
    for r in plain {
        let name = r["name"].as_str().unwrap();
        match (name.split_once('/'), all.last_mut()) {
            (Some((_, sub)), Some(last)) => {
                let sub = json!({"subresource": sub, "responseKind": kind(r), "verbs": r["verbs"]});
                last["subresources"].as_array_mut().unwrap().push(sub);
            }
            _ => all.push(json!({
                "resource": name, "responseKind": kind(r), "singularResource": r["singularName"], "verbs": r["verbs"],
                "scope": if r["namespaced"] == true { "Namespaced" } else { "Cluster" }, "subresources": [],
            })),
        }
    }
    all
}

fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next(), "minor": numbers.next(), "gitVersion": git_version, "gitCommit": "testkit",
        "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.25", "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn openid() -> Value {
    json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn openapi_v2(git_version: &str) -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": git_version}, "paths": {}, "definitions": {}})
}

fn openapi_v3(registry: &Registry) -> Value {
    let mut paths = json!({});
    for kind in registry.all() {
        let root = if kind.group.is_empty() { "api" } else { "apis" };
        let path = format!("{root}/{}", kind.api_version());
        let url = format!("/openapi/v3/{path}?hash={}", hash(path.as_bytes()));
        paths[path] = json!({"serverRelativeURL": url});
    }
    json!({"paths": paths})
}

fn openapi_document(path: &str) -> Value {
    let title = path.trim_start_matches("/openapi/v3/");
    json!({"openapi": "3.0.0", "info": {"title": title, "version": "unversioned"}, "paths": {}, "components": {"schemas": {}}})
}

fn groups(registry: &Registry) -> Vec<Value> {
    let mut names: Vec<&str> = registry.all().map(|k| k.group.as_str()).filter(|g| !g.is_empty()).collect();
    names.extend(REVIEWS.iter().map(|(group, _)| *group));
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|g| group(registry, g)).collect()
}

fn group(registry: &Registry, group: &str) -> Value {
    let mut versions: Vec<&str> =
        registry.all().filter(|k| k.group == group).map(|k| k.version.as_str()).collect();
    if REVIEWS.iter().any(|(g, _)| *g == group) {
        versions.push("v1");
    }
    versions.dedup();
    let entries: Vec<_> =
        versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
    json!({"name": group, "versions": entries, "preferredVersion": entries.first()})
}

fn named_group(registry: &Registry, name: &str) -> Result<Value, Refusal> {
    let mut value = group(registry, name);
    if value["versions"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::no_such_path());
    }
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(value)
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut found: Vec<Value> = Vec::new();
    for kind in registry.all().filter(|k| k.group == group && k.version == version) {
        found.extend(entries(kind));
    }
    if version == "v1" {
        let reviews = REVIEWS.iter().filter(|(g, _)| *g == group);
        found.extend(reviews.map(|(_, plural)| json!({
            "name": plural, "singularName": plural.trim_end_matches('s'), "namespaced": plural.starts_with("local"),
            "kind": review_kind(plural), "verbs": ["create"],
        })));
    }
    if found.is_empty() {
        return Err(Refusal::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": found});
    // The core group's does not say it.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Ok(list)
}

fn entries(kind: &Kind) -> Vec<Value> {
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut found = vec![json!({
        "name": kind.plural, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": verbs,
    })];
    let mut sub = |name: &str, of: &str, verbs: &[&str]| {
        let name = format!("{}/{name}", kind.plural);
        found.push(json!({"name": name, "singularName": "", "namespaced": kind.namespaced, "kind": of, "verbs": verbs}));
    };
    if kind.status {
        sub("status", &kind.kind, &["get", "patch", "update"]);
    }
    match kind.plural.as_str() {
        "pods" => {
            sub("binding", "Binding", &["create"]);
            sub("eviction", "Eviction", &["create"]);
            sub("exec", "PodExecOptions", &["create", "get"]);
            sub("log", "Pod", &["get"]);
        }
        "serviceaccounts" => sub("token", "TokenRequest", &["create"]),
        _ => {}
    }
    found
}

fn review_kind(plural: &str) -> &'static str {
    match plural {
        "tokenreviews" => "TokenReview",
        "selfsubjectreviews" => "SelfSubjectReview",
        "subjectaccessreviews" => "SubjectAccessReview",
        "localsubjectaccessreviews" => "LocalSubjectAccessReview",
        _ => "SelfSubjectAccessReview",
    }
}

fn text(body: &'static str) -> Reply {
    let response =
        Response::builder().header(header::CONTENT_TYPE, "text/plain; charset=utf-8").body(body.into());
    Reply::Raw(response.unwrap())
}

fn json_with_etag(value: &Value, headers: &HeaderMap) -> Reply {
    let body = serde_json::to_vec_pretty(value).unwrap();
    let etag = format!("\"{}\"", hash(&body));
    let same = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v == etag.as_str());
    let mut response = Response::new(if same { Body::empty() } else { Body::from(body) });
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::ETAG, HeaderValue::from_str(&etag).unwrap());
    Reply::Raw(response)
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02X}")).collect()
}
