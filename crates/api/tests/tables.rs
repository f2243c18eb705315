//! Rows of tables: cells as the printers of kube-apiserver 1.34.4 make them.
//!
//! `tables.json` holds objects and the cells that are expected of them; `"@-300"` is the time 300 s ago (`u` = with
//! microseconds). The
//! expectations were compared with the output of `k8s.io/kubernetes/pkg/printers/internalversion` itself.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use yurt_api::object;
use yurt_api::proto;
use yurt_api::representation::{Encoding, TableVersion};
use yurt_api::resource::TypeMeta;
use yurt_api::table::{self, Form, Include};

const NOW: i64 = 1_790_000_000;
const FORM: Form = Form { version: TableVersion::V1, include: Include::Metadata, columns: None };

/// The value with its times filled in.
fn timed(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('@') => {
            let (seconds, fraction) =
                text[1..].strip_suffix('u').map_or((&text[1..], ""), |s| (s, ".000000"));
            let then = OffsetDateTime::from_unix_timestamp(NOW).unwrap()
                + Duration::seconds(seconds.parse().unwrap());
            then.format(&Rfc3339).unwrap().replace('Z', &format!("{fraction}Z")).into()
        }
        Value::Array(items) => items.into_iter().map(timed).collect(),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, timed(v))).collect(),
        other => other,
    }
}

struct Case {
    name: String,
    kind: TypeMeta,
    item: Bytes,
    expected: Value,
    completed: String,
}

fn cases() -> Vec<Case> {
    let text = include_str!("tables.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    let read = |case: Value| {
        let object = Bytes::from(timed(case["object"].clone()).to_string());
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            kind: object::type_meta(Encoding::Json, &object).unwrap(),
            item: object::to_item(Encoding::Json, &object).unwrap(),
            expected: case["cells"].clone(),
            completed: case["completed"].as_str().unwrap().to_owned(),
        }
    };
    cases.into_iter().map(read).collect()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn table_of(form: &Form, case: &Case, headers: bool) -> Value {
    parsed(&table::single(form, &case.kind, &case.item, NOW, headers).unwrap())
}

#[test]
fn every_cell_is_the_apiservers() {
    for case in cases() {
        let row = parsed(&table::row(&FORM, &case.kind, &case.item, NOW).unwrap());
        assert_eq!(row["cells"], case.expected, "{}", case.name);
        let completed = &row["conditions"][0];
        assert_eq!(completed["reason"].as_str().unwrap_or(""), case.completed, "{}", case.name);
        let table = table_of(&FORM, &case, true);
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        assert_eq!(
            columns,
            case.expected.as_array().unwrap().len(),
            "{}: a cell for every column",
            case.name
        );
    }
}

#[test]
fn rows_held_in_protobuf_give_the_same_cells() {
    for case in cases() {
        let message = proto::from_json(&case.kind, &case.item).unwrap();
        let object = Bytes::from(proto::to_json(&case.kind, &message).unwrap());
        let item = object::to_item(Encoding::Json, &object).unwrap();
        let row = parsed(&table::row(&FORM, &case.kind, &item, NOW).unwrap());
        assert_eq!(row["cells"], case.expected, "{}", case.name);
    }
}

/// `*` = of the format "name", `+` = only in wide tables, `#` = an integer, `?` = a boolean.
#[test]
fn columns_have_the_names_formats_and_priorities_of_the_apiserver() {
    let expected = [
        ("v1", "Pod", "Name* Ready Status Restarts Age IP+ Node+ Nominated Node+ Readiness Gates+"),
        (
            "v1",
            "Node",
            "Name* Status Roles Age Version Internal-IP+ External-IP+ OS-Image+ Kernel-Version+ Container-Runtime+",
        ),
        ("v1", "Service", "Name* Type Cluster-IP External-IP Port(s) Age Selector+"),
        ("v1", "ConfigMap", "Name* Data Age"),
        ("v1", "Event", "Last Seen Type Reason Object Subobject+ Source+ Message First Seen+ Count+ Name*+"),
        ("apps/v1", "Deployment", "Name* Ready Up-to-date Available Age Containers+ Images+ Selector+"),
        ("apps/v1", "ReplicaSet", "Name* Desired# Current# Ready# Age Containers+ Images+ Selector+"),
        ("v1", "ReplicationController", "Name* Desired# Current# Ready# Age Containers+ Images+ Selector+"),
        ("apps/v1", "StatefulSet", "Name* Ready Age Containers+ Images+"),
        (
            "apps/v1",
            "DaemonSet",
            "Name* Desired# Current# Ready# Up-to-date# Available# Node Selector Age Containers+ Images+ Selector+",
        ),
        ("batch/v1", "Job", "Name* Status Completions Duration Age Containers+ Images+ Selector+"),
        (
            "batch/v1",
            "CronJob",
            "Name* Schedule Timezone Suspend? Active# Last Schedule Age Containers+ Images+ Selector+",
        ),
        ("v1", "Namespace", "Name* Status Age"),
        ("v1", "Secret", "Name* Type Data Age"),
        ("v1", "ServiceAccount", "Name* Secrets Age"),
        ("v1", "Endpoints", "Name* Endpoints Age"),
        ("discovery.k8s.io/v1", "EndpointSlice", "Name* AddressType Ports Endpoints Age"),
        ("coordination.k8s.io/v1", "Lease", "Name* Holder Age"),
        (
            "v1",
            "PersistentVolume",
            "Name* Capacity Access Modes Reclaim Policy Status Claim StorageClass VolumeAttributesClass Reason Age VolumeMode+",
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            "Name* Status Volume Capacity Access Modes StorageClass VolumeAttributesClass Age VolumeMode+",
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            "Name* Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
        ),
        ("storage.k8s.io/v1", "CSINode", "Name* Drivers# Age"),
        ("storage.k8s.io/v1", "VolumeAttachment", "Name* Attacher* PV Node Attached? Age"),
        ("networking.k8s.io/v1", "NetworkPolicy", "Name* Pod-Selector Age"),
        ("node.k8s.io/v1", "RuntimeClass", "Name* Handler Age"),
    ];
    for (version, kind, expected) in expected {
        let table = parsed(&table::assemble(&FORM, &TypeMeta::new(version, kind), 0, true, &[]).concat());
        assert_eq!((&table["rows"], &table["metadata"]), (&json!([]), &json!({})), "{kind}");
        let shown = |column: &Value| {
            let text = |name: &str| column[name].as_str().unwrap();
            assert!(!text("description").is_empty(), "{kind}");
            let name = if text("format") == "name" { "*" } else { "" };
            let wide = if column["priority"] == 1 { "+" } else { "" };
            let of = match text("type") {
                "string" => "",
                "integer" => "#",
                "boolean" => "?",
                other => panic!("{kind}: {other}"),
            };
            format!("{}{name}{wide}{of}", text("name"))
        };
        let columns: Vec<String> = table["columnDefinitions"].as_array().unwrap().iter().map(shown).collect();
        assert_eq!(columns.join(" "), expected, "{kind}");
    }
}

#[test]
fn other_kinds_have_a_name_and_an_age() {
    let item = br#"{"metadata":{"name":"w","creationTimestamp":"2026-09-21T14:12:20Z"},"spec":null}"#;
    let kind = TypeMeta::new("example.org/v1", "Widget");
    let columns = &parsed(&table::assemble(&FORM, &kind, 0, true, &[]).concat())["columnDefinitions"];
    assert_eq!((&columns[0]["name"], &columns[1]["type"]), (&json!("Name"), &json!("date")));
    let row = parsed(&table::row(&FORM, &kind, item, NOW).unwrap());
    assert_eq!(row["cells"], json!(["w", "60s"]));
    // Of another group it is no pod.
    let row = parsed(&table::row(&FORM, &TypeMeta::new("example.org/v1", "Pod"), item, NOW).unwrap());
    assert_eq!(row["cells"], json!(["w", "60s"]));
}

#[test]
fn a_row_says_of_its_object_what_was_asked_for() {
    let kind = TypeMeta::new("v1", "ConfigMap");
    let item = br#"{"metadata":{"name":"c","resourceVersion":"7","x":[1]},"data":{"a":"b"}}"#;
    let of = |version, include| {
        parsed(&table::single(&Form { version, include, columns: None }, &kind, item, 0, false).unwrap())
    };
    let table = of(TableVersion::V1, Include::None);
    assert_eq!(table["rows"][0]["object"], json!(null));
    assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
    assert_eq!((&table["columnDefinitions"], &table["apiVersion"]), (&json!(null), &json!("meta.k8s.io/v1")));
    let metadata = json!({"name": "c", "resourceVersion": "7", "x": [1]});
    for (version, group) in
        [(TableVersion::V1, "meta.k8s.io/v1"), (TableVersion::V1beta1, "meta.k8s.io/v1beta1")]
    {
        let table = of(version, Include::Metadata);
        assert_eq!(table["apiVersion"], group);
        let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": group, "metadata": metadata});
        assert_eq!(table["rows"][0]["object"], partial);
    }
    let whole = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"a": "b"}});
    assert_eq!(of(TableVersion::V1, Include::Object)["rows"][0]["object"], whole);
}

#[test]
fn a_bookmark_is_a_row_of_its_version() {
    for kind in ["Pod", "Node", "Service", "ConfigMap", "Event", "Secret"] {
        let form = Form { include: Include::None, ..FORM };
        let of = |end| parsed(&table::bookmark(&form, &TypeMeta::new("v1", kind), 9, end, false));
        assert_eq!(of(false)["rows"][0]["object"], json!(null), "{kind}");
        let end = of(true);
        assert_eq!(end["metadata"]["resourceVersion"], "9", "{kind}");
        let annotations = &end["rows"][0]["object"]["metadata"]["annotations"];
        assert_eq!(annotations["k8s.io/initial-events-end"], "true", "{kind}");
    }
}

#[test]
fn what_to_include_is_read_or_refused() {
    let cases = [
        ("", Some(Include::Metadata)),
        ("limit=5&includeObject=", Some(Include::Metadata)),
        ("includeObject=Metadata", Some(Include::Metadata)),
        ("includeObject=None", Some(Include::None)),
        ("a=b&includeObject=Object", Some(Include::Object)),
        ("includeObject=object", None),
    ];
    for (query, expected) in cases {
        assert_eq!(Include::of_query(query).ok(), expected, "{query}");
    }
}

#[test]
fn what_is_no_object_of_the_kind_is_an_error() {
    for item in ["", "[]", "{\"metadata\":5}", "{\"metadata\":{\"name\":{}}}", "{\"status\":{\"phase\":[]}}"]
    {
        assert!(table::row(&FORM, &TypeMeta::new("v1", "Pod"), item.as_bytes(), 0).is_err(), "{item}");
    }
}
