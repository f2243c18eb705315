//! Certificates that are not trusted, not there, not readable, or replaced: said once, and taken up by themselves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::{Apiserver, Options, Principal, Rule};
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::pki::Identity;

use crate::tools::{NODE, signal, status, until, until_link};

fn lines_with(cluster: &Cluster, text: &str) -> usize {
    cluster.hub.log().lines().filter(|l| l.contains("WARN") && l.contains(text)).count()
}

/// Copies of the node's certificate and key that a test may spoil.
fn own_files(cluster: &mut Cluster) -> Identity {
    let folder = cluster.folder().path().to_owned();
    let own = Identity {
        cert_file: folder.join("node.crt"),
        key_file: folder.join("node.key"),
        ..cluster.node.clone()
    };
    cluster.hub.options.identity = own.clone();
    own
}

/// Replaces a file as careful programs do: beside it, then in its place.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, path).unwrap();
}

async fn ask_often(cluster: &Cluster) {
    let client = cluster.node_client(Protocol::Http2);
    for _ in 0..30 {
        client.get("/api/v1/nodes/edge-1").await.unwrap();
    }
}

#[tokio::test]
async fn a_cloud_that_is_not_trusted_is_said_once() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let other = Apiserver::start().await;
    cluster.relay.retarget(other.addr());
    cluster.hub.start().await;
    let why = until("the reason", || async {
        status(&cluster.hub).await["connectivity"]["trouble"].as_str().map(str::to_owned)
    })
    .await;
    assert!(why.contains("certificate") && why.contains(&cluster.relay.addr().to_string()), "{why}");
    let ready = cluster.hub.admin("/v1/readyz").await.unwrap();
    assert_eq!(ready.code(), 503);
    assert!(ready.text().contains("certificate"), "{}", ready.text());
    ask_often(&cluster).await;
    let (before, _) = cluster.relay.connections();
    until("more tries", || async { (cluster.relay.connections().0 >= before + 2).then_some(()) }).await;
    assert_eq!(lines_with(&cluster, "certificate"), 1, "{}", cluster.hub.log());
    // The right one comes back: online without a restart, and the trouble is over.
    cluster.relay.retarget(cluster.api.addr());
    cluster.relay.reset();
    until_link(&cluster.hub, "Online").await;
    assert!(status(&cluster.hub).await["connectivity"]["trouble"].is_null());
}

#[tokio::test]
async fn a_certificate_that_is_missing_is_said_once_and_taken_up_when_it_comes() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let own = own_files(&mut cluster);
    cluster.hub.start().await;
    let named = own.cert_file.to_str().unwrap().to_owned();
    let ready = cluster.hub.admin("/v1/readyz").await.unwrap();
    assert!(ready.code() == 503 && ready.text().contains(&named), "{}", ready.text());
    let answer = cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap();
    assert_eq!((answer.code(), answer.json()["reason"].as_str()), (503, Some("ServiceUnavailable")));
    ask_often(&cluster).await;
    assert!(lines_with(&cluster, &named) <= 2, "the files and the link, each once:\n{}", cluster.hub.log());
    // The kubelet gets its certificate: the key first, as two files come.
    fs::write(&own.key_file, &own.key_pem).unwrap();
    fs::write(&own.cert_file, &own.cert_pem).unwrap();
    let ready = async || cluster.hub.admin("/v1/readyz").await.ok().filter(|a| a.code() == 200);
    until("it is read", ready).await;
    cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    until_link(&cluster.hub, "Online").await;
}

/// The link is there for callers with credentials of their own: how else would the node ask for its certificate?
#[tokio::test]
async fn who_has_a_token_is_served_before_the_node_has_a_certificate() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let own = own_files(&mut cluster);
    cluster.hub.start().await;
    until_link(&cluster.hub, "Online").await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    cluster.api.add_token("bootstrap", Principal::user("system:bootstrap:abc", &["system:bootstrappers"]));
    for (verbs, group, resource) in
        [("create,get", "certificates.k8s.io", "certificatesigningrequests"), ("list,watch", "", "services")]
    {
        cluster.api.allow(Rule::allow("system:bootstrap:abc", verbs, group, resource));
    }
    let client = cluster.client(Protocol::Http2).token("bootstrap");
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "node-csr-1"},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "request": "", "usages": []},
    });
    client.post(requests, &request).await.unwrap().expect(201);
    client.get(&format!("{requests}/node-csr-1")).await.unwrap().expect(200);
    client.get("/api/v1/services").await.unwrap().expect(200);
    // The requests of the node fail for its certificate, and say nothing about the link.
    ask_often(&cluster).await;
    assert_eq!(status(&cluster.hub).await["connectivity"]["state"], "Online");
    assert!(lines_with(&cluster, "connectivity") == 0 && !cluster.hub.log().contains("Suspect"));
    let said = status(&cluster.hub).await["autonomy"].clone();
    assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("CredentialMissing")), "{said}");
    fs::write(&own.key_file, &own.key_pem).unwrap();
    fs::write(&own.cert_file, &own.cert_pem).unwrap();
    let node = cluster.node_client(Protocol::Http2);
    until("the node", async || node.get("/api/v1/nodes/edge-1").await.ok().filter(|a| a.code() == 200)).await;
}

#[tokio::test]
async fn what_replaces_a_certificate_is_used_from_then_on_and_garbage_is_not() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let own = own_files(&mut cluster);
    replace(&own.key_file, &own.key_pem);
    replace(&own.cert_file, &own.cert_pem);
    cluster.hub.start().await;
    until_link(&cluster.hub, "Online").await;

    // Garbage: said once, and what was read before stays in use, for new connections too.
    replace(&own.cert_file, "-----BEGIN CERTIFICATE-----\nnot base64\n");
    until("the complaint", || async { (lines_with(&cluster, "stays in use") > 0).then_some(()) }).await;
    cluster.relay.reset();
    until_link(&cluster.hub, "Online").await;
    ask_often(&cluster).await;
    assert_eq!(lines_with(&cluster, "stays in use"), 1, "{}", cluster.hub.log());
    assert_eq!(cluster.hub.admin("/v1/readyz").await.unwrap().code(), 200);
    let complaints = status(&cluster.hub).await["credentials"]["complaints"].clone();
    assert_eq!(complaints.as_array().map(Vec::len), Some(1), "{complaints}");

    // A rotation in two steps: half of it is not used, the whole is, on a new connection.
    let (before, _) = cluster.relay.connections();
    let fresh = cluster.api.pki().node(NODE);
    assert_ne!(fresh.cert_pem, own.cert_pem);
    replace(&own.cert_file, &fresh.cert_pem);
    signal(&cluster.hub, "-HUP");
    until("the half", || async { (lines_with(&cluster, "stays in use") > 1).then_some(()) }).await;
    replace(&own.key_file, &fresh.key_pem);
    signal(&cluster.hub, "-HUP");
    until("no complaint", || async {
        let complaints = status(&cluster.hub).await["credentials"]["complaints"].clone();
        complaints.as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    assert!(cluster.relay.connections().0 > before, "a connection with the new certificate");
    assert_eq!(status(&cluster.hub).await["connectivity"]["state"], "Online", "a rotation is no outage");
}

/// What was begun with the certificate from before is not used when it comes late.
#[tokio::test]
async fn a_connection_that_comes_late_brings_no_old_certificate_back() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let file = cluster.folder().path().join("kubelet-client-current.pem");
    let both = |identity: &Identity| format!("{}{}", identity.cert_pem, identity.key_pem);
    // Of another name, so that the cloud can tell them apart.
    replace(&file, &both(&cluster.api.pki().node("edge-0")));
    cluster.hub.options.identity =
        Identity { cert_file: file.clone(), key_file: file.clone(), ..cluster.node.clone() };
    cluster.relay.hold();
    cluster.hub.start().await;
    until("a connection on its way", async || (cluster.relay.connections().1 > 0).then_some(())).await;
    replace(&file, &both(&cluster.node));
    signal(&cluster.hub, "-HUP");
    let read = "reading the certificates again";
    until("the new one", async || cluster.hub.log().contains(read).then_some(())).await;
    cluster.relay.heal();
    until_link(&cluster.hub, "Online").await;
    cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
    let asked = cluster.api.audit().matching(|entry| entry.path == "/api/v1/nodes/edge-1");
    let users: Vec<_> = asked.iter().map(|entry| entry.user.as_str()).collect();
    assert_eq!(users, ["system:node:edge-1"]);
}

#[tokio::test]
async fn a_hangup_reads_the_files_at_once() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let own = own_files(&mut cluster);
    fs::create_dir(&own.cert_file).unwrap();
    fs::write(&own.key_file, &own.key_pem).unwrap();
    cluster.hub.start().await;
    assert!(cluster.hub.admin("/v1/readyz").await.unwrap().text().contains("node.crt"));
    fs::remove_dir(&own.cert_file).unwrap();
    fs::write(&own.cert_file, &own.cert_pem).unwrap();
    signal(&cluster.hub, "-HUP");
    let read = until("the certificate", || async {
        let complaints = status(&cluster.hub).await["credentials"]["complaints"].clone();
        complaints.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    tokio::time::timeout(Duration::from_secs(1), read).await.unwrap();
}
