//! Requests for certificates: who may speak for a node gets them approved, all else is left for a human.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::{Value, json};
use yurt_testkit::client::Protocol;
use yurt_testkit::kubeconfig::Target;

use crate::bed::{Bed, Manager, until};

const FLAGS: &[&str] = &["--controllers=csr-approver"];
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const HUB: &[&str] = &["system:nodes", "openyurt:yurthub"];

/// A request by `node`, for a certificate in the name of `of`.
async fn ask(bed: &Bed, name: &str, node: &str, of: &str, signer: &str, addresses: &[&str]) {
    let target = Target {
        base: bed.api.url(),
        ca_pem: bed.api.pki().ca_pem().into(),
        identity: Some(bed.api.pki().node(node)),
        token: String::new(),
    };
    let (groups, purpose) = if signer == CLIENT { (HUB, "client auth") } else { (&HUB[..1], "server auth") };
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(pem(of, groups, addresses)), "signerName": signer,
            "usages": ["digital signature", purpose],
        },
    });
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    target.client(Protocol::Http2).post(path, &object).await.unwrap().expect(201);
}

fn pem(node: &str, groups: &[&str], addresses: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    // rcgen holds one value of a type: the same type by its number (2.5.4.10) is another one for it.
    let kinds = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    for (kind, group) in kinds.into_iter().zip(groups) {
        params.distinguished_name.push(kind, *group);
    }
    params.subject_alt_names = addresses.iter().map(|a| SanType::IpAddress(a.parse().unwrap())).collect();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn condition(bed: &Bed, name: &str) -> Value {
    let request = bed.api.get("certificatesigningrequests.certificates.k8s.io", "", name).unwrap();
    request["status"]["conditions"][0]["type"].clone()
}

#[tokio::test]
async fn a_hub_gets_its_own_certificate_and_nobody_elses() {
    let bed = Bed::new().await;
    ask(&bed, "before", "edge-1", "edge-1", CLIENT, &[]).await;
    let manager = bed.manager(FLAGS).await;
    ask(&bed, "own", "edge-1", "edge-1", CLIENT, &[]).await;
    ask(&bed, "others", "edge-2", "edge-1", CLIENT, &[]).await;
    until("the approvals", || ["before", "own"].iter().all(|name| condition(&bed, name) == "Approved")).await;
    until("the event", || bed.told("others") == ["LeftForHuman"]).await;
    assert_eq!(condition(&bed, "others"), Value::Null);
    let event = bed.api.events().into_iter().find(|e| e["involvedObject"]["name"] == "others").unwrap();
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("system:node:edge-2") && message.contains("edge-1"), "{message}");
    manager.stop().await;
    // The next manager does not say it again.
    let manager = bed.manager(FLAGS).await;
    ask(&bed, "last", "edge-1", "edge-1", CLIENT, &[]).await;
    until("the last approval", || condition(&bed, "last") == "Approved").await;
    assert_eq!(bed.told("others"), ["LeftForHuman"]);
    manager.stop().await;
}

/// The addresses of the node.
fn tell(bed: &Bed, addresses: Value) {
    bed.api.modify("nodes", "", "edge-1", |n| n["status"]["addresses"] = addresses.clone());
}

/// A node that has told no address yet, and a manager.
async fn without_addresses() -> (Bed, Manager) {
    let bed = Bed::new().await;
    bed.node("edge-1", &[]);
    tell(&bed, json!([]));
    let manager = bed.manager(FLAGS).await;
    (bed, manager)
}

#[tokio::test]
async fn a_serving_certificate_waits_until_the_node_has_told_its_address() {
    let (bed, manager) = without_addresses().await;
    ask(&bed, "serving", "edge-1", "edge-1", SERVING, &["10.0.0.7", "127.0.0.1"]).await;
    ask(&bed, "stolen", "edge-1", "edge-1", SERVING, &["10.0.0.8"]).await;
    until("both to be left", || {
        bed.told("serving") == ["LeftForHuman"] && bed.told("stolen") == ["LeftForHuman"]
    })
    .await;
    tell(&bed, json!([{"type": "InternalIP", "address": "10.0.0.7"}]));
    until("the approval", || {
        bed.clock.advance(10);
        condition(&bed, "serving") == "Approved"
    })
    .await;
    assert_eq!(condition(&bed, "stolen"), Value::Null);
    manager.stop().await;
}

#[tokio::test]
async fn many_open_requests_cost_one_look_at_the_nodes() {
    let (bed, manager) = without_addresses().await;
    let names: Vec<String> = (0..30).map(|n| format!("open-{n:02}")).collect();
    for name in &names {
        ask(&bed, name, "edge-1", "edge-1", SERVING, &["10.9.9.9"]).await;
    }
    ask(&bed, "z-last", "edge-1", "edge-1", SERVING, &["10.0.0.7"]).await;
    until("all to be left", || bed.told("z-last") == ["LeftForHuman"]).await;
    tell(&bed, json!([{"type": "InternalIP", "address": "10.0.0.7"}]));
    let lists = || bed.api.audit().count(|e| e.method == "GET" && e.path.contains("/api/v1/nodes"));
    let before = lists();
    until("the approval", || {
        bed.clock.advance(10);
        condition(&bed, "z-last") == "Approved"
    })
    .await;
    // It is the last of the round in which it was approved.
    assert!(lists() - before < names.len(), "{} looks", lists() - before);
    assert!(names.iter().all(|name| condition(&bed, name) == Value::Null));
    manager.stop().await;
}
