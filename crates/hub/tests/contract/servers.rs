//! Several apiservers: who is asked, what happens when one fails, how one that comes back is used again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use yurt_testkit::apiserver::{Apiserver, Fault, Options};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;
use yurt_testkit::relay::Relay;

use crate::bed::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// A node with two apiservers over one state, the second over a relay of its own.
struct Two {
    cluster: Cluster,
    second: Apiserver,
    relay: Relay,
}

impl Two {
    async fn start(mode: &str) -> Self {
        let mut cluster = Cluster::prepare(NODE, Options::default()).await;
        let second = cluster.api.another();
        let relay = Relay::start(second.addr()).await;
        let options = &mut cluster.hub.options;
        options.servers = format!("{},{}", cluster.relay.url(), relay.url());
        options.arguments = ["--log", "info,yurt_hub=debug", "--lb-mode", mode].map(Into::into).to_vec();
        cluster.api.create(objects::service("default", "a", &[("http", 80)]));
        cluster.hub.start().await;
        until_link(&cluster, "Online").await;
        Self { cluster, second, relay }
    }

    /// How often clients' reads of the services reached each server.
    fn reads(&self) -> (usize, usize) {
        let count = |api: &Apiserver| api.audit().count(|e| e.path == SERVICES && !e.watch);
        (count(&self.cluster.api), count(&self.second))
    }

    /// Where the hub's watches of the services run.
    fn watches(&self) -> (usize, usize) {
        let count = |api: &Apiserver| api.open_watches().iter().filter(|e| e.path == SERVICES).count();
        (count(&self.cluster.api), count(&self.second))
    }

    async fn server(&self, index: usize) -> Value {
        status(&self.cluster).await["servers"][index].clone()
    }

    async fn until_well(&self, index: usize, well: bool) {
        eventually(&format!("server {index} is well: {well}"), async || {
            self.server(index).await["well"] == well
        })
        .await;
    }

    /// Consistent reads, none of which is answered by anybody but the cloud, or late.
    async fn reads_go_on(&self, client: &Client, how_many: usize) {
        for n in 0..how_many {
            let begun = Instant::now();
            let answer =
                client.get(&format!("{SERVICES}?labelSelector=n%21%3D{n}")).await.unwrap().expect(200);
            assert_eq!(source(&answer), "cloud", "read {n}");
            assert!(begun.elapsed() < Duration::from_millis(2400), "read {n}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn by_priority_the_first_that_is_well_is_asked() {
    let two = Two::start("priority").await;
    let client = node(&two.cluster);
    two.reads_go_on(&client, 6).await;
    assert_eq!(two.reads(), (6, 0));
    two.cluster.relay.refuse().await;
    two.reads_go_on(&client, 6).await;
    assert_eq!(two.reads(), (6, 6));
    two.until_well(0, false).await;
    assert_eq!(two.server(1).await["inUse"], json!(true));
    two.cluster.relay.heal();
    two.until_well(0, true).await;
    two.reads_go_on(&client, 6).await;
    assert_eq!(two.reads(), (12, 6), "who comes back is used again");
    eventually("nothing is left open at the other one", async || {
        two.server(1).await["connections"] == 0
            && status(&two.cluster).await["upstreamConnections"].as_u64() <= Some(4)
    })
    .await;
}

#[tokio::test]
async fn in_turn_both_are_asked_and_one_that_fails_is_left_out() {
    let two = Two::start("rr").await;
    let client = node(&two.cluster);
    two.reads_go_on(&client, 10).await;
    assert_eq!(two.reads(), (5, 5));
    two.relay.refuse().await;
    two.reads_go_on(&client, 10).await;
    assert_eq!(two.reads(), (15, 5));
    two.relay.heal();
    two.until_well(1, true).await;
    two.reads_go_on(&client, 10).await;
    assert_eq!(two.reads(), (20, 10));
    let open = status(&two.cluster).await["upstreamConnections"].as_u64().unwrap();
    assert!(open <= 2 * 2 + 2, "{open} connections to two servers");
}

/// A server that falls silent: reads are answered in time, streams go on at the other one, the link stays.
#[tokio::test]
async fn streams_move_when_their_server_dies() {
    for kind in ["refused", "silent"] {
        let two = Two::start("priority").await;
        let client = node(&two.cluster);
        let (_, mut stream) = informer(&client, SERVICES, JSON).await;
        eventually("the watch runs at the first", async || two.watches() == (1, 0)).await;
        match kind {
            "refused" => two.cluster.relay.refuse().await,
            _ => two.cluster.relay.hold(),
        }
        eventually("the watch runs at the second", async || two.watches().1 == 1).await;
        two.second.modify("services", "default", "a", |o| o["metadata"]["labels"]["k"] = json!(kind));
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!(
            (event.kind.as_str(), &event.object["metadata"]["labels"]["k"]),
            ("MODIFIED", &json!(kind))
        );
        assert_eq!(status(&two.cluster).await["connectivity"]["state"], json!("Online"), "{kind}");
        let lists = |api: &Apiserver| api.audit().count(|e| e.path == SERVICES && !e.watch);
        assert_eq!((lists(&two.cluster.api), lists(&two.second)), (1, 0), "nothing is listed again");
        // Gently: the stream that stands is left where it is, what is new goes to the first.
        two.cluster.relay.heal();
        two.until_well(0, true).await;
        two.reads_go_on(&client, 3).await;
        assert_eq!(lists(&two.second), 0);
        assert_eq!(two.watches().1, 1, "{kind}: the stream was not torn away");
    }
}

/// Nobody's answer is lost with a server that took the request and died: what changes nothing is asked again.
#[tokio::test]
async fn a_read_whose_server_dies_is_asked_at_the_next_one() {
    let two = Two::start("priority").await;
    let client = node(&two.cluster);
    two.cluster.api.fault(Fault::Silence, |_, path| path.starts_with(SERVICES));
    let (answer, ()) = tokio::join!(client.get(SERVICES), async {
        eventually("the first one has it", async || {
            two.cluster.api.audit().count(|e| e.path == SERVICES) == 1
        })
        .await;
        two.cluster.relay.refuse().await;
    });
    assert_eq!(source(&answer.unwrap().expect(200)), "cloud");
    assert_eq!(two.second.audit().count(|e| e.path == SERVICES), 1);
}

/// A write that may have arrived is nobody's to send twice.
#[tokio::test]
async fn a_write_whose_server_dies_is_not_sent_again() {
    let two = Two::start("priority").await;
    let client = node(&two.cluster);
    let events = "/api/v1/namespaces/default/events";
    two.cluster.api.fault(Fault::Silence, move |method, path| method == "POST" && path == events);
    let event = json!({
        "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e.1", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": NODE}, "message": "x",
    });
    let (_, ()) = tokio::join!(client.post(events, &event), async {
        eventually("the first one has it", async || two.cluster.api.audit().count(|e| e.path == events) == 1)
            .await;
        two.cluster.relay.refuse().await;
    });
    assert_eq!(two.second.audit().count(|e| e.path == events), 0);
}

/// One server is a portal, or lost before the start: the other one is the link.
#[tokio::test]
async fn one_server_is_enough_for_a_start() {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let second = cluster.api.another();
    cluster.hub.options.servers = format!("{},{}", cluster.relay.url(), second.url());
    cluster.hub.options.arguments = ["--lb-mode", "priority"].map(Into::into).to_vec();
    cluster.relay.hold();
    let begun = Instant::now();
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    node(&cluster).get("/api/v1/services").await.unwrap().expect(200);
    cluster.relay.heal();
    eventually("the first one is used", async || status(&cluster).await["servers"][0]["inUse"] == true).await;
    cluster.api.fault_all(Fault::Html);
    cluster.api.reset_connections();
    node(&cluster).get("/api/v1/namespaces").await.unwrap();
    eventually("the portal is left alone", async || status(&cluster).await["servers"][1]["inUse"] == true)
        .await;
    until_link(&cluster, "Online").await;
}
