//! Discovery, version, health, OpenAPI, reviews.

use serde_json::{Value, json};

use yurt_api::discovery::{AGGREGATED, Part};

use crate::Bench;

fn find<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

pub async fn groups_and_resources(b: &Bench) {
    assert_eq!(b.get("/api").await["versions"], json!(["v1"]));
    let groups = b.get("/apis").await;
    assert_eq!(groups["kind"], "APIGroupList");
    assert_eq!(find(&groups["groups"], "apps")["preferredVersion"]["groupVersion"], "apps/v1");
    let core = b.get("/api/v1").await;
    let pods = find(&core["resources"], "pods");
    assert_eq!(
        (&pods["kind"], &pods["namespaced"], &pods["singularName"]),
        (&json!("Pod"), &json!(true), &json!("pod"))
    );
    assert!(pods["verbs"].as_array().unwrap().contains(&json!("watch")));
    assert_eq!(find(&core["resources"], "nodes")["namespaced"], false);
    find(&core["resources"], "pods/status");
    find(&b.get("/apis/apps/v1").await["resources"], "deployments");
    b.client.get("/apis/none.example.com/v1").await.unwrap().expect(404);
}

pub async fn version_and_health(b: &Bench) {
    let version = b.get("/version").await;
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1."));
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(b.client.get(path).await.unwrap().expect(200).text(), "ok");
    }
}

pub async fn openapi_has_etags(b: &Bench) {
    let answer = b.client.get("/openapi/v3").await.unwrap().expect(200);
    let etag = answer.header("etag").to_owned();
    assert!(answer.json()["paths"]["api/v1"]["serverRelativeURL"].is_string());
    let again = b.client.header("if-none-match", &etag).get("/openapi/v3").await.unwrap();
    assert!(etag.is_empty() || again.code() == 304);
}

pub async fn reviews_answer(b: &Bench) {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let review = json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": attributes},
    });
    let answer = b.client.post(path, &review).await.unwrap().expect(201).json();
    assert_eq!(answer["status"]["allowed"], true);
    let review = json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"user": "nobody-at-all", "resourceAttributes": attributes},
    });
    let answer = b
        .client
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
        .await
        .unwrap()
        .expect(201);
    assert_eq!(answer.json()["status"]["allowed"], false);
    let review =
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": "wrong"}});
    let answer = b
        .client
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .unwrap()
        .expect(201)
        .json();
    assert_ne!(answer["status"]["authenticated"], true);
}

/// The aggregated lists say what the older documents say, so that the older ones can be made of them.
pub async fn aggregated_lists_say_the_same(b: &Bench) {
    for (root, paths) in
        [("/api", vec!["/api", "/api/v1"]), ("/apis", vec!["/apis", "/apis/apps", "/apis/apps/v1"])]
    {
        let list = b.client.get_as(root, AGGREGATED).await.unwrap().expect(200);
        assert_eq!(list.header("content-type"), AGGREGATED);
        assert!(!list.header("etag").is_empty());
        for path in paths {
            let made = Part::of_path(path).unwrap().from_aggregated(&list.body).unwrap();
            let mut made: Value = serde_json::from_slice(&made).unwrap();
            let mut plain = b.client.get_as(path, "application/json").await.unwrap().expect(200).json();
            for value in [&mut made, &mut plain] {
                value.as_object_mut().unwrap().remove("serverAddressByClientCIDRs");
                for key in ["resources", "groups"] {
                    for each in value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                        each.as_object_mut().unwrap().remove("storageVersionHash");
                    }
                    if let Some(all) = value.get_mut(key).and_then(Value::as_array_mut) {
                        all.sort_by_key(|each| each["name"].as_str().unwrap().to_owned());
                    }
                }
            }
            assert_eq!(made, plain, "{path}");
        }
    }
}
