//! A collection of 5,000 objects after an outage in which ten of them changed: what the link carries until every
//! watcher has them, everything counted (TLS, probes, the reflector's watch), beside the bytes of the ten objects; and
//! the lists that the outage costs, of which there should be none. The collection is not one of pods: of those
//! of its node the hub asks, beside the watch, for what changed since (`replay/changed.rs`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use yurt_testkit::apiserver::{Options, Principal, Rule};
use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use super::{NODE, PROTOBUF, Plan, until_cached, until_link};
use crate::informer::{Asked, Informer};
use crate::report::Row;
use crate::rounds::median;

const OBJECTS: usize = 5000;
const CHANGED: usize = 10;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub async fn rows(plan: Plan) -> Result<Vec<Row>> {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    for n in 0..OBJECTS {
        cluster.api.create(map(&format!("web-{n}"), n));
    }
    cluster.hub.start().await;
    until_link(&cluster, "Online").await?;
    cluster.api.add_token("agent", Principal::user("system:serviceaccount:default:agent", &[]));
    cluster.api.allow(Rule::allow("system:serviceaccount:default:agent", "get,list,watch", "", "configmaps"));
    let client = cluster.client(Protocol::Http2).token("agent");
    let asked = Asked { path: MAPS, selector: "", accept: PROTOBUF };
    let mut informer = Informer::start(&client, asked).await?;
    ensure!(informer.listed >= OBJECTS, "{} of {OBJECTS}", informer.listed);
    until_cached(&client, &format!("{MAPS}?resourceVersion=0"), PROTOBUF).await?;
    let lists = || cluster.api.audit().count(|e| !e.watch && e.path == asked.path);
    let before = lists();
    let (mut ratios, mut carried) = (Vec::new(), Vec::new());
    for round in 0..plan.times(5) {
        let (bytes, objects) = outage(&cluster, &mut informer, OBJECTS + round * CHANGED).await?;
        ratios.push(bytes / objects);
        carried.push(bytes);
    }
    ensure!(informer.stands(), "the watch has ended");
    Ok(vec![
        Row::limited("resume 10 of 5,000 objects: bytes / theirs", median(ratios), "x", 3.0)
            .beside(format!("{:.0} bytes in all", median(carried))),
        Row::limited("resume: lists that five outages cost", (lists() - before) as f64, "", 0.0),
    ])
}

/// Bytes that came over the link, and those of the changed objects as events.
async fn outage(cluster: &Cluster, informer: &mut Informer, turn: usize) -> Result<(f64, f64)> {
    cluster.relay.refuse().await;
    until_link(cluster, "Offline").await?;
    let (mut version, mut objects) = (0, 0);
    for n in 0..CHANGED {
        let name = format!("web-{}", n * 37);
        let changed = cluster.api.modify("configmaps", "default", &name, |object| {
            object["data"] = map(&name, turn + n)["data"].clone();
        });
        let at = changed["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
        version = at.context("a changed map without a version")?;
        let path = format!("{MAPS}/{name}");
        let as_sent = cluster.admin().get_as(&path, PROTOBUF).await?;
        objects += as_sent.body.len();
    }
    let before = cluster.relay.bytes().1;
    cluster.relay.heal();
    informer.reach(version).await?;
    until_link(cluster, "Online").await?;
    // What still comes is the answer to nothing that this waits for: counted all the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(((cluster.relay.bytes().1 - before) as f64, objects as f64))
}

/// A ConfigMap of about 2 KB; `turn` makes its content new.
fn map(name: &str, turn: usize) -> Value {
    let pod = super::pod(name, turn);
    let mut map = objects::config_map("default", name, &[]);
    map["data"] = json!({"turn": pod["metadata"]["annotations"]["example.com/turn"], "of": name.repeat(80)});
    map
}
