//! What the conversion between protobuf and JSON does with little, with much, and with nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};
use yurt_api::proto::{self, ConvertError};
use yurt_api::resource::{Resource, TypeMeta};

fn tm(api_version: &str, kind: &str) -> TypeMeta {
    TypeMeta::new(api_version, kind)
}

#[track_caller]
fn both_ways(tm: &TypeMeta, given: Value, expected: Value) {
    let message = proto::from_json(tm, given.to_string().as_bytes()).unwrap();
    let made: Value = serde_json::from_slice(&proto::to_json(tm, &message).unwrap()).unwrap();
    assert_eq!(made, expected);
}

#[test]
fn what_is_empty_looks_as_in_go() {
    for (tm, given, expected) in [
        (
            tm("v1", "Pod"),
            json!({}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"containers": null}, "status": {}}),
        ),
        (
            tm("v1", "PodList"),
            json!({"items": []}),
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": null}),
        ),
        (
            tm("v1", "Secret"),
            json!({"data": {"a": "", "b": null, "c": "aGk="}}),
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {}, "data": {"a": "", "b": "", "c": "aGk="}}),
        ),
        (
            tm("v1", "Secret"),
            json!({"immutable": false}),
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {}, "immutable": false}),
        ),
        (
            tm("coordination.k8s.io/v1", "Lease"),
            json!({"spec": {"renewTime": "2026-02-03T04:05:06.123456789Z"}}),
            json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {}, "spec": {"renewTime": "2026-02-03T04:05:06.123456Z"}}),
        ),
        (
            tm("v1", "Event"),
            json!({}),
            json!({
                "kind": "Event", "apiVersion": "v1", "metadata": {}, "involvedObject": {}, "source": {},
                "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": "",
            }),
        ),
        (
            tm("v1", "DeleteOptions"),
            json!({"kind": "x", "preconditions": {"uid": "u"}, "unknown": {"a": [1]}}),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}}),
        ),
        (
            tm("authentication.k8s.io/v1", "TokenReview"),
            json!({"status": {"user": {"extra": {"k": ["v"], "e": []}}}}),
            json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"user": {"extra": {"e": [], "k": ["v"]}}}}),
        ),
    ] {
        both_ways(&tm, given, expected);
    }
}

#[test]
fn schemas_of_custom_resources() {
    let schema = json!({
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "array", "items": {"type": "string", "maxLength": 3}, "x-kubernetes-list-type": "set"}, "b": {"default": {"x": [1]}, "maximum": 1.5}},
        "additionalProperties": false,
        "dependencies": {"a": ["b"], "c": {"type": "string"}},
    });
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let spec = json!({"group": "example.com", "names": {"plural": "things", "kind": "Thing"}, "scope": "Namespaced", "versions": [version]});
    let given = json!({"spec": spec});
    let expected = json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {}, "spec": spec,
        "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null},
    });
    both_ways(&tm("apiextensions.k8s.io/v1", "CustomResourceDefinition"), given, expected);
}

#[test]
fn kinds_of_resources() {
    for (group, version, resource, kind) in [
        ("", "v1", "pods", "Pod"),
        ("", "v1", "endpoints", "Endpoints"),
        ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        ("networking.k8s.io", "v1", "ingresses", "Ingress"),
        ("storage.k8s.io", "v1", "csinodes", "CSINode"),
        ("coordination.k8s.io", "v1", "leases", "Lease"),
        ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
        ("resource.k8s.io", "v1", "resourceslices", "ResourceSlice"),
        ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "v1", "apiservices", "APIService"),
    ] {
        let found =
            proto::kind_of(&Resource::new(group, version, resource)).unwrap_or_else(|| panic!("{resource}"));
        assert_eq!(found.kind, kind);
        assert!(
            proto::knows(&found) && proto::knows(&tm(&found.api_version, &format!("{kind}List")))
                || resource.ends_with("reviews")
        );
    }
    assert_eq!(proto::kind_of(&Resource::new("example.com", "v1", "pods")), None);
    for (version, kind) in [
        ("v1", "Status"),
        ("meta.k8s.io/v1", "PartialObjectMetadataList"),
        ("policy/v1", "Eviction"),
        ("v1", "PatchOptions"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("authorization.k8s.io/v1", "SubjectAccessReview"),
    ] {
        assert!(proto::knows(&tm(version, kind)), "{kind}");
    }
}

#[test]
fn scalars_by_path() {
    let pod = tm("v1", "Pod");
    let json = json!({"metadata": {"name": "web", "generation": -2}, "spec": {"nodeName": "edge", "hostNetwork": true, "priority": 7}});
    let message = proto::from_json(&pod, json.to_string().as_bytes()).unwrap();
    for (path, expected) in [
        ("metadata.name", Some("web")),
        ("metadata.generation", Some("-2")),
        ("spec.nodeName", Some("edge")),
        ("spec.hostNetwork", Some("true")),
        ("spec.priority", Some("7")),
        ("spec.enableServiceLinks", None),
        ("spec", None),
        ("spec.containers.name", None),
        ("spec.nodeName.x", None),
        ("nothing", None),
        ("", None),
    ] {
        assert_eq!(proto::scalar_at(&pod, path, &message).unwrap().as_deref(), expected, "{path}");
    }
    assert!(proto::scalar_at(&pod, "spec.nodeName", b"\x12\xff").is_err());
}

#[test]
fn parts_of_a_message_add_up_and_the_last_scalar_counts() {
    let pod = tm("v1", "Pod");
    let part = |json: Value| proto::from_json(&pod, json.to_string().as_bytes()).unwrap();
    let joined = [
        part(json!({"metadata": {"name": "a", "labels": {"x": "1"}}})),
        part(json!({"metadata": {"name": "b"}})),
    ]
    .concat();
    let made: Value = serde_json::from_slice(&proto::to_json(&pod, &joined).unwrap()).unwrap();
    assert_eq!(made["metadata"], json!({"name": "b", "labels": {"x": "1"}}));
}

#[test]
fn nonsense_is_refused() {
    let pod = tm("v1", "Pod");
    for json in [
        "",
        "null",
        "[]",
        "{",
        "{}x",
        "{\"spec\":[]}",
        "{\"spec\":{\"containers\":{}}}",
        "{\"spec\":{\"priority\":1.5}}",
        "{\"spec\":{\"priority\":3000000000}}",
        "{\"spec\":{\"nodeName\":1}}",
        "{\"metadata\":{\"creationTimestamp\":\"now\"}}",
        "{\"metadata\":{\"labels\":[]}}",
        "{\"metadata\":{\"labels\":{\"a\":1}}}",
        "{\"spec\":{\"hostNetwork\":\"true\"}}",
    ] {
        assert!(matches!(proto::from_json(&pod, json.as_bytes()), Err(ConvertError::Decode(_))), "{json}");
    }
    assert!(matches!(proto::to_json(&tm("example.com/v1", "Pod"), b""), Err(ConvertError::Unknown(_))));
    // metadata as a number, a cut length, text that is not UTF-8, a managed field that is not JSON
    for message in
        [&b"\x08\x01"[..], b"\x0a\x05\x0a", b"\x0a\x03\x0a\x01\xff", b"\x0a\x08\x8a\x01\x05\x3a\x03\x0a\x01{"]
    {
        assert!(proto::to_json(&pod, message).is_err(), "{message:x?}");
    }
}

#[test]
fn nesting_is_limited() {
    let crd = tm("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let deep = "{\"not\":".repeat(5000);
    let json = format!("{{\"spec\":{{\"versions\":[{{\"schema\":{{\"openAPIV3Schema\":{deep}");
    assert!(proto::from_json(&crd, json.as_bytes()).is_err());
    // JSONSchemaProps.not is field 28: a chain of messages, each the body of the next.
    let mut message = Vec::new();
    for number in std::iter::repeat_n(28u8, 2000).chain([1, 4, 7, 2]) {
        let mut outer =
            if number < 16 { vec![number << 3 | 2] } else { vec![(number << 3 | 2) | 0x80, number >> 4] };
        let mut length = message.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.append(&mut message);
        message = outer;
    }
    assert!(proto::to_json(&crd, &message).unwrap_err().to_string().contains("deep"));
}

/// A pod as a node runs it, of about 3 KB as JSON.
fn usual_pod(number: usize) -> Value {
    let env: Vec<Value> = (0..8)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("some value {n}")}))
        .collect();
    let conditions: Vec<Value> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-02-03T04:05:06Z"}))
        .collect();
    json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": "default", "uid": format!("5d3c1f1e-0000-4000-8000-{number:012}"),
            "resourceVersion": "123456", "creationTimestamp": "2026-02-03T04:05:06Z",
            "labels": {"app": "web", "pod-template-hash": "abcdef"}, "annotations": {"note": "a \"quoted\" text\nof two lines"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": "2026-02-03T04:05:06Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:conditions": {".": {}, "f:type": {}}, "f:podIP": {}}}, "subresource": "status"}],
        },
        "spec": {
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}], "defaultMode": 420}}],
            "containers": [{
                "name": "main", "image": "registry.example.com/web:1.2.3", "env": env,
                "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "token", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10},
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "nodeName": "edge",
        },
        "status": {
            "phase": "Running", "conditions": conditions, "hostIP": "10.0.0.1", "podIP": "10.1.0.5", "podIPs": [{"ip": "10.1.0.5"}],
            "startTime": "2026-02-03T04:05:06Z", "qosClass": "Burstable",
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": "2026-02-03T04:05:06Z"}}, "lastState": {}, "ready": true, "restartCount": 0, "image": "registry.example.com/web:1.2.3", "imageID": "sha256:0123456789abcdef", "containerID": "containerd://0123456789abcdef", "started": true}],
        },
    })
}

/// Run by hand: `cargo test --release -p yurt-api --test proto -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let tm = tm("v1", "PodList");
    let list =
        json!({"metadata": {"resourceVersion": "1"}, "items": (0..1000).map(usual_pod).collect::<Vec<_>>()});
    let json = list.to_string();
    let message = proto::from_json(&tm, json.as_bytes()).unwrap();
    let rate = |bytes: usize, work: &dyn Fn() -> Vec<u8>| {
        let best = (0..10)
            .map(|_| {
                let start = Instant::now();
                assert!(!work().is_empty());
                start.elapsed()
            })
            .min()
            .unwrap();
        bytes as f64 / 1e6 / best.as_secs_f64()
    };
    let out = rate(message.len(), &|| proto::to_json(&tm, &message).unwrap());
    let back = rate(json.len(), &|| proto::from_json(&tm, json.as_bytes()).unwrap());
    println!("{} bytes of protobuf, {} of JSON", message.len(), json.len());
    println!("to JSON: {out:.0} MB of protobuf a second; from JSON: {back:.0} MB of JSON a second");
    assert!(cfg!(debug_assertions) || (out > 100.0 && back > 100.0));
}

fn any_kind() -> impl Strategy<Value = TypeMeta> {
    prop::sample::select(vec![
        tm("v1", "Pod"),
        tm("v1", "Node"),
        tm("v1", "Secret"),
        tm("v1", "Event"),
        tm("v1", "WatchEvent"),
        tm("apps/v1", "Deployment"),
        tm("resource.k8s.io/v1", "ResourceSlice"),
        tm("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        tm("v1", "Service"),
    ])
}

/// Removes what the bits of `chance` say from every object.
fn thin(value: &mut Value, chance: &mut impl Iterator<Item = bool>) {
    match value {
        Value::Object(object) => {
            object.retain(|_, _| chance.next().unwrap_or(true));
            object.values_mut().for_each(|value| thin(value, chance));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| thin(value, chance)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(tm in any_kind(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(json) = proto::to_json(&tm, &bytes) {
            serde_json::from_slice::<Value>(&json).expect("what is made of anything is JSON");
        }
        let _ = proto::from_json(&tm, &bytes);
        let _ = proto::scalar_at(&tm, "metadata.name", &bytes);
    }

    #[test]
    fn a_damaged_message_gives_json_or_an_error(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let tm = tm("v1", "Pod");
        let mut message = proto::from_json(&tm, usual_pod(1).to_string().as_bytes()).unwrap();
        let place = at.index(message.len());
        message[place] = byte;
        message.truncate(cut.index(message.len() * 4));
        if let Ok(json) = proto::to_json(&tm, &message) {
            serde_json::from_slice::<Value>(&json).expect("what is made of anything is JSON");
        }
    }

    #[test]
    fn a_thinned_pod_comes_back_as_the_same_bytes(chances in prop::collection::vec(prop::bool::weighted(0.9), 300)) {
        let tm = tm("v1", "Pod");
        let mut pod = usual_pod(1);
        thin(&mut pod, &mut chances.into_iter());
        let message = proto::from_json(&tm, pod.to_string().as_bytes()).unwrap();
        let json = proto::to_json(&tm, &message).unwrap();
        prop_assert_eq!(&proto::from_json(&tm, &json).unwrap(), &message);
        // nothing that was said is lost
        let made: Value = serde_json::from_slice(&json).unwrap();
        prop_assert!(within(&pod, &made), "{} in {}", pod, made);
    }
}

/// Whether all of `part` is in `whole`; what Go does not tell from absent (null, "", 0, false, [] and {}) may miss.
fn within(part: &Value, whole: &Value) -> bool {
    let nothing = json!([null, "", 0, false, [], {}]);
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part.iter().all(|(name, value)| {
            whole
                .get(name)
                .map_or_else(|| nothing.as_array().unwrap().contains(value), |other| within(value, other))
        }),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| within(a, b))
        }
        (part, Value::Null) => nothing.as_array().unwrap().contains(part),
        (part, whole) => part == whole,
    }
}

/// Found by fuzzing: a number that was read one unit in the last place beside what was written.
#[test]
fn numbers_keep_every_digit() {
    let crd = tm("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    for text in ["-4.365574568510055e-10", "0.1", "1.7976931348623157e308", "5e-324", "123456.78901234567"] {
        let schema = format!(r#"{{"type":"number","maximum":{text}}}"#);
        let version = format!(r#"{{"name":"v1","schema":{{"openAPIV3Schema":{schema}}}}}"#);
        let message =
            proto::from_json(&crd, format!(r#"{{"spec":{{"versions":[{version}]}}}}"#).as_bytes()).unwrap();
        let made = String::from_utf8(proto::to_json(&crd, &message).unwrap()).unwrap();
        let at = made.find("\"maximum\":").unwrap() + "\"maximum\":".len();
        let said = &made[at..at + made[at..].find([',', '}']).unwrap()];
        assert_eq!(said.parse::<f64>().unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{said}");
    }
}
