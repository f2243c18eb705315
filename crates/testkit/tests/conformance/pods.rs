//! Pods, nodes and ServiceAccounts: subresources and grace periods.

use serde_json::{Value, json};

use crate::{Bench, version};

async fn account(b: &Bench) {
    let object = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let code = b.client.post(&b.path("serviceaccounts"), &object).await.unwrap().code();
    assert!(matches!(code, 201 | 409), "{code}");
}

async fn pod(b: &Bench, name: &str, node: &str) -> Value {
    account(b).await;
    let mut object = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": false},
        "status": {"phase": "Failed"},
    });
    if !node.is_empty() {
        object["spec"]["nodeName"] = node.into();
    }
    b.client.post(&b.path("pods"), &object).await.unwrap().expect(201).json()
}

pub async fn status_is_apart(b: &Bench) {
    let path = b.path("pods/a");
    let made = pod(b, "a", "nowhere").await;
    assert_eq!(made["status"]["phase"], "Pending", "a creator sets no status");
    let mut spec = made.clone();
    spec["status"]["phase"] = "Running".into();
    spec["metadata"]["labels"] = json!({"x": "y"});
    let updated = b.client.put(&path, &spec).await.unwrap().expect(200).json();
    assert_eq!(updated["status"]["phase"], "Pending");
    assert_eq!(updated["metadata"]["labels"]["x"], "y");
    let patch = json!({
        "metadata": {"uid": made["metadata"]["uid"]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        "spec": {"activeDeadlineSeconds": 5},
    });
    let patched = b
        .client
        .patch(&format!("{path}/status"), "strategic-merge-patch", &patch)
        .await
        .unwrap()
        .expect(200)
        .json();
    assert_eq!(patched["status"]["phase"], "Running");
    assert!(patched["spec"].get("activeDeadlineSeconds").is_none());
    assert!(version(&patched) > version(&updated));
    assert_eq!(patched["metadata"]["generation"], made["metadata"]["generation"]);
    let got = b.get(&format!("{path}/status")).await;
    assert_eq!(got["status"]["conditions"][0]["type"], "Ready");
}

pub async fn bound_pods_go_gracefully(b: &Bench) {
    pod(b, "bound", "nowhere").await;
    pod(b, "free", "").await;
    let marked = b.client.delete(&b.path("pods/bound"), &json!(null)).await.unwrap().expect(200).json();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    b.get(&b.path("pods/bound")).await;
    let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": marked["metadata"]["uid"]}});
    let gone = b.client.delete(&b.path("pods/bound"), &now).await.unwrap().expect(200).json();
    assert_eq!(gone["kind"], "Pod");
    b.client.get(&b.path("pods/bound")).await.unwrap().expect(404);
    b.client.delete(&b.path("pods/free"), &json!(null)).await.unwrap().expect(200);
    b.client.get(&b.path("pods/free")).await.unwrap().expect(404);
}

pub async fn binding_and_eviction(b: &Bench) {
    pod(b, "a", "").await;
    let binding = json!({
        "kind": "Binding", "apiVersion": "v1", "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "nowhere"},
    });
    b.client.post(&b.path("pods/a/binding"), &binding).await.unwrap().expect(201);
    assert_eq!(b.get(&b.path("pods/a")).await["spec"]["nodeName"], "nowhere");
    b.client.post(&b.path("pods/a/binding"), &binding).await.unwrap().expect(409);
    let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "a"}});
    let done = b.client.post(&b.path("pods/a/eviction"), &eviction).await.unwrap().expect(201).json();
    assert_eq!(done["status"], "Success");
    let code = b.client.get(&b.path("pods/a")).await.unwrap();
    assert!(code.code() == 404 || code.json()["metadata"]["deletionTimestamp"].is_string());
    b.client.delete(&b.path("pods/a"), &json!({"gracePeriodSeconds": 0})).await.unwrap();
}

pub async fn tokens_are_for_accounts(b: &Bench) {
    account(b).await;
    let bound = pod(b, "a", "nowhere").await;
    let path = b.path("serviceaccounts/default/token");
    let request = |uid: &Value| {
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {
            "expirationSeconds": 3607,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": uid},
        }})
    };
    let made = b.client.post(&path, &request(&bound["metadata"]["uid"])).await.unwrap().expect(201).json();
    assert_eq!(made["kind"], "TokenRequest");
    assert!(made["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'));
    let token = made["status"]["token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);
    let review =
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}});
    let review = b
        .client
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .unwrap()
        .expect(201)
        .json();
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(
        review["status"]["user"]["username"],
        format!("system:serviceaccount:{}:default", b.namespace)
    );
    let other = json!("11111111-1111-4111-8111-111111111111");
    b.client.post(&path, &request(&other)).await.unwrap().expect(409);
    b.client.post(&b.path("serviceaccounts/none/token"), &request(&other)).await.unwrap().expect(404);
    b.client.delete(&b.path("pods/a"), &json!({"gracePeriodSeconds": 0})).await.unwrap().expect(200);
}

pub async fn nodes_keep_a_posted_status(b: &Bench) {
    let name = format!("node-{}", b.namespace);
    let object = json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    });
    let made = b.client.post("/api/v1/nodes", &object).await.unwrap().expect(201).json();
    assert_eq!(made["status"]["conditions"][0]["status"], "False");
    let path = format!("/api/v1/nodes/{name}");
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let patched = b
        .client
        .patch(&format!("{path}/status"), "strategic-merge-patch", &patch)
        .await
        .unwrap()
        .expect(200)
        .json();
    assert_eq!(patched["status"]["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(patched["status"]["conditions"][0]["status"], "True");
    b.client.delete(&path, &json!(null)).await.unwrap().expect(200);
}
