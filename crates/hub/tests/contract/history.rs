//! Time travel: a cluster that was restored from a backup, and servers that lag behind others.

use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::{Apiserver, Entry, Fault, Options};
use yurt_testkit::client::{Client, WatchStream};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A node with one or two servers, and ann, who reads maps and secrets.
async fn with_servers(mode: &str) -> (Cluster, Apiserver, Client) {
    let mut cluster = Cluster::prepare(NODE, Options::default()).await;
    let second = cluster.api.another();
    cluster.hub.options.arguments =
        ["--log", "info,yurt_hub=debug", "--lb-mode", mode].map(Into::into).to_vec();
    if mode != "one" {
        cluster.hub.options.servers = format!("{},{}", cluster.relay.url(), second.url());
    } else {
        cluster.hub.options.arguments.truncate(2);
    }
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    let client = reader(&cluster, "ann", &["configmaps", "secrets"]);
    (cluster, second, client)
}

/// The watch ends with 410, after what was still to be told.
async fn gone(stream: &mut WatchStream, what: &str) {
    let ended = async {
        loop {
            let event = stream.next().await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
            match event.expect("an ERROR before the end") {
                e if e.kind == "ERROR" => return e.object["code"].clone(),
                e => assert_ne!(e.kind, "DELETED", "{what}"),
            }
        }
    };
    assert_eq!(within(what, Duration::from_secs(30), ended).await, 410, "{what}");
}

/// A collection of the time that is gone is listed again, its clients are told 410, and nothing of that time stays.
#[tokio::test]
async fn a_restore_is_noticed_by_what_is_followed() {
    for cut_meanwhile in [false, true] {
        let (cluster, _second, client) = with_servers("one").await;
        cluster.api.create(objects::config_map("default", "old", &[("k", "before")]));
        let backup = cluster.api.snapshot();
        for name in ["phantom", "phantom-too"] {
            cluster.api.create(objects::config_map("default", name, &[]));
        }
        cluster.api.modify("configmaps", "default", "old", |o| o["data"]["k"] = json!("lost"));
        for name in ["old", "phantom"] {
            client.get(&format!("{MAPS}/{name}")).await.unwrap().expect(200);
        }
        let (_, mut maps) = informer(&client, MAPS, JSON).await;
        let (_, mut secrets) = informer(&client, SECRETS, JSON).await;
        until_collection(&cluster, &["configmaps"], "live").await;
        until_collection(&cluster, &["secrets"], "live").await;
        if cut_meanwhile {
            cut(&cluster).await;
        }
        cluster.api.restore(&backup);
        cluster.relay.heal();
        cluster.relay.reset();
        let (first, second) = (gone(&mut maps, "maps"), gone(&mut secrets, "secrets"));
        tokio::join!(first, second);
        until_collection(&cluster, &["configmaps"], "live").await;
        let (list, mut again) = informer(&client, MAPS, JSON).await;
        assert_eq!(names(&list), ["kube-root-ca.crt", "old"], "no phantom");
        cluster.api.create(objects::config_map("default", "new", &[]));
        assert_eq!(again.next_change(SOON).await.unwrap().name(), "new");
        cut(&cluster).await;
        let held = client.get(MAPS).await.unwrap().expect(200);
        assert_eq!(names(&held), ["kube-root-ca.crt", "new", "old"]);
        assert_eq!(
            client.get(&format!("{MAPS}/old")).await.unwrap().expect(200).json()["data"]["k"],
            "before"
        );
        assert_eq!(client.get(&format!("{MAPS}/phantom")).await.unwrap().code(), 404, "it was never there");
    }
}

/// The cloud itself says that the version is one to come: in an answer, or in the watch.
#[tokio::test]
async fn a_version_that_is_too_large_is_looked_into() {
    let (cluster, _second, client) = with_servers("one").await;
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let backup = cluster.api.snapshot();
    // Said of a cluster that is where it was, it changes nothing.
    let is_list =
        |e: &Entry| e.path == MAPS && !e.query.contains("watch") && e.user_agent.starts_with("yurthub");
    let lists = || cluster.api.audit().count(is_list);
    let before = lists();
    let too_large = |_: &str, path: &str| path.starts_with(MAPS) && path.contains("watch=true");
    cluster.api.fault_times(1, Fault::TooLarge, too_large);
    cluster.api.end_watches();
    cluster.api.create(objects::config_map("default", "a", &[]));
    assert_eq!(stream.next_change(SOON).await.unwrap().name(), "a");
    assert_eq!(lists(), before, "nothing is listed again");
    cluster.api.fault_times(1, Fault::TooLarge, too_large);
    cluster.api.restore(&backup);
    gone(&mut stream, "restored").await;
    let list = client.get(&format!("{MAPS}?resourceVersion=0")).await.unwrap().expect(200);
    assert_eq!(names(&list), ["kube-root-ca.crt"]);
}

/// One server that lags takes nothing back: neither a list of its own, nor its silence when it is the only one left.
#[tokio::test]
async fn a_server_that_lags_takes_nothing_back() {
    let (cluster, second, client) = with_servers("priority").await;
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    second.lag();
    cluster.api.create(objects::config_map("default", "late", &[]));
    cluster.api.create(objects::secret("default", "late", &[]));
    assert_eq!(stream.next_change(SOON).await.unwrap().name(), "late");
    assert_eq!(names(&client.get(SECRETS).await.unwrap().expect(200)), ["late"]);
    until_metric(&cluster, "being_kept", |n| n == 0).await;
    let before = held_versions(&cluster).await;
    // From now on only the lagging one answers.
    cluster.relay.refuse().await;
    eventually("the watch is there", async || second.open_watches().iter().any(|e| e.path == MAPS)).await;
    assert_eq!(
        names(&client.get(SECRETS).await.unwrap().expect(200)).len(),
        0,
        "its answers pass as they are"
    );
    let asked = || second.audit().count(|e| e.path == MAPS && e.query.contains("limit=1"));
    eventually("its silence is looked into", async || asked() > 0).await;
    assert_eq!(held_versions(&cluster).await, before, "nothing went back");
    let view = client.get(&format!("{MAPS}?resourceVersion=0")).await.unwrap().expect(200);
    assert_eq!(names(&view), ["kube-root-ca.crt", "late"]);
    // The other one is back: the watch goes there.
    cluster.relay.heal();
    cluster.api.create(objects::config_map("default", "later", &[]));
    assert_eq!(stream.next_change(Duration::from_secs(60)).await.unwrap().name(), "later");
    second.refuse();
    cut(&cluster).await;
    assert_eq!(names(&client.get(SECRETS).await.unwrap().expect(200)), ["late"], "what was held of it stays");
}

/// P3: nor does its answer to a GET: neither an older version of the object, nor one that had its name before.
#[tokio::test]
async fn a_lagging_answer_does_not_replace_a_newer_object() {
    let (cluster, second, client) = with_servers("priority").await;
    for name in ["a", "b"] {
        cluster.api.create(objects::config_map("default", name, &[("k", "1")]));
    }
    second.lag();
    cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!("2"));
    cluster.api.delete("configmaps", "default", "b");
    cluster.api.create(objects::config_map("default", "b", &[("k", "2")]));
    let read = async |name: &str, accept: &str| {
        let answer = client.get_as(&format!("{MAPS}/{name}"), accept).await.unwrap().expect(200);
        let object = decoded(&answer);
        (object["data"]["k"].clone(), object["metadata"]["uid"].clone())
    };
    let newest = (read("a", JSON).await, read("b", JSON).await);
    assert_eq!((&newest.0.0, &newest.1.0), (&json!("2"), &json!("2")));
    until_metric(&cluster, "being_kept", |n| n == 0).await;
    // From now on only the lagging one answers.
    cluster.relay.refuse().await;
    let old = async || read("a", JSON).await.0 == "1";
    eventually("the other one answers", old).await;
    for accept in [JSON, PROTOBUF] {
        let seen = (read("a", accept).await, read("b", accept).await);
        assert_eq!((&seen.0.0, &seen.1.0), (&json!("1"), &json!("1")), "its answers pass as they are");
        assert_ne!(seen.1.1, newest.1.1, "it is another object");
    }
    second.refuse();
    cut(&cluster).await;
    for accept in [JSON, PROTOBUF] {
        assert_eq!(
            (read("a", accept).await, read("b", accept).await),
            newest,
            "{accept}: what is held is the newest"
        );
    }
}

/// The versions of what is held.
async fn held_versions(cluster: &Cluster) -> Vec<String> {
    let now = status(cluster).await;
    let all = now["collections"].as_array().unwrap();
    all.iter().map(|c| format!("{} {}", c["collection"], c["resourceVersion"])).collect()
}
