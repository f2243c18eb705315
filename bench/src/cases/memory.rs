//! Resident memory of the hub, all of it (RSS: its own pages and the program's), when it has settled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use yurt_testkit::apiserver::{Options, Principal, Rule};
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::kubelet::{Kubelet, KubeletOptions};
use yurt_testkit::objects;

use super::{NODE, PROTOBUF, Plan, until, until_link};
use crate::informer::{Asked, Informer};
use crate::process::Memory;
use crate::report::Row;

const SOON: Duration = Duration::from_secs(30);
const SERVICES: usize = 2000;
const WATCHES: usize = 100;

pub async fn rows(_plan: Plan) -> Result<Vec<Row>> {
    Ok(vec![idle().await?, ten_pods().await?, services().await?, watches().await?])
}

async fn idle() -> Result<Row> {
    let cluster = Cluster::start(NODE).await;
    until_link(&cluster, "Online").await?;
    let memory = settled(&cluster).await?;
    Ok(Row::told("memory idle", memory.megabytes(), "MB").beside(memory.parts()))
}

async fn ten_pods() -> Result<Row> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..10 {
        for object in objects::pod_with_volumes("default", &format!("web-{n}"), NODE) {
            cluster.api.create(object);
        }
    }
    cluster.hub.start().await;
    let ca = std::fs::read_to_string(cluster.hub.ca_file())?;
    let mut kubelet = Kubelet::new(KubeletOptions::new(NODE, &cluster.hub.url(), &ca, &cluster.node));
    kubelet.boot();
    kubelet.wait_running(10, SOON).await?;
    kubelet.wait_reported(SOON).await?;
    let memory = settled(&cluster).await?;
    Ok(Row::limited("memory kubelet with 10 pods", memory.megabytes(), "MB", 8.0).beside(memory.parts()))
}

/// A kube-proxy and a CoreDNS: two users, each with both collections.
async fn services() -> Result<Row> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..SERVICES {
        cluster.api.create(service(n));
        cluster.api.create(endpoint_slice(n));
    }
    for user in ["kube-proxy", "coredns"] {
        let account = format!("system:serviceaccount:kube-system:{user}");
        cluster.api.add_token(user, Principal::user(&account, &["system:serviceaccounts"]));
        cluster.api.allow(Rule::allow(&account, "get,list,watch", "", "services"));
        cluster.api.allow(Rule::allow(&account, "get,list,watch", "discovery.k8s.io", "endpointslices"));
    }
    cluster.hub.start().await;
    until_link(&cluster, "Online").await?;
    let proxy =
        "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name";
    let mut watches = Vec::new();
    for (user, selector) in [("kube-proxy", proxy), ("coredns", "")] {
        let client = cluster.client(Protocol::Http2).token(user);
        for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"] {
            let informer = Informer::start(&client, Asked { path, selector, accept: PROTOBUF }).await?;
            ensure!(informer.listed >= SERVICES, "{user}: {} of {path}", informer.listed);
            watches.push(informer);
        }
    }
    until_watched(&cluster, 2 * 2).await?;
    let memory = settled(&cluster).await?;
    ensure!(watches.iter().all(Informer::stands), "a watch has ended");
    let name = "memory 2,000 Services + 2,000 EndpointSlices, two clients";
    Ok(Row::limited(name, memory.megabytes(), "MB", 20.0).beside(memory.parts()))
}

/// A hundred ConfigMaps of pods, each watched for itself, as a kubelet does.
async fn watches() -> Result<Row> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..WATCHES {
        for object in objects::pod_with_volumes("default", &format!("web-{n}"), NODE) {
            cluster.api.create(object);
        }
    }
    cluster.hub.start().await;
    until_link(&cluster, "Online").await?;
    let client = cluster.node_client(Protocol::Http2);
    let mut watches = Vec::new();
    for n in 0..WATCHES {
        let selector = format!("fieldSelector=metadata.name%3D{}", objects::config_of(&format!("web-{n}")));
        let asked =
            Asked { path: "/api/v1/namespaces/default/configmaps", selector: &selector, accept: PROTOBUF };
        watches.push(Informer::start(&client, asked).await?);
    }
    until_watched(&cluster, WATCHES).await?;
    let memory = settled(&cluster).await?;
    ensure!(watches.iter().all(Informer::stands), "a watch has ended");
    Ok(Row::told("memory 100 watches", memory.megabytes(), "MB").beside(memory.parts()))
}

async fn settled(cluster: &Cluster) -> Result<Memory> {
    Ok(Memory::settled(cluster.hub.pid().context("the hub has ended")?).await)
}

/// Waits until the hub serves so many local watches from its collections.
async fn until_watched(cluster: &Cluster, watches: usize) -> Result<()> {
    until(format!("not {watches} watches are served from collections"), async || {
        let status = cluster.hub.admin("/v1/status").await.map(|s| s.json()).unwrap_or_default();
        let collections = status["collections"].as_array().cloned().unwrap_or_default();
        collections.iter().filter_map(|c| c["watchers"].as_u64()).sum::<u64>() >= watches as u64
    })
    .await
}

fn service(n: usize) -> Value {
    let mut service =
        objects::service("default", &format!("service-{n}"), &[("http", 80), ("metrics", 9100)]);
    service["metadata"]["labels"] =
        json!({"app": format!("service-{n}"), "app.kubernetes.io/managed-by": "Helm"});
    service["spec"]["clusterIP"] = format!("10.96.{}.{}", n / 250, n % 250 + 1).into();
    service
}

fn endpoint_slice(n: usize) -> Value {
    let names: Vec<_> = (0..3)
        .map(|i| (format!("10.244.{}.{}", n / 80, n % 80 * 3 + i), format!("service-{n}-{i}")))
        .collect();
    let uid = "5a4f4f0e-7d5a-4a7e-9a55-0a4f3f1c2b1d";
    let endpoints: Vec<_> = names.iter().map(|(ip, pod)| (ip.as_str(), pod.as_str(), uid, NODE)).collect();
    objects::endpoint_slice("default", &format!("service-{n}"), &endpoints)
}
