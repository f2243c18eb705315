//! patch: the three types.

use serde_json::{Value, json};

use crate::{Bench, version};

pub async fn each_type_is_applied(b: &Bench) {
    b.create("a").await;
    let cases: [(&str, Value, Value); 3] = [
        ("merge-patch", json!({"data": {"x": "1", "n": null}}), json!({"x": "1"})),
        ("strategic-merge-patch", json!({"data": {"y": "2"}}), json!({"x": "1", "y": "2"})),
        (
            "json-patch",
            json!([{"op": "replace", "path": "/data/x", "value": "3"}]),
            json!({"x": "3", "y": "2"}),
        ),
    ];
    for (patch_type, patch, expected) in cases {
        let answer =
            b.client.patch(&b.path("configmaps/a"), patch_type, &patch).await.unwrap().expect(200).json();
        assert_eq!(answer["data"], expected, "{patch_type}");
    }
    let before = b.get(&b.path("configmaps/a")).await;
    let same = json!({"data": {"x": "3"}});
    let same =
        b.client.patch(&b.path("configmaps/a"), "merge-patch", &same).await.unwrap().expect(200).json();
    assert_eq!(version(&same), version(&before));
}

pub async fn strategic_lists_merge_by_key(b: &Bench) {
    let service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"},
        "spec": {"ports": [{"name": "x", "port": 80}, {"name": "y", "port": 81}]},
    });
    b.client.post(&b.path("services"), &service).await.unwrap().expect(201);
    let patch = json!({"spec": {"ports": [{"port": 81, "name": "z"}]}});
    let path = b.path("services/a");
    let merged = b.client.patch(&path, "strategic-merge-patch", &patch).await.unwrap().expect(200).json();
    let mut ports: Vec<_> =
        merged["spec"]["ports"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    ports.sort_unstable();
    assert_eq!(ports, ["x", "z"]);
    let patch = json!({"spec": {"ports": [{"$patch": "delete", "port": 80}]}});
    let merged = b.client.patch(&path, "strategic-merge-patch", &patch).await.unwrap().expect(200).json();
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 1);
}

pub async fn stale_patches_conflict(b: &Bench) {
    let object = b.create("a").await;
    let path = b.path("configmaps/a");
    let current =
        json!({"metadata": {"resourceVersion": object["metadata"]["resourceVersion"]}, "data": {"n": "2"}});
    b.client.patch(&path, "merge-patch", &current).await.unwrap().expect(200);
    let mut stale = current.clone();
    stale["data"]["n"] = "3".into();
    let refused = b.client.patch(&path, "merge-patch", &stale).await.unwrap().expect(409).json();
    assert_eq!(refused["reason"], "Conflict");
    let foreign = json!({"metadata": {"uid": "11111111-1111-4111-8111-111111111111"}, "data": {"n": "4"}});
    let refused = b.client.patch(&path, "strategic-merge-patch", &foreign).await.unwrap().expect(422).json();
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.uid");
}

pub async fn other_types_are_refused(b: &Bench) {
    b.create("a").await;
    let path = b.path("configmaps/a");
    let patch = |content_type| b.client.send(http::Method::PATCH, &path, content_type, "{}".into());
    patch("application/json").await.unwrap().expect(415);
    patch("text/plain").await.unwrap().expect(415);
    let nonsense = json!([{"op": "remove", "path": "/data/none"}]);
    let code = b.client.patch(&b.path("configmaps/a"), "json-patch", &nonsense).await.unwrap().code();
    assert_eq!(code, 422);
}
