//! What a node costs the apiserver: upstream watches for ten clients of one collection, and connections.

use anyhow::Result;
use yurt_testkit::apiserver::{Options, Principal, Rule};
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use super::{NODE, OWN_PODS, PROTOBUF, Plan, pod, until_cached, until_link};
use crate::informer::{Asked, Informer};
use crate::report::Row;

const CLIENTS: usize = 10;

pub async fn rows(_plan: Plan) -> Result<Vec<Row>> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    cluster.api.create(pod("web-0", 0));
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    cluster.hub.start().await;
    until_link(&cluster, "Online").await?;
    let kubelet = cluster.node_client(Protocol::Http2);
    let mut watches = vec![
        Informer::start(&kubelet, Asked { path: "/api/v1/pods", selector: OWN_PODS, accept: PROTOBUF })
            .await?,
    ];
    let asked = Asked { path: "/api/v1/services", selector: "", accept: PROTOBUF };
    for n in 0..CLIENTS {
        let (user, token) = (format!("system:serviceaccount:default:client-{n}"), format!("token-{n}"));
        cluster.api.add_token(&token, Principal::user(&user, &["system:serviceaccounts"]));
        cluster.api.allow(Rule::allow(&user, "get,list,watch", "", "services"));
        let client = cluster.client(Protocol::Http2).token(&token);
        watches.push(Informer::start(&client, asked).await?);
    }
    until_cached(&kubelet, "/api/v1/services?resourceVersion=0", PROTOBUF).await?;
    let changed =
        cluster.api.modify("services", "default", "web", |s| s["metadata"]["labels"]["turn"] = "1".into());
    let version =
        changed["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX);
    for watch in watches.iter_mut().skip(1) {
        watch.reach(version).await?;
    }
    let upstream = cluster.api.open_watches().iter().filter(|w| w.path == asked.path).count();
    let (_, connections) = cluster.relay.connections();
    Ok(vec![
        Row::limited("sharing: upstream watches for 10 clients of one collection", upstream as f64, "", 1.0),
        Row::limited(
            "sharing: upstream connections, kubelet and 10 ServiceAccounts",
            connections as f64,
            "",
            4.0,
        ),
    ])
}
