#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

fn parse(method: &str, url: &str) -> RequestInfo {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    RequestInfo::parse(method, path, query).unwrap()
}

/// verb, resource, namespace, name, subresource; `-` = none
fn line(method: &str, url: &str) -> String {
    let info = parse(method, url);
    let Some(r) = info.resource() else { return "non-resource".into() };
    let part = |p: &Option<String>| p.clone().unwrap_or("-".into());
    format!("{} {} {} {} {}", r.verb, r.resource, part(&r.namespace), part(&r.name), part(&r.subresource))
}

#[test]
fn paths_as_the_apiserver_reads_them() {
    let cases = [
        ("GET", "/api/v1/pods", "list v1/pods - - -"),
        ("HEAD", "/api/v1/pods", "list v1/pods - - -"),
        ("GET", "/api/v1/pods?watch=1", "watch v1/pods - - -"),
        ("GET", "/api/v1/pods?watch=true", "watch v1/pods - - -"),
        ("GET", "/api/v1/pods?watch", "watch v1/pods - - -"),
        ("GET", "/api/v1/pods?watch=False", "list v1/pods - - -"),
        ("GET", "/api/v1/pods?watch=0&watch=1", "list v1/pods - - -"),
        ("GET", "/api/v1/namespaces", "list v1/namespaces - - -"),
        ("GET", "/api/v1/namespaces/x", "get v1/namespaces - x -"),
        ("GET", "/api/v1/namespaces/x/status", "get v1/namespaces - x status"),
        ("PUT", "/api/v1/namespaces/x/finalize", "update v1/namespaces - x finalize"),
        ("GET", "/api/v1/namespaces/x/pods", "list v1/pods x - -"),
        ("GET", "/api/v1/namespaces/x/pods/", "list v1/pods x - -"),
        ("GET", "/api/v1/namespaces/x/pods/p", "get v1/pods x p -"),
        ("GET", "/api/v1/namespaces/x/pods/p?watch=1", "get v1/pods x p -"),
        ("GET", "/api/v1/namespaces/x/pods/p/log?follow=true", "get v1/pods x p log"),
        ("POST", "/api/v1/namespaces/x/pods/p/exec", "create v1/pods x p exec"),
        ("GET", "/api/v1/namespaces/x/services/s/proxy/a/b", "get v1/services x s proxy"),
        ("GET", "/api/v1/namespaces/x/services/https:s:443/proxy/", "get v1/services x https:s:443 proxy"),
        ("GET", "/api/v1/nodes/n/proxy/logs/", "get v1/nodes - n proxy"),
        ("POST", "/api/v1/namespaces/default/events", "create v1/events default - -"),
        ("PATCH", "/api/v1/nodes/edge-1/status?timeout=10s", "patch v1/nodes - edge-1 status"),
        ("DELETE", "/api/v1/namespaces/x/pods/p", "delete v1/pods x p -"),
        ("DELETE", "/api/v1/namespaces/x/pods", "deletecollection v1/pods x - -"),
        (
            "DELETE",
            "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dedge-1",
            "deletecollection resource.k8s.io/v1/resourceslices - - -",
        ),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1?timeout=10s",
            "update coordination.k8s.io/v1/leases kube-node-lease edge-1 -",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            "create v1/serviceaccounts default default token",
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            "create authentication.k8s.io/v1/tokenreviews - - -",
        ),
        ("GET", "/api/v1/watch/pods", "watch v1/pods - - -"),
        ("GET", "/api/v1/watch/namespaces/x/pods", "watch v1/pods x - -"),
        ("GET", "/api/v1/watch/namespaces/x/pods/p", "watch v1/pods x p -"),
        ("GET", "/apis/apps/v1/watch/deployments", "watch apps/v1/deployments - - -"),
        ("GET", "/api/v1/namespaces/x/pods/a%2Db", "get v1/pods x a-b -"),
        ("GET", "/api/v1/namespaces/x/pods/a+b", "get v1/pods x a+b -"),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
            "get rbac.authorization.k8s.io/v1/clusterroles - system:node -",
        ),
        ("GET", "//api/v1/pods", "list v1/pods - - -"),
    ];
    for (method, url, expected) in cases {
        assert_eq!(line(method, url), expected, "{method} {url}");
    }
}

#[test]
fn what_is_not_a_resource() {
    let cases = [
        "/",
        "",
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/apis/apps/v1/",
        "/healthz",
        "/livez/ping",
        "/readyz",
        "/version",
        "/openapi/v3/apis/apps/v1",
        "/metrics",
        "/logs/a/b/c",
        "/api/v1//pods",
        "/api/v1/namespaces//pods",
        "/api/v1/proxy/namespaces/x/pods/p",
        "/.well-known/openid-configuration",
        "/API/v1/pods",
    ];
    for path in cases {
        assert_eq!(line("GET", path), "non-resource", "{path}");
    }
    assert_eq!(line("OPTIONS", "/api/v1/pods"), "non-resource");
    assert_eq!(line("get", "/api/v1/pods"), "non-resource");
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let cases = [
        ("/api/v1/watch", "kind and namespace"),
        ("/api/v1/pods%", "badly encoded"),
        ("/api/v1/%ff", "badly encoded"),
        ("/api/v1/pods?limit=many", "parsing \"many\""),
        ("/api/v1/pods?limit=", "parsing \"\""),
        ("/api/v1/pods?timeoutSeconds=1.5", "parsing \"1.5\""),
        ("/api/v1/pods?labelSelector=a%3D%3D%3Db", "requirement"),
        ("/api/v1/pods?fieldSelector=nonsense", "can't understand"),
    ];
    for (url, part) in cases {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let error = RequestInfo::parse("GET", path, query).unwrap_err();
        assert!(error.message.contains(part), "{url}: {error}");
    }
}

#[test]
fn options_of_a_list() {
    let info = parse(
        "GET",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1&labelSelector=b,a&limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan&continue=abc%3D",
    );
    let o = &info.resource().unwrap().options;
    assert_eq!(o.field_selector.exact("spec.nodeName"), Some("edge-1"));
    assert_eq!(o.label_selector.canonical(), "a,b");
    assert_eq!((o.limit, o.resource_version.as_deref()), (Some(500), Some("0")));
    assert_eq!(o.resource_version_match.as_deref(), Some("NotOlderThan"));
    assert_eq!(o.continue_token.as_deref(), Some("abc="));
    assert!(!o.watch && !o.allow_bookmarks && o.send_initial_events.is_none());
}

#[test]
fn options_of_a_watch() {
    let info = parse(
        "GET",
        "/api/v1/services?allowWatchBookmarks=true&fieldSelector=spec.clusterIP%21%3DNone&resourceVersion=17&timeoutSeconds=487&watch=true&sendInitialEvents=false",
    );
    let o = &info.resource().unwrap().options;
    assert_eq!(o.field_selector.canonical(), "spec.clusterIP!=None");
    assert!(o.watch && o.allow_bookmarks);
    assert_eq!((o.send_initial_events, o.timeout_seconds), (Some(false), Some(487)));
}

#[test]
fn a_name_selector_is_no_name() {
    let info = parse("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1&watch=1");
    let r = info.resource().unwrap();
    assert_eq!((r.verb, &r.name), (Verb::Watch, &None));
}

#[test]
fn unset_empty_and_zero() {
    let info = parse("GET", "/api/v1/pods?resourceVersion=&continue=&limit=0&timeoutSeconds=-1");
    assert_eq!(info.resource().unwrap().options, Options::default());
}

#[test]
fn selectors_do_not_count_on_single_objects() {
    let info = parse("GET", "/api/v1/nodes/edge-1?resourceVersion=0&fieldSelector=nonsense&limit=x");
    let expected = Options { resource_version: Some("0".into()), ..Options::default() };
    assert_eq!(info.resource().unwrap().options, expected);
}

#[test]
fn keys_and_the_namespace_of_authorization() {
    let of = |url| parse("GET", url).resource().unwrap().clone();
    let pod = of("/api/v1/namespaces/x/pods/p");
    assert_eq!(
        (pod.object_key().unwrap(), pod.authorization_namespace()),
        (ObjectKey::new("x", "p"), Some("x"))
    );
    let namespace = of("/api/v1/namespaces/x");
    assert_eq!(namespace.object_key().unwrap(), ObjectKey::new("", "x"));
    assert_eq!(namespace.authorization_namespace(), Some("x"));
    let list = of("/api/v1/pods");
    assert_eq!((list.object_key(), list.authorization_namespace()), (None, None));
}

proptest! {
    #[test]
    fn any_request_is_read_without_panic(method: String, path: String, query: String) {
        let _ = RequestInfo::parse(&method, &path, &query);
        let _ = RequestInfo::parse("GET", &format!("/api/v1/{path}"), &query);
    }

    #[test]
    fn sent_text_is_kept(path in "(/[a-z%0-9]{0,4}){0,6}", query in "[a-z=&%0-9]{0,20}") {
        if let Ok(info) = RequestInfo::parse("GET", &path, &query) {
            prop_assert_eq!((info.path, info.query), (path, query));
        }
    }
}
