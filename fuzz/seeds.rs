//! Where the fuzzing of each target begins: a few whole, valid inputs, made by our own encoders.

use serde_json::{Value, json};
use yurt_api::object;
use yurt_api::proto;
use yurt_api::representation::Encoding;
use yurt_api::resource::TypeMeta;
use yurt_api::watch::{self, EventType};

/// The seeds of every target, by its name.
pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("request", requests()),
        ("selectors", selectors()),
        ("metadata", metadata()),
        ("to_json", messages()),
        ("from_json", objects()),
        ("watch", streams()),
        ("list", lists()),
        ("patch", patches()),
        ("status", statuses()),
    ]
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    texts(&[
        "GET\n/api/v1/namespaces/default/pods/web-0\nresourceVersion=0",
        "GET\n/api/v1/pods\nfieldSelector=spec.nodeName%3Dedge-1&limit=500&resourceVersion=0",
        "GET\n/apis/apps/v1/namespaces/a/deployments\nlabelSelector=app+in+%28a%2Cb%29%2C%21c&limit=2&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTIsInN0YXJ0IjoiYVx1MDAwMCJ9",
        "GET\n/api/v1/watch/namespaces/default/pods/web-0\ntimeoutSeconds=30&allowWatchBookmarks=true",
        "GET\n/api/v1/services\nwatch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=9",
        "PATCH\n/api/v1/nodes/edge-1/status\nfieldManager=kubelet&timeout=10s",
        "POST\n/api/v1/namespaces/default/serviceaccounts/default/token\n",
        "DELETE\n/apis/apps/v1/namespaces/default/pods\nlabelSelector=a%3Db",
        "GET\n/openapi/v3/apis/apps/v1\nhash=0123",
        "GET\n/api/v1/namespaces/default/pods/web-0/proxy/a%2Fb\nx=y",
    ])
}

fn selectors() -> Vec<Vec<u8>> {
    texts(&[
        "app=web,tier!=db,a in (b,c),d notin (e),f,!g,h>1,i<2\nmetadata.name=a,spec.nodeName!=b",
        "!service.kubernetes.io/headless,x==y\nspec.clusterIP!=None",
        "a in (,b)\na=\\,\\=\\\\",
    ])
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "web-0", "namespace": "default", "uid": "a-b-c", "resourceVersion": "42", "generation": 3,
            "creationTimestamp": "2026-02-03T04:05:06Z", "labels": {"app": "web"}, "annotations": {"a": "ü\n\"\u{1}"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}],
            "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {
            "nodeName": "edge-1", "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}],
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 10}}],
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// Objects of the kinds of `properties::KINDS`, by their place there.
fn samples() -> Vec<(u8, Value)> {
    let lease = json!({"metadata": {"name": "edge-1"}, "spec": {"holderIdentity": "edge-1", "renewTime": "2026-02-03T04:05:06.123456Z"}});
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": "aGk=", "b": ""}, "immutable": true});
    let node = json!({"metadata": {"name": "edge-1"}, "status": {"capacity": {"cpu": "2", "memory": "1Gi"}, "images": [{"names": ["a"], "sizeBytes": 7}]}});
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"port": 80}]});
    let scaler = json!({"spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"tolerance": "0.1"}}}});
    let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object",
        "properties": {"a": {"items": {"type": "string"}, "default": {"x": [1]}, "maximum": 1.5}}, "additionalProperties": false}}}]}});
    vec![
        (0, pod()),
        (1, node),
        (2, secret),
        (3, json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}], "clusterIPs": ["10.0.0.1"]}})),
        (4, json!({"involvedObject": {"name": "a"}, "count": 2, "eventTime": "2026-02-03T04:05:06.000001Z"})),
        (5, lease),
        (6, slice),
        (7, json!({"data": {"spec": [1, {"a": null}]}, "revision": 4})),
        (8, scaler),
        (9, definition),
        (10, json!({"metadata": {"resourceVersion": "9"}, "items": [pod()]})),
        (11, json!({"spec": {"token": "t"}, "status": {"user": {"username": "u", "extra": {"k": ["v"]}}}})),
    ]
}

fn kind(place: u8) -> TypeMeta {
    let (api_version, kind) = match place {
        0 => ("v1", "Pod"),
        1 => ("v1", "Node"),
        2 => ("v1", "Secret"),
        3 => ("v1", "Service"),
        4 => ("v1", "Event"),
        5 => ("coordination.k8s.io/v1", "Lease"),
        6 => ("discovery.k8s.io/v1", "EndpointSlice"),
        7 => ("apps/v1", "ControllerRevision"),
        8 => ("autoscaling/v2", "HorizontalPodAutoscaler"),
        9 => ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        10 => ("v1", "PodList"),
        _ => ("authentication.k8s.io/v1", "TokenReview"),
    };
    TypeMeta::new(api_version, kind)
}

/// The bare message; nothing when it cannot be made, which a test of the conversion would show.
fn message(place: u8, object: &Value) -> Vec<u8> {
    proto::from_json(&kind(place), object.to_string().as_bytes()).unwrap_or_default()
}

fn with_head(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

fn messages() -> Vec<Vec<u8>> {
    samples().iter().map(|(place, object)| with_head(&[*place], &message(*place, object))).collect()
}

fn objects() -> Vec<Vec<u8>> {
    samples().iter().map(|(place, object)| with_head(&[*place], object.to_string().as_bytes())).collect()
}

fn in_protobuf() -> Vec<u8> {
    object::to_object(Encoding::Protobuf, &message(0, &pod()), &kind(0)).to_vec()
}

fn metadata() -> Vec<Vec<u8>> {
    vec![
        with_head(&[0, 0], pod().to_string().as_bytes()),
        with_head(&[1, 0], &in_protobuf()),
        with_head(&[1, 0], &message(0, &pod())),
        with_head(&[1, 1], &message(4, &json!({"reason": "r", "involvedObject": {"name": "a"}}))),
        with_head(
            &[0, 3],
            br#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{}}"#,
        ),
    ]
}

fn streams() -> Vec<Vec<u8>> {
    let stream = |enc, object: &[u8]| {
        let of = |kind| watch::encode(enc, kind, object).to_vec();
        [
            of(EventType::Added),
            of(EventType::Modified),
            of(EventType::Deleted),
            watch::bookmark(enc, &kind(0), 77, true).to_vec(),
        ]
        .concat()
    };
    vec![
        with_head(&[0, 7], &stream(Encoding::Json, pod().to_string().as_bytes())),
        with_head(&[1, 13], &stream(Encoding::Protobuf, &in_protobuf())),
    ]
}

fn lists() -> Vec<Vec<u8>> {
    let header = json!({"resourceVersion": "42", "continue": "abc", "remainingItemCount": 3});
    let json = json!({"kind": "PodList", "apiVersion": "v1", "metadata": header, "items": [pod(), pod()]});
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let custom =
        json!({"kind": "WidgetList", "apiVersion": "example.com/v1", "metadata": {}, "items": [widget]});
    let protobuf = object::to_object(Encoding::Protobuf, &message(10, &json), &kind(10));
    vec![
        with_head(&[0], json.to_string().as_bytes()),
        with_head(&[0], custom.to_string().as_bytes()),
        with_head(&[1], &protobuf),
    ]
}

fn patches() -> Vec<Vec<u8>> {
    let patch = |how: u8, patch: Value| with_head(&[how, 0], format!("{}\n{patch}", pod()).as_bytes());
    vec![
        patch(
            0,
            json!([{"op": "replace", "path": "/spec/nodeName", "value": "b"}, {"op": "copy", "from": "/spec", "path": "/x"}]),
        ),
        patch(1, json!({"metadata": {"labels": {"app": null, "b": "c"}}})),
        patch(
            2,
            json!({"spec": {"containers": [{"name": "c", "image": "j"}, {"$patch": "delete", "name": "d"}],
            "$setElementOrder/containers": [{"name": "c"}]}}),
        ),
        patch(
            2,
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "$retainKeys": ["phase"]}}),
        ),
        patch(
            2,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}, "spec": {"$patch": "replace"}}),
        ),
    ]
}

fn statuses() -> Vec<Vec<u8>> {
    let status = yurt_api::status::Status::failure(410, "Expired", "too old").with_retry_after(1);
    vec![
        status.encode(Encoding::Json).to_vec(),
        status.encode(Encoding::Protobuf).to_vec(),
        b"application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf;q=0.5,*/*"
            .to_vec(),
    ]
}
