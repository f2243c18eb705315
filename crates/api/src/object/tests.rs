#![allow(clippy::unwrap_used)]
use super::*;
use crate::proto;
use crate::representation::Representation;
use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector};
use proptest::prelude::*;

/// "resourceVersion", "kind" and "apiVersion" stand where they must not be touched.
const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"6f1c","resourceVersion":"812","generation":3,"creationTimestamp":"2026-08-18T09:00:00Z","deletionTimestamp":"2026-08-18T10:00:00Z","labels":{"app":"web","resourceVersion":"no"},"annotations":{"resourceVersion":"1","note":"\"resourceVersion\":\"2\" {\"kind\":\"x\"}"},"managedFields":[{"manager":"kubelet","apiVersion":"v1","fieldsV1":{"f:metadata":{"f:resourceVersion":{}}}}]},"spec":{"nodeName":"edge-1","containers":[{"name":"c","env":[{"name":"resourceVersion","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}]}]},"status":{"phase":"Running"}}"#;

fn pod_type() -> TypeMeta {
    TypeMeta::new("v1", "Pod")
}

fn item(enc: Encoding) -> Bytes {
    let object = Bytes::from_static(POD.as_bytes());
    match enc {
        Encoding::Json => to_item(enc, &object).unwrap(),
        Encoding::Protobuf => proto::from_json(&pod_type(), &object).unwrap().into(),
    }
}

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

#[test]
fn metadata_is_the_same_in_both_encodings() {
    let expected = Meta {
        name: "web-0".into(),
        namespace: "shop".into(),
        uid: "6f1c".into(),
        resource_version: 812,
        generation: 3,
        deletion_timestamp: Some("2026-08-18T10:00:00Z".into()),
    };
    for enc in BOTH {
        assert_eq!(meta(enc, &item(enc)).unwrap(), expected);
        assert_eq!(labels(enc, &item(enc)).unwrap()["app"], "web");
    }
    assert_eq!(meta(Encoding::Json, POD.as_bytes()).unwrap(), expected);
    assert_eq!(expected.key(), ObjectKey::new("shop", "web-0"));
}

#[test]
fn metadata_alone_is_what_the_object_says_of_itself() {
    let partial = TypeMeta::new("meta.k8s.io/v1", "PartialObjectMetadata");
    for enc in BOTH {
        let alone = metadata_only(enc, &item(enc)).unwrap();
        assert_eq!(meta(enc, &alone), meta(enc, &item(enc)));
        assert!(metadata_only(enc, b"").is_err());
        let json = match enc {
            Encoding::Json => alone,
            Encoding::Protobuf => proto::to_json_item(&partial, &alone).unwrap().into(),
        };
        let (whole, alone): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(POD).unwrap(), serde_json::from_slice(&json).unwrap());
        assert_eq!(alone, serde_json::json!({"metadata": whole["metadata"]}));
    }
    assert!(metadata_only(Encoding::Json, br#"{"metadata":null}"#).is_err());
}

#[test]
fn the_two_forms_lead_into_each_other() {
    for enc in BOTH {
        let object = to_object(enc, &item(enc), &pod_type());
        assert_eq!(type_meta(enc, &object).unwrap(), pod_type());
        assert_eq!(to_item(enc, &object).unwrap(), item(enc));
    }
    assert_eq!(to_object(Encoding::Json, &item(Encoding::Json), &pod_type()), POD);
}

#[test]
fn of_protobuf_the_item_is_a_slice() {
    let object = to_object(Encoding::Protobuf, &item(Encoding::Protobuf), &pod_type());
    let item = to_item(Encoding::Protobuf, &object).unwrap();
    assert!(object.as_ptr_range().contains(&item.as_ptr()));
}

#[test]
fn types_are_taken_off_wherever_they_stand() {
    let cases = [
        (r#"{"kind":"A","apiVersion":"v1"}"#, "{}"),
        (r#"{"kind":"A","apiVersion":"v1","x":1}"#, r#"{"x":1}"#),
        (r#"{"x":1,"kind":"A","y":2,"apiVersion":"v1"}"#, r#"{"x":1,"y":2}"#),
        (r#"{"apiVersion":"v1","x":{"kind":"B"},"kind":"A"}"#, r#"{"x":{"kind":"B"}}"#),
        ("{\n  \"kind\": \"A\",\n  \"x\": 1,\n  \"y\": [ ]\n}\n", "{\"x\": 1,\n  \"y\": [ ]\n}\n"),
        ("{\n  \"x\": 1,\n  \"kind\": \"A\"\n}", "{\n  \"x\": 1\n}"),
        (r#"{"\u006bind":"A","x":"\"kind\":\"B\","}"#, r#"{"x":"\"kind\":\"B\","}"#),
        (r#"{"x":1}"#, r#"{"x":1}"#),
        ("{}", "{}"),
        ("{ }", "{ }"),
    ];
    for (object, expected) in cases {
        assert_eq!(to_item(Encoding::Json, &Bytes::from(object)).unwrap(), expected, "{object}");
    }
}

#[test]
fn types_are_put_in_front() {
    let tm = TypeMeta::new("a.io/v1", "A\"");
    for (item, expected) in [
        ("{}", r#"{"kind":"A\"","apiVersion":"a.io/v1"}"#),
        ("{ \"x\":1}", r#"{"kind":"A\"","apiVersion":"a.io/v1", "x":1}"#),
    ] {
        assert_eq!(to_object(Encoding::Json, item.as_bytes(), &tm), expected);
    }
}

#[test]
fn the_version_is_set_and_nothing_else() {
    for enc in BOTH {
        let spliced = splice_resource_version(enc, &item(enc), 90_071_992_547_409_930).unwrap();
        let mut expected = meta(enc, &item(enc)).unwrap();
        expected.resource_version = 90_071_992_547_409_930;
        assert_eq!(meta(enc, &spliced).unwrap(), expected);
        assert_eq!(splice_resource_version(enc, &spliced, 812).unwrap(), item(enc));
    }
}

#[test]
fn a_missing_version_is_added() {
    let cases = [
        (
            r#"{"spec":{"resourceVersion":"1"}}"#,
            r#"{"metadata":{"resourceVersion":"7"},"spec":{"resourceVersion":"1"}}"#,
        ),
        (r#"{"metadata":null}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
        (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
        (r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"resourceVersion":"7","name":"a"}}"#),
        (r#"{"metadata":{"resourceVersion":null}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
        ("{ }", r#"{"metadata":{"resourceVersion":"7"} }"#),
        (
            r#"{"metadata" : {"labels":{"resourceVersion":"1"}, "resourceVersion" : "" } }"#,
            r#"{"metadata" : {"labels":{"resourceVersion":"1"}, "resourceVersion" : "7" } }"#,
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(splice_resource_version(Encoding::Json, item.as_bytes(), 7).unwrap(), expected);
    }
    let empty = splice_resource_version(Encoding::Protobuf, &[], 7).unwrap();
    assert_eq!(meta(Encoding::Protobuf, &empty).unwrap().resource_version, 7);
}

#[test]
fn nonsense_is_refused() {
    let json: [&[u8]; 8] =
        [b"", b"[]", b"null", b"{", b"{\"metadata\":[]}", b"{\"metadata\":{}} x", b"<html>", b"\xff"];
    for body in json {
        assert!(meta(Encoding::Json, body).is_err(), "{body:?}");
        assert!(splice_resource_version(Encoding::Json, body, 1).is_err(), "{body:?}");
    }
    assert_eq!(meta(Encoding::Json, b"{}"), Err(DecodeError::Missing("metadata")));
    assert_eq!(meta(Encoding::Protobuf, b""), Err(DecodeError::Missing("metadata")));
    assert_eq!(meta(Encoding::Json, &POD.as_bytes()[..POD.len() - 1]), Err(DecodeError::Truncated));
    assert!(type_meta(Encoding::Json, b"{}").is_err());
    // two metadata: readers of this message could differ about which one counts
    assert!(meta(Encoding::Protobuf, &[0x0a, 0, 0x0a, 0]).is_err());
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!(r#"{{"kind":"A","metadata":{{"x":{}1{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let object = Bytes::from(deep);
    meta(Encoding::Json, &object).unwrap();
    to_item(Encoding::Json, &object).unwrap();
    splice_resource_version(Encoding::Json, &object, 1).unwrap();
}

/// JSON with a value in each selectable field of each table, and the kind that `proto` knows it as.
const SAMPLES: [(&str, &str, &str, &str, &str); 10] = [
    (
        "",
        "v1",
        "pods",
        "Pod",
        r#"{"spec":{"nodeName":"a","restartPolicy":"b","schedulerName":"c","serviceAccountName":"d","hostNetwork":true},"status":{"phase":"e","podIP":"f","nominatedNodeName":"g"}}"#,
    ),
    ("", "v1", "services", "Service", r#"{"spec":{"clusterIP":"None","type":"ClusterIP"}}"#),
    ("", "v1", "nodes", "Node", r#"{"spec":{"unschedulable":true}}"#),
    ("", "v1", "secrets", "Secret", r#"{"type":"Opaque"}"#),
    ("", "v1", "namespaces", "Namespace", r#"{"status":{"phase":"Active"}}"#),
    (
        "",
        "v1",
        "events",
        "Event",
        r#"{"involvedObject":{"kind":"a","namespace":"b","name":"c","uid":"d","apiVersion":"e","resourceVersion":"f","fieldPath":"g"},"reason":"h","reportingComponent":"i","source":{"component":"j"},"type":"k"}"#,
    ),
    (
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        r#"{"regarding":{"kind":"a","namespace":"b","name":"c","uid":"d","apiVersion":"e","resourceVersion":"f","fieldPath":"g"},"reason":"h","reportingController":"i","type":"k"}"#,
    ),
    ("batch", "v1", "jobs", "Job", r#"{"status":{"succeeded":2}}"#),
    (
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        r#"{"spec":{"signerName":"kubernetes.io/kube-apiserver-client"}}"#,
    ),
    (
        "resource.k8s.io",
        "v1",
        "resourceslices",
        "ResourceSlice",
        r#"{"spec":{"nodeName":"edge-1","driver":"gpu.example.com"}}"#,
    ),
];

#[test]
fn fields_stand_where_the_generated_table_has_them() {
    for (group, version, plural, kind, spec) in SAMPLES {
        let resource = Resource::new(group, version, plural);
        let json = spec.replacen('{', r#"{"metadata":{"name":"n","namespace":"s","labels":{"l":"v"}},"#, 1);
        let tm = TypeMeta::new(&resource.api_version(), kind);
        let message = proto::from_json(&tm, json.as_bytes()).unwrap();
        let of_json = Attributes::read(&resource, Encoding::Json, json.as_bytes()).unwrap();
        assert_eq!(Attributes::read(&resource, Encoding::Protobuf, &message).unwrap(), of_json, "{resource}");
        for label in field_labels(&resource).iter().filter(|l| **l != "status.podIPs") {
            assert!(!["", "0", "false"].contains(&of_json.fields[label].as_str()), "{resource} {label}");
            let path = match *label {
                "source" => "source.component",
                "status.successful" => "status.succeeded",
                path => path,
            };
            let generated = proto::scalar_at(&tm, path, &message).unwrap();
            assert_eq!(generated.as_ref(), of_json.fields.get(label), "{resource} {label}");
        }
    }
}

#[test]
fn fields_are_refused_in_the_words_of_their_kind() {
    let usual = "\"a.b\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    let cases = [
        ("", "pods", "field label not supported: a.b"),
        ("", "configmaps", usual),
        ("apps", "replicasets", usual),
        ("batch", "jobs", "field label \"a.b\" not supported for Job"),
        (
            "resource.k8s.io",
            "resourceslices",
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: a.b",
        ),
    ];
    for (group, plural, expected) in cases {
        assert_eq!(field_refusal(&Resource::new(group, "v1", plural), "a.b"), expected, "{plural}");
    }
    let by_namespace =
        |plural| field_labels(&Resource::new("", "v1", plural)).contains(&"metadata.namespace");
    assert!(by_namespace("pods") && by_namespace("persistentvolumes") && !by_namespace("nodes"));
}

#[test]
fn what_an_object_does_not_say_has_its_default() {
    let read = |plural, json: &str| {
        Attributes::read(&Resource::new("", "v1", plural), Encoding::Json, json.as_bytes()).unwrap()
    };
    let pod = read("pods", r#"{"metadata":{"name":"a"},"spec":null}"#);
    assert_eq!((&*pod.fields["spec.hostNetwork"], &*pod.fields["spec.nodeName"]), ("false", ""));
    let event = read("events", r#"{"metadata":{"name":"a"},"reportingComponent":"kubelet"}"#);
    assert_eq!(event.fields["source"], "kubelet");
    let replicas = read("replicationcontrollers", r#"{"metadata":{"name":"a"}}"#);
    assert_eq!(replicas.fields["status.replicas"], "0");
}

#[test]
fn selectors_on_objects() {
    let pods = Resource::new("", "v1", "pods");
    for enc in BOTH {
        let attributes = Attributes::read(&pods, enc, &item(enc)).unwrap();
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "spec.nodeName=edge-1", true),
            ("app=web", "spec.nodeName=edge-2", false),
            ("app!=web", "spec.nodeName=edge-1", false),
            ("", "metadata.name=web-0,metadata.namespace=shop,status.phase!=Failed", true),
        ] {
            let (l, f) = (LabelSelector::parse(labels).unwrap(), FieldSelector::parse(fields).unwrap());
            assert_eq!(attributes.matches(&l, &f), expected, "{labels} {fields}");
        }
    }
}

#[test]
fn metadata_alone_cannot_answer_for_fields() {
    let pods = Resource::new("", "v1", "pods");
    let metadata = Representation { encoding: Encoding::Json, metadata_only: true };
    for (fields, whole, alone) in [
        ("metadata.name=a", true, true),
        ("spec.nodeName=a", true, false),
        ("status.podIPs=a", true, false),
        ("", true, true),
    ] {
        let f = FieldSelector::parse(fields).unwrap();
        assert_eq!(evaluable(&pods, Representation::JSON, &f), whole, "{fields}");
        assert_eq!(evaluable(&pods, metadata, &f), alone, "{fields}");
    }
}

/// An object with members in any order, some of them traps.
fn any_object() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        Just(r#""kind":"Pod""#),
        Just(r#" "apiVersion" : "v1" "#),
        Just(r#""spec":{"kind":"x","resourceVersion":"1"}"#),
        Just(r#""s":"\"kind\":\"y\"""#),
        Just("\"l\":[ 1, {\"apiVersion\":null}\n]"),
    ];
    let metadata = prop_oneof![
        Just(r#""metadata":{"name":"a","resourceVersion":"5"}"#),
        Just(r#""metadata" : { "labels":{"resourceVersion":"6"} , "name":"a" }"#),
        Just(r#""metadata":{}"#),
    ];
    (prop::collection::vec(member, 0..6), metadata, 0usize..6).prop_map(|(members, metadata, at)| {
        // one member of a name: which of two counts is nobody's business
        let mut all: Vec<&str> = Vec::new();
        members.into_iter().for_each(|m| {
            if !all.contains(&m) {
                all.push(m)
            }
        });
        all.insert(at.min(all.len()), metadata);
        format!("{{{}}}", all.join(","))
    })
}

proptest! {
    #[test]
    fn any_object_keeps_all_but_its_type(object in any_object()) {
        let mut expected: serde_json::Value = serde_json::from_str(&object).unwrap();
        let map = expected.as_object_mut().unwrap();
        map.remove("kind");
        map.remove("apiVersion");
        let item = to_item(Encoding::Json, &Bytes::from(object)).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&item).unwrap(), expected);
        prop_assert_eq!(to_item(Encoding::Json, &item).unwrap(), item);
    }

    #[test]
    fn any_object_takes_a_version(object in any_object(), rv: u64) {
        let mut expected: serde_json::Value = serde_json::from_str(&object).unwrap();
        expected["metadata"]["resourceVersion"] = rv.to_string().into();
        let spliced = splice_resource_version(Encoding::Json, object.as_bytes(), rv).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&spliced).unwrap(), expected);
        prop_assert_eq!(meta(Encoding::Json, &spliced).unwrap().resource_version, rv);
    }

    #[test]
    fn any_message_that_is_read_takes_a_version(tail: Vec<u8>, rv: u64) {
        let bytes = [&[0x0a, 4, 0x0a, 2, b'a', b'b'][..], &tail].concat();
        if let Ok(before) = meta(Encoding::Protobuf, &bytes) {
            let spliced = splice_resource_version(Encoding::Protobuf, &bytes, rv).unwrap();
            let expected = Meta { resource_version: rv, ..before };
            prop_assert_eq!(meta(Encoding::Protobuf, &spliced).unwrap(), expected);
            prop_assert!(spliced.ends_with(&tail));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, json in r#"\{("metadata":|"kind":|"a"|null|[{}\[\],:]){0,8}"#) {
        let pods = Resource::new("", "v1", "pods");
        for (enc, bytes) in [(Encoding::Json, json.into_bytes()), (Encoding::Json, bytes.clone()), (Encoding::Protobuf, bytes)] {
            let _ = (meta(enc, &bytes), labels(enc, &bytes), type_meta(enc, &bytes));
            let _ = splice_resource_version(enc, &bytes, 1);
            let _ = to_object(enc, &bytes, &pod_type());
            let _ = Attributes::read(&pods, enc, &bytes);
            let _ = to_item(enc, &Bytes::from(bytes));
        }
    }
}
