//! create, update, delete.

use serde_json::json;

use crate::{Bench, version};

pub async fn created_objects_are_stamped(b: &Bench) {
    let object = b.create("a").await;
    let metadata = &object["metadata"];
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    let created = metadata["creationTimestamp"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == 20, "{created}");
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert!(metadata.get("generation").is_none());
    let next = b.create("b").await;
    assert!(version(&next) > version(&object));
}

pub async fn names_are_generated(b: &Bench) {
    let mut object = b.config_map("", &json!({}));
    object["metadata"] = json!({"generateName": "some-"});
    let made = b.client.post(&b.path("configmaps"), &object).await.unwrap().expect(201).json();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("some-") && name.len() == 10, "{name}");
    object["metadata"] = json!({});
    let refused = b.client.post(&b.path("configmaps"), &object).await.unwrap().expect(422).json();
    assert_eq!(refused["reason"], "Invalid");
}

pub async fn a_second_create_conflicts(b: &Bench) {
    let object = b.create("a").await;
    let mut again = object.clone();
    again["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let refused = b.client.post(&b.path("configmaps"), &again).await.unwrap().expect(409).json();
    assert_eq!(refused["reason"], "AlreadyExists");
    assert_eq!(refused["message"], "configmaps \"a\" already exists");
    assert_eq!(refused["details"], json!({"name": "a", "kind": "configmaps"}));
}

pub async fn updates_need_the_current_version(b: &Bench) {
    let path = b.path("configmaps/a");
    let first = b.create("a").await;
    let mut second = first.clone();
    second["data"]["n"] = "2".into();
    let second = b.client.put(&path, &second).await.unwrap().expect(200).json();
    assert!(version(&second) > version(&first));
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    let mut stale = first.clone();
    stale["data"]["n"] = "3".into();
    let refused = b.client.put(&path, &stale).await.unwrap().expect(409).json();
    assert_eq!(refused["reason"], "Conflict");
    let message = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                   changes to the latest version and try again";
    assert_eq!(refused["message"], message);
    let mut other = second.clone();
    other["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into();
    b.client.put(&path, &other).await.unwrap().expect(409);
}

pub async fn an_update_that_changes_nothing_keeps_the_version(b: &Bench) {
    let object = b.create("a").await;
    let same = b.client.put(&b.path("configmaps/a"), &object).await.unwrap().expect(200).json();
    assert_eq!(version(&same), version(&object));
}

pub async fn deletes_obey_preconditions(b: &Bench) {
    let path = b.path("configmaps/a");
    let object = b.create("a").await;
    let wrong = json!({"preconditions": {"uid": "11111111-1111-4111-8111-111111111111"}});
    let refused = b.client.delete(&path, &wrong).await.unwrap().expect(409).json();
    assert_eq!(refused["reason"], "Conflict");
    let uid = &object["metadata"]["uid"];
    let done =
        b.client.delete(&path, &json!({"preconditions": {"uid": uid}})).await.unwrap().expect(200).json();
    assert_eq!((&done["kind"], &done["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(done["details"], json!({"name": "a", "kind": "configmaps", "uid": uid}));
    b.client.get(&path).await.unwrap().expect(404);
}

pub async fn finalizers_hold_a_deletion(b: &Bench) {
    let path = b.path("configmaps/a");
    let mut object = b.config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/held"]);
    b.client.post(&b.path("configmaps"), &object).await.unwrap().expect(201);
    let held = b.client.delete(&path, &json!(null)).await.unwrap().expect(200).json();
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    let patch = json!({"metadata": {"finalizers": null}});
    b.client.patch(&path, "merge-patch", &patch).await.unwrap().expect(200);
    b.client.get(&path).await.unwrap().expect(404);
}

pub async fn missing_things_are_404(b: &Bench) {
    let missing = b.client.get(&b.path("configmaps/none")).await.unwrap().expect(404).json();
    assert_eq!(missing["message"], "configmaps \"none\" not found");
    assert_eq!(missing["details"], json!({"name": "none", "kind": "configmaps"}));
    b.client.put(&b.path("configmaps/none"), &b.config_map("none", &json!({}))).await.unwrap().expect(404);
    b.client.patch(&b.path("configmaps/none"), "merge-patch", &json!({})).await.unwrap().expect(404);
    b.client.get("/apis/none.example.com/v1/things").await.unwrap().expect(404);
    b.client.get("/api/v1/nothings").await.unwrap().expect(404);
    let object = json!({"metadata": {"name": "a"}});
    let missing =
        b.client.post("/api/v1/namespaces/no-such-namespace/configmaps", &object).await.unwrap().expect(404);
    assert_eq!(missing.json()["details"]["kind"], "namespaces");
}

pub async fn bodies_must_fit_the_path(b: &Bench) {
    let path = b.path("configmaps");
    let object = b.create("a").await;
    b.client.put(&b.path("configmaps/b"), &object).await.unwrap().expect(400);
    let mut elsewhere = b.config_map("c", &json!({}));
    elsewhere["metadata"]["namespace"] = "default".into();
    b.client.post(&path, &elsewhere).await.unwrap().expect(400);
    b.client
        .post(&path, &json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "d"}}))
        .await
        .unwrap()
        .expect(400);
    b.client
        .send(http::Method::POST, &path, "application/json", "{nonsense".into())
        .await
        .unwrap()
        .expect(400);
}

pub async fn dry_run_stores_nothing(b: &Bench) {
    let object = b.config_map("a", &json!({}));
    let made = b.client.post(&b.path("configmaps?dryRun=All"), &object).await.unwrap().expect(201).json();
    assert!(made["metadata"]["uid"].is_string());
    b.client.get(&b.path("configmaps/a")).await.unwrap().expect(404);
}

pub async fn secrets_take_plain_text(b: &Bench) {
    let object = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}, "stringData": {"p": "secret"}});
    let made = b.client.post(&b.path("secrets"), &object).await.unwrap().expect(201).json();
    assert_eq!((&made["data"]["p"], &made["type"]), (&json!("c2VjcmV0"), &json!("Opaque")));
    assert!(made.get("stringData").is_none());
}

pub async fn unconditional_updates_are_for_some_kinds(b: &Bench) {
    b.create("a").await;
    let mut object = b.config_map("a", &json!({}));
    object["data"]["n"] = "9".into();
    b.client.put(&b.path("configmaps/a"), &object).await.unwrap().expect(200);
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", b.namespace);
    let mut lease = json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 40},
    });
    b.client.put(&format!("{leases}/a"), &lease).await.unwrap().expect(201);
    lease["spec"]["holderIdentity"] = "b".into();
    b.client.put(&format!("{leases}/a"), &lease).await.unwrap().expect(422);
}
