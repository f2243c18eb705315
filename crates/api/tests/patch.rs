//! Patches as a table: what is sent, what comes out. The kubelet's own patches are among them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use yurt_api::patch::{self, PatchError, PatchType, strategic};
use yurt_api::resource::TypeMeta;

fn pod() -> TypeMeta {
    TypeMeta::new("v1", "Pod")
}

fn node() -> TypeMeta {
    TypeMeta::new("v1", "Node")
}

#[track_caller]
fn check(tm: &TypeMeta, target: Value, patch: Value, expected: Value) {
    assert_eq!(strategic::apply(tm, &target, &patch), Ok(expected), "patch {patch}");
}

#[test]
fn what_a_kubelet_sends_for_a_pod() {
    let target = json!({
        "metadata": {"name": "web", "uid": "u1", "annotations": {"a": "1"}},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "example.com/gate", "status": "True"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0}],
            "podIPs": [{"ip": "10.0.0.1"}], "podIP": "10.0.0.1",
        }
    });
    let patch = json!({
        "metadata": {"uid": "u1"},
        "status": {
            "$setElementOrder/conditions": [{"type": "PodReadyToStartContainers"}, {"type": "Ready"}, {"type": "PodScheduled"}],
            "$setElementOrder/podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True", "lastProbeTime": null},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": "2026-02-01T00:00:00Z"},
            ],
            "containerStatuses": [{"name": "c", "ready": false, "restartCount": 1}],
            "podIP": "10.0.0.2",
            "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
        }
    });
    let expected = json!({
        "metadata": {"name": "web", "uid": "u1", "annotations": {"a": "1"}},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodReadyToStartContainers", "status": "True"},
                {"type": "example.com/gate", "status": "True"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": "2026-02-01T00:00:00Z"},
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
            "containerStatuses": [{"name": "c", "ready": false, "restartCount": 1}],
            "podIPs": [{"ip": "10.0.0.2"}], "podIP": "10.0.0.2",
        }
    });
    check(&pod(), target.clone(), patch.clone(), expected);
    let stale = json!({"metadata": {"uid": "u2"}, "status": {"phase": "Failed"}});
    let refused = patch::apply(PatchType::StrategicMerge, &pod(), &target, &stale).unwrap_err();
    assert_eq!((refused.code(), matches!(refused, PatchError::Conflict(_))), (409, true));
}

#[test]
fn what_a_kubelet_sends_for_its_node() {
    let target = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "edge"}],
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}],
        "images": [{"names": ["a"]}],
        "capacity": {"cpu": "2", "memory": "1Gi"},
    }});
    let patch = json!({"status": {
        "$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}],
        "addresses": [
            {"$patch": "replace"},
            {"type": "InternalIP", "address": "10.0.0.2"},
            {"type": "InternalIP", "address": "fd00::2"},
            {"type": "Hostname", "address": "edge"},
        ],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-02-01T00:00:00Z"}],
        "images": [{"names": ["b"]}, {"names": ["a"]}],
        "capacity": {"cpu": "4"},
    }});
    let expected = json!({"status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.0.0.2"},
            {"type": "InternalIP", "address": "fd00::2"},
            {"type": "Hostname", "address": "edge"},
        ],
        "conditions": [
            {"type": "MemoryPressure", "status": "False"},
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-02-01T00:00:00Z"},
        ],
        "images": [{"names": ["b"]}, {"names": ["a"]}],
        "capacity": {"cpu": "4", "memory": "1Gi"},
    }});
    check(&node(), target, patch, expected);
}

#[test]
fn rules_of_the_strategic_merge() {
    let volumes =
        json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]}});
    let finalizers = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    for (name, target, patch, expected) in [
        ("null deletes", json!({"a": 1, "b": 2}), json!({"a": null, "c": null}), json!({"b": 2})),
        (
            "null in something new is left out",
            json!({}),
            json!({"spec": {"x": null, "y": 1}}),
            json!({"spec": {"y": 1}}),
        ),
        (
            "free maps merge",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        ),
        ("another type replaces", json!({"x": {"a": 1}}), json!({"x": [1]}), json!({"x": [1]})),
        (
            "replace a map",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        (
            "delete a map",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            "lists are atomic",
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        (
            "delete from a set",
            finalizers.clone(),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
            json!({"metadata": {"finalizers": ["a", "c"]}}),
        ),
        // Without a set order, what the patch names comes before what it does not.
        (
            "add to a set",
            finalizers.clone(),
            json!({"metadata": {"finalizers": ["d", "a"]}}),
            json!({"metadata": {"finalizers": ["d", "a", "b", "c"]}}),
        ),
        (
            "order a set",
            finalizers,
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "b", "a"]}}),
            json!({"metadata": {"finalizers": ["c", "b", "a"]}}),
        ),
        (
            "retain keys",
            volumes.clone(),
            json!({"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "a", "hostPath": {"path": "/"}}]}}),
            json!({"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}]}}),
        ),
        (
            "delete an element",
            volumes.clone(),
            json!({"spec": {"volumes": [{"$patch": "delete", "name": "a"}]}}),
            json!({"spec": {"volumes": [{"name": "b", "emptyDir": {}}]}}),
        ),
        (
            "delete in what is not there",
            json!({}),
            json!({"spec": {"volumes": [{"$patch": "delete", "name": "a"}]}}),
            json!({"spec": {"volumes": []}}),
        ),
        (
            "order of nothing",
            json!({}),
            json!({"spec": {"$setElementOrder/volumes": [{"name": "a"}]}}),
            json!({"spec": {}}),
        ),
        (
            "inline fields have keys too",
            json!({"spec": {"ephemeralContainers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}}),
            json!({"spec": {"ephemeralContainers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}}),
            json!({"spec": {"ephemeralContainers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]}}),
        ),
    ] {
        assert_eq!(strategic::apply(&pod(), &target, &patch), Ok(expected), "{name}");
    }
}

#[test]
fn bad_strategic_patches() {
    let target =
        json!({"metadata": {"finalizers": ["a"]}, "spec": {"volumes": [{"name": "a", "emptyDir": {}}]}});
    for (patch, code) in [
        (json!([]), 400),
        (json!({"metadata": {"$patch": "merge"}}), 400),
        (json!({"metadata": {"$patch": 1}}), 400),
        (json!({"metadata": {"$retainKeys": "labels"}}), 400),
        (json!({"metadata": {"$retainKeys": [], "labels": {"a": "1"}}}), 400),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}), 400),
        (json!({"spec": {"$setElementOrder/volumes": {}}}), 400),
        (json!({"spec": {"$setElementOrder/volumes": [{"name": "a"}], "volumes": [{"name": "b"}]}}), 400),
        (json!({"spec": {"volumes": [{"emptyDir": {}}]}}), 422),
        (json!({"spec": {"volumes": ["a"]}}), 422),
        (json!({"spec": {"volumes": [{"$patch": "delete"}]}}), 422),
        (json!({"metadata": {"finalizers": [["a"]]}}), 422),
    ] {
        let error = strategic::apply(&pod(), &target, &patch).expect_err(&patch.to_string());
        assert_eq!(error.code(), code, "{patch}: {error}");
    }
    let custom = TypeMeta::new("example.com/v1", "Thing");
    assert_eq!(strategic::apply(&custom, &target, &json!({})).unwrap_err().code(), 415);
}

#[test]
fn json_and_merge_patches() {
    let target = json!({"metadata": {"uid": "u", "labels": {"a": "1"}}, "list": [1, 2]});
    let good = json!([{"op": "test", "path": "/list/0", "value": 1}, {"op": "add", "path": "/list/-", "value": 3}, {"op": "remove", "path": "/metadata/labels/a"}]);
    let patched = patch::apply(PatchType::Json, &pod(), &target, &good).unwrap();
    assert_eq!(patched, json!({"metadata": {"uid": "u", "labels": {}}, "list": [1, 2, 3]}));
    let patched =
        patch::apply(PatchType::Merge, &pod(), &target, &json!({"list": [3], "metadata": {"labels": null}}));
    assert_eq!(patched, Ok(json!({"metadata": {"uid": "u"}, "list": [3]})));
    for (pt, patch, code) in [
        (PatchType::Json, json!({"op": "add"}), 400),
        (PatchType::Json, json!([{"op": "fly", "path": "/a"}]), 400),
        (PatchType::Json, json!([{"op": "test", "path": "/list/0", "value": 2}]), 422),
        (PatchType::Json, json!([{"op": "replace", "path": "", "value": 2}]), 422),
        (PatchType::Json, json!([{"op": "replace", "path": "/metadata/uid", "value": "v"}]), 409),
        (
            PatchType::Json,
            vec![json!({"op": "remove", "path": "/list/0"}); patch::MAX_OPERATIONS + 1].into(),
            413,
        ),
        (PatchType::Json, vec![json!({"op": "copy", "from": "/list", "path": "/list/-"}); 40].into(), 413),
        (PatchType::Merge, json!([1]), 400),
        (PatchType::Merge, json!({"metadata": {"uid": "v"}}), 409),
        (PatchType::Apply, json!({}), 415),
    ] {
        assert_eq!(patch::apply(pt, &pod(), &target, &patch).unwrap_err().code(), code, "{pt:?}");
    }
}

#[test]
fn content_types() {
    for pt in [PatchType::Json, PatchType::Merge, PatchType::StrategicMerge, PatchType::Apply] {
        assert_eq!(PatchType::of_content_type(pt.content_type()), Some(pt));
    }
    assert_eq!(
        PatchType::of_content_type("Application/Merge-Patch+JSON; charset=utf-8"),
        Some(PatchType::Merge)
    );
    assert_eq!(PatchType::of_content_type("application/json"), None);
}

#[test]
fn differences() {
    let from = json!({"status": {"phase": "Running", "conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}], "reason": "x"}});
    let to = json!({"status": {"phase": "Failed", "conditions": [{"type": "A", "status": "False"}]}});
    let expected = json!({"status": {
        "phase": "Failed", "reason": null,
        "conditions": [{"status": "False", "type": "A"}, {"type": "B", "$patch": "delete"}],
    }});
    assert_eq!(strategic::diff(&pod(), &from, &to), expected);
    assert_eq!(strategic::diff(&pod(), &from, &from), json!({}));
    assert_eq!(strategic::diff(&pod(), &json!({"a": null}), &json!({"b": null})), json!({}));
    let swapped = json!({"status": {"phase": "Running", "reason": "x", "conditions": [{"type": "B", "status": "True"}, {"type": "A", "status": "True"}]}});
    let order =
        json!({"status": {"conditions": [], "$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}]}});
    assert_eq!(strategic::diff(&pod(), &from, &swapped), order);
}

mod random {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Value> {
        prop::sample::select(vec!["True", "False", "Unknown", "x"]).prop_map(Value::from)
    }

    fn condition() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec!["Ready", "Initialized", "PodScheduled", "example.com/gate"]);
        (key, text(), prop::option::of(text())).prop_map(|(key, status, reason)| {
            let mut condition = json!({"type": key, "status": status});
            if let Some(reason) = reason {
                condition["reason"] = reason;
            }
            condition
        })
    }

    /// A list of objects, each merge key once if `distinct`.
    fn list(
        element: impl Strategy<Value = Value>,
        key: &'static str,
        distinct: bool,
    ) -> impl Strategy<Value = Value> {
        prop::collection::vec(element, 0..5).prop_map(move |mut list| {
            let mut seen = Vec::new();
            list.retain(|element| {
                !distinct
                    || !seen.contains(&element[key]) && {
                        seen.push(element[key].clone());
                        true
                    }
            });
            Value::Array(list)
        })
    }

    fn container() -> impl Strategy<Value = Value> {
        (text(), any::<bool>(), 0..3).prop_map(|(name, ready, count)| json!({"name": name, "ready": ready, "restartCount": count, "state": {"running": {"startedAt": "t"}}}))
    }

    fn address() -> impl Strategy<Value = Value> {
        (text(), 0..3u8).prop_map(|(kind, n)| json!({"type": kind, "address": n.to_string()}))
    }

    fn finalizers() -> impl Strategy<Value = Value> {
        let names = Just(vec!["a", "b", "c", "d"]).prop_shuffle();
        (names, 0..4usize).prop_map(|(names, count)| json!(names[..count]))
    }

    /// A pod-like or node-like object; every field may be missing.
    fn object() -> impl Strategy<Value = Value> {
        let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3).prop_map(|labels| json!(labels));
        let ips = list((0..4u8).prop_map(|n| json!({"ip": n.to_string()})), "ip", true);
        // Elements that share a key come out side by side, here as in the apiserver.
        let grouped = list(address(), "type", false).prop_map(|mut list| {
            list.as_array_mut().unwrap().sort_by_key(|element| element["type"].to_string());
            list
        });
        let parts: Vec<(&'static str, &'static str, BoxedStrategy<Value>)> = vec![
            ("metadata", "labels", labels.boxed()),
            ("metadata", "finalizers", finalizers().boxed()),
            ("status", "phase", text().boxed()),
            ("status", "conditions", list(condition(), "type", true).boxed()),
            ("status", "podIPs", ips.boxed()),
            ("status", "containerStatuses", list(container(), "name", false).boxed()),
            ("status", "addresses", grouped.boxed()),
        ];
        let (places, values): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|(a, b, s)| ((a, b), prop::option::of(s))).unzip();
        values.prop_map(move |values| {
            let mut object = json!({"metadata": {"uid": "u"}, "status": {}});
            for ((outer, inner), value) in places.iter().zip(values) {
                if let Some(value) = value {
                    object[*outer][*inner] = value;
                }
            }
            object
        })
    }

    proptest! {
        // What the patch cannot say: an explicit null (as good as absent), and a primitive twice in a set.
        #[test]
        fn a_difference_leads_from_one_to_the_other(from in object(), to in object()) {
            for tm in [pod(), node()] {
                let patch = strategic::diff(&tm, &from, &to);
                prop_assert_eq!(strategic::apply(&tm, &from, &patch).unwrap(), to.clone(), "{}", patch);
                prop_assert_eq!(patch == json!({}), from == to);
            }
        }

        #[test]
        fn any_patch_is_answered(target in object(), patch in object(), directive in any_directive()) {
            let mut patch = patch;
            patch["status"]["conditions"] = directive;
            let _ = strategic::apply(&pod(), &target, &patch);
        }
    }

    fn any_directive() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), text()];
        let key = prop::sample::select(vec![
            "$patch",
            "$retainKeys",
            "type",
            "$setElementOrder/conditions",
            "$deleteFromPrimitiveList/x",
        ]);
        leaf.prop_recursive(3, 12, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|pairs| Value::Object(
                    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
            ]
        })
    }
}
