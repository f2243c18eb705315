//! Requests for certificates: the server says who asks, and conditions are written through `approval`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::Bench;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

pub async fn who_asks_is_written_by_the_server(b: &Bench) {
    let name = format!("{}-who", b.namespace);
    let made = b.client.post(REQUESTS, &request(&name)).await.unwrap().expect(201).json();
    assert_ne!(made["spec"]["username"], "somebody else");
    let groups = made["spec"]["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:authenticated")), "{made}");
    assert!(made["status"].get("conditions").is_none(), "{made}");
    b.client.delete(&format!("{REQUESTS}/{name}"), &json!({})).await.unwrap().expect(200);
}

pub async fn an_approval_changes_conditions_alone(b: &Bench) {
    let name = format!("{}-approval", b.namespace);
    let made = b.client.post(REQUESTS, &request(&name)).await.unwrap().expect(201).json();
    let path = format!("{REQUESTS}/{name}/approval");
    let approved = json!({"type": "Approved", "status": "True", "reason": "Test", "message": "yes"});
    let mut patch = json!({
        "metadata": {"resourceVersion": "1"},
        "status": {"conditions": [approved], "certificate": "AAAA"},
    });
    let merge = "merge-patch";
    b.client.patch(&path, merge, &patch).await.unwrap().expect(409);
    patch["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let after = b.client.patch(&path, merge, &patch).await.unwrap().expect(200).json();
    assert_eq!(after["status"]["conditions"][0]["type"], "Approved", "{after}");
    assert!(after["status"].get("certificate").is_none(), "{after}");
    assert_eq!(after["spec"], made["spec"]);
    b.client.delete(&format!("{REQUESTS}/{name}"), &json!({})).await.unwrap().expect(200);
}

fn request(name: &str) -> serde_json::Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(pem), "signerName": "example.com/conformance",
            "usages": ["digital signature", "client auth"], "username": "somebody else",
        },
    })
}
