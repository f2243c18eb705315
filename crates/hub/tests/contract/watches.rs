//! Watches: they start where they are told, say every change once, and outlive the link.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::{Client, WatchStream};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Long enough for what was sent to have arrived: for asserting that nothing more comes.
const QUIET: Duration = Duration::from_millis(400);

fn put(cluster: &Cluster, name: &str, color: &str) -> u64 {
    let mut object = objects::config_map("default", name, &[("color", color)]);
    object["metadata"]["labels"] = json!({"color": color});
    if cluster.api.exists("configmaps", "default", name) {
        return version(&cluster.api.modify("configmaps", "default", name, |o| {
            o["metadata"]["labels"]["color"] = json!(color);
            o["data"]["color"] = json!(color);
        }));
    }
    version(&cluster.api.create(object))
}

async fn watch(client: &Client, query: &str) -> WatchStream {
    client.watch(&format!("{MAPS}?watch=true&{query}"), JSON).await.unwrap()
}

/// The next change as (type, name, colour that the object shows, version).
async fn change(stream: &mut WatchStream) -> (String, String, String, u64) {
    let event = stream.next_change(SOON).await.unwrap();
    let color = event.object["data"]["color"].as_str().unwrap_or_default().to_owned();
    (event.kind.clone(), event.name().to_owned(), color, event.version())
}

/// What comes within a short while, as (type, name).
async fn rest(stream: &mut WatchStream) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while let Ok(event) = stream.next_change(QUIET).await {
        seen.push((event.kind.clone(), event.name().to_owned()));
    }
    seen
}

fn upstream_watches(cluster: &Cluster, path: &str) -> usize {
    cluster.api.open_watches().iter().filter(|e| e.path == path).count()
}

/// P4: from nothing, from a known version, from one that is gone, and as wrongly as the cloud judges it.
#[tokio::test]
async fn a_watch_starts_where_it_is_told() {
    let cluster = online().await;
    let old = put(&cluster, "a", "red");
    let known = put(&cluster, "b", "red");
    let last = put(&cluster, "c", "red");
    cluster.api.compact();
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let direct = cluster.admin();
    for query in ["", "resourceVersion=0"] {
        let mut stream = watch(&client, &format!("labelSelector=color&{query}")).await;
        for name in ["a", "b", "c"] {
            assert_eq!(change(&mut stream).await.1, name, "{query}");
        }
    }
    for gone in [old, known] {
        let answer =
            client.get(&format!("{MAPS}?watch=true&resourceVersion={gone}&timeoutSeconds=5")).await.unwrap();
        assert!(answer.text().contains("410"), "{gone}: {}", answer.text());
    }
    let mut stream = watch(&client, &format!("resourceVersion={last}")).await;
    let next = put(&cluster, "d", "red");
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "d".into(), "red".into(), next));
    for wrong in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
    ] {
        let ask = async |who: &Client| {
            who.get(&format!("{MAPS}?watch=true&timeoutSeconds=1&{wrong}")).await.unwrap()
        };
        assert_eq!(ask(&client).await.code(), ask(&direct).await.code(), "{wrong}");
    }
    // A streaming list never begins with a state that is older than asked for.
    let future = next + 100_000;
    let query = format!(
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={future}"
    );
    let event = watch(&client, &query).await.next_within(SOON).await.unwrap();
    assert_eq!((event.kind.as_str(), &event.object["code"]), ("ERROR", &json!(504)));
}

/// P4: streaming lists end their beginning with a bookmark, online and offline, shared or not.
#[tokio::test]
async fn streaming_lists_say_where_the_beginning_ends() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, mut live) = informer(&client, MAPS, JSON).await;
    let begin = async |client: &Client, version: &str, latest: u64| {
        let query = format!(
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true{version}"
        );
        let mut stream = watch(client, &query).await;
        let mut seen = Vec::new();
        let end = loop {
            let event = stream.next_within(SOON).await.unwrap();
            if event.ends_initial_events() {
                break event;
            }
            assert_eq!(event.kind, "ADDED");
            seen.push(event.name().to_owned());
        };
        assert!(end.version() >= latest, "{version}: {} is older than {latest}", end.version());
        seen
    };
    let latest = put(&cluster, "b", "red");
    let all = ["a", "b", "kube-root-ca.crt"];
    for version in ["", "&resourceVersion=0", &format!("&resourceVersion={latest}")] {
        let at_least = if version.ends_with("=0") { 0 } else { latest };
        assert_eq!(begin(&client, version, at_least).await, all, "{version}");
    }
    assert_eq!(change(&mut live).await.3, latest);
    cut(&cluster).await;
    for version in ["", "&resourceVersion=0", &format!("&resourceVersion={latest}")] {
        assert_eq!(begin(&client, version, latest).await, all, "offline {version}");
    }
    let future =
        format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={}", latest + 1000);
    let refused = client.get(&format!("{MAPS}?watch=true&timeoutSeconds=1&{future}")).await.unwrap();
    assert!(refused.text().contains("Too large resource version"), "{}", refused.text());
}

/// P4: a watch ends when it said it would, cleanly.
#[tokio::test]
async fn timeouts_end_watches() {
    let cluster = online().await;
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _live) = informer(&client, MAPS, JSON).await;
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        let mut stream = watch(&client, "resourceVersion=0&timeoutSeconds=1").await;
        let ended = async { while stream.next().await.unwrap().is_some() {} };
        within("the watch ends", Duration::from_secs(5), ended).await;
    }
}

/// P4: what a selector sees of a change that moves an object into it and out of it, exactly as the cloud
/// tells it; from the one collection that all share.
#[tokio::test]
async fn selectors_see_comings_and_goings() {
    let cluster = online().await;
    let from = put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let direct = cluster.admin();
    let queries =
        ["labelSelector=color%3Dred", "labelSelector=color+in+(blue)", "fieldSelector=metadata.name!%3Da"];
    let mut pairs = Vec::new();
    for query in queries {
        let query = format!("{query}&resourceVersion={from}");
        pairs.push((watch(&client, &query).await, watch(&direct, &query).await));
    }
    assert_eq!(
        upstream_watches(&cluster, MAPS),
        1 + queries.len(),
        "one of the hub, one of each direct client"
    );
    for color in ["blue", "red", "blue", "green"] {
        put(&cluster, "a", color);
        put(&cluster, "b", color);
    }
    cluster.api.delete("configmaps", "default", "a");
    put(&cluster, "end", "red");
    put(&cluster, "end", "blue");
    for ((hub, cloud), query) in pairs.iter_mut().zip(queries) {
        loop {
            let expected = cloud.next_change(SOON).await.unwrap();
            let seen = hub.next_change(SOON).await.unwrap();
            assert_eq!((&seen.kind, &seen.object), (&expected.kind, &expected.object), "{query}");
            if seen.name() == "end" && seen.kind != "ADDED" || query.contains("blue") && seen.name() == "end"
            {
                break;
            }
        }
    }
}

/// P9: however many watch locally, the cloud serves one.
#[tokio::test]
async fn ten_clients_cost_one_upstream_watch() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let mut streams = Vec::new();
    for n in 0..10 {
        let client = reader(&cluster, &format!("user-{n}"), &["configmaps"]);
        streams.push(informer(&client, MAPS, JSON).await.1);
    }
    let at = put(&cluster, "b", "red");
    for stream in &mut streams {
        assert_eq!(change(stream).await, ("ADDED".into(), "b".into(), "red".into(), at));
    }
    assert_eq!(upstream_watches(&cluster, MAPS), 1);
    let watchers = &collections(&status(&cluster).await, &["configmaps"])[0]["watchers"];
    assert_eq!(*watchers, json!(10));
    drop(streams);
    eventually("nobody watches any more", async || {
        collections(&status(&cluster).await, &["configmaps"])[0]["watchers"] == 0
    })
    .await;
}

/// P9: a client that does not read costs the others nothing, and is told that it has missed something.
#[tokio::test]
async fn a_slow_watcher_hurts_only_itself() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let slow_client = reader(&cluster, "slow", &["configmaps"]);
    let quick_client = reader(&cluster, "quick", &["configmaps"]);
    let (_, mut slow) = informer(&slow_client, MAPS, JSON).await;
    let (_, mut quick) = informer(&quick_client, MAPS, JSON).await;
    let large = "x".repeat(250_000);
    for n in 0..40 {
        cluster.api.modify("configmaps", "default", "a", |o| {
            o["data"] = json!({"color": n.to_string(), "pad": large})
        });
        assert_eq!(change(&mut quick).await.2, n.to_string());
    }
    let mut seen = Vec::new();
    let told = loop {
        match slow.next_within(SOON).await {
            Ok(event) if event.kind == "ERROR" => break event.object["code"] == 410,
            Ok(event) => seen.push(event.object["data"]["color"].as_str().unwrap_or_default().to_owned()),
            Err(_) => break true,
        }
        if seen.last().is_some_and(|c| c == "39") {
            break true;
        }
    };
    let in_order: Vec<_> = (0..seen.len()).map(|n| n.to_string()).collect();
    assert!(told && seen == in_order, "a gap that nobody told of: {seen:?}");
}

/// P4: the link goes in mid-watch and comes back: no stream ends, every change comes once and in order.
#[tokio::test]
async fn watches_outlive_the_link() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    put(&cluster, "gone", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, plain) = informer(&client, MAPS, JSON).await;
    let (_, proto) = informer(&client, MAPS, PROTOBUF).await;
    until_collection(&cluster, &["configmaps", "json"], "live").await;
    let reds = watch(&client, "labelSelector=color%3Dred&resourceVersion=0").await;
    let mut streams = [plain, proto, reds];
    assert_eq!(change(&mut streams[2]).await.1, "a");
    assert_eq!(change(&mut streams[2]).await.1, "gone");
    for black_hole in [true, false] {
        if black_hole {
            cluster.relay.hold();
            until_link(&cluster, "Offline").await;
        } else {
            cut(&cluster).await;
        }
        let round = if black_hole { "first" } else { "second" };
        put(&cluster, round, "red");
        put(&cluster, "a", round);
        let back = put(&cluster, "a", "red");
        let mut expected =
            vec![(round.to_owned(), "ADDED"), ("a".into(), "MODIFIED"), ("a".into(), "MODIFIED")];
        let mut of_reds = vec![(round.to_owned(), "ADDED"), ("a".into(), "DELETED"), ("a".into(), "ADDED")];
        if cluster.api.delete("configmaps", "default", "gone").is_some() {
            expected.push(("gone".into(), "DELETED"));
            of_reds.push(("gone".into(), "DELETED"));
        }
        for stream in &mut streams {
            assert_eq!(rest(stream).await, [], "nothing comes while the link is down, and nothing ends");
        }
        mend(&cluster).await;
        for (n, stream) in streams.iter_mut().enumerate() {
            let expected = if n == 2 { &of_reds } else { &expected };
            for (name, kind) in expected {
                let event = stream.next_change(SOON).await.unwrap();
                assert_eq!((event.name(), event.kind.as_str()), (name.as_str(), *kind), "stream {n}");
            }
            assert_eq!(rest(stream).await, [], "stream {n}: once is enough");
        }
        assert!(back > 0);
    }
    assert_eq!(upstream_watches(&cluster, MAPS), 2, "one of each representation");
}

/// P4: the cloud forgets its history during the outage: the difference is told, nothing twice.
#[tokio::test]
async fn a_compacted_history_is_bridged_by_a_list() {
    let cluster = online().await;
    for name in ["a", "another", "b", "gone"] {
        put(&cluster, name, "red");
    }
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (list, _) = informer(&client, MAPS, JSON).await;
    let from = version(&list.json());
    let mut stream = watch(&client, &format!("resourceVersion={from}&allowWatchBookmarks=true")).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    cut(&cluster).await;
    for name in ["another", "gone"] {
        cluster.api.delete("configmaps", "default", name);
    }
    put(&cluster, "a", "blue");
    put(&cluster, "another", "blue");
    put(&cluster, "new", "red");
    let last = put(&cluster, "short-lived", "red");
    cluster.api.delete("configmaps", "default", "short-lived");
    cluster.api.compact();
    mend(&cluster).await;
    let (mut seen, mut newest) = (BTreeMap::<_, Vec<_>>::new(), from);
    for _ in 0..5 {
        let (kind, name, _, version) = change(&mut stream).await;
        assert!(version >= newest, "{name} {version} after {newest}");
        newest = version;
        seen.entry(name).or_default().push(kind);
    }
    let expected: [(&str, &[&str]); 4] = [
        ("a", &["MODIFIED"]),
        ("another", &["DELETED", "ADDED"]),
        ("gone", &["DELETED"]),
        ("new", &["ADDED"]),
    ];
    let expected =
        expected.map(|(name, kinds)| (name.to_owned(), kinds.iter().map(ToString::to_string).collect()));
    assert_eq!(seen, expected.into());
    // From the middle of it nobody can go on: the version after it is told at once.
    let end = stream.next_within(SOON).await.unwrap();
    assert!(end.kind == "BOOKMARK" && end.version() > last, "{end:?}");
    let mut again = watch(&client, &format!("resourceVersion={}", end.version())).await;
    assert_eq!(rest(&mut again).await, []);
    assert_eq!(rest(&mut stream).await, []);
}

/// P4: a difference of many objects of which a client sees only the last.
#[tokio::test]
async fn a_change_behind_many_of_others_is_told() {
    let cluster = online().await;
    let everywhere = reader(&cluster, "ann", &["configmaps"]);
    let (list, _live) = informer(&everywhere, "/api/v1/configmaps", JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let mine = "/api/v1/configmaps?watch=true&fieldSelector=metadata.namespace%3Ddefault";
    let query = format!("{mine}&resourceVersion={}", version(&list.json()));
    let mut stream = everywhere.watch(&query, JSON).await.unwrap();
    cut(&cluster).await;
    for number in 0..150 {
        cluster.api.create(objects::config_map("kube-system", &format!("other-{number}"), &[]));
    }
    let last = put(&cluster, "mine", "red");
    cluster.api.compact();
    mend(&cluster).await;
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "mine".into(), "red".into(), last));
}

/// P4: who was at the cloud until now is ahead of the hub: nothing that it knows is told, nothing that is older, and
/// what it misses is told or said to be missed.
#[tokio::test]
async fn who_is_ahead_of_the_hub_is_never_led_back() {
    for compacted in [false, true] {
        let cluster = online().await;
        put(&cluster, "a", "red");
        let client = reader(&cluster, "ann", &["configmaps"]);
        let (_, mut live) = informer(&client, MAPS, JSON).await;
        until_collection(&cluster, &["configmaps"], "live").await;
        cut(&cluster).await;
        put(&cluster, "a", "blue");
        let ahead = put(&cluster, "soon-gone", "red");
        let query = format!("resourceVersion={ahead}&allowWatchBookmarks=true&timeoutSeconds=3");
        let mut short = watch(&client, &query).await;
        let mut stream = watch(&client, &format!("resourceVersion={ahead}")).await;
        let told = short.next().await.unwrap();
        assert!(told.is_none(), "{told:?} is not newer than {ahead}");
        let gone = version(&cluster.api.delete("configmaps", "default", "soon-gone").expect("it was there"));
        if compacted {
            cluster.api.compact();
        }
        mend(&cluster).await;
        if compacted {
            // Only a list tells the hub of the change, and nobody of what came and went before it.
            let told = stream.next_change(SOON).await.unwrap();
            assert_eq!((told.kind.as_str(), &told.object["code"]), ("ERROR", &json!(410)));
            assert_eq!(change(&mut live).await.1, "a");
        } else {
            assert_eq!(change(&mut stream).await, ("DELETED".into(), "soon-gone".into(), "red".into(), gone));
        }
        let last = put(&cluster, "a", "green");
        if !compacted {
            assert_eq!(change(&mut stream).await, ("MODIFIED".into(), "a".into(), "green".into(), last));
        }
        let stale = client.get(&format!("{MAPS}?watch=true&resourceVersion={ahead}&timeoutSeconds=1")).await;
        assert_eq!(stale.unwrap().text().contains("410"), compacted);
    }
}

/// P4: while upstream refuses the hub's watch, clients are the cloud's; the list of one is what the hub goes on from.
#[tokio::test]
async fn a_collection_that_cannot_be_followed_takes_over_what_clients_list() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, mut live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let fault = Fault::Fail(404, "NotFound");
    let refused = cluster.api.fault(fault, |_, path| path.starts_with(MAPS) && path.contains("watch=true"));
    cluster.api.end_watches();
    until_collection(&cluster, &["configmaps"], "frozen").await;
    put(&cluster, "soon-gone", "red");
    cluster.api.compact();
    let list = client.get(MAPS).await.unwrap().expect(200).json();
    assert_eq!(change(&mut live).await.1, "soon-gone", "the list of another client is news");
    cluster.api.remove_fault(refused);
    let mut stream = watch(&client, &format!("resourceVersion={}", version(&list))).await;
    cluster.api.delete("configmaps", "default", "soon-gone");
    for stream in [&mut stream, &mut live] {
        let (kind, name, ..) = change(stream).await;
        assert_eq!((kind.as_str(), name.as_str()), ("DELETED", "soon-gone"));
    }
    until_collection(&cluster, &["configmaps"], "live").await;
    // It had no need to list.
    until_metric(&cluster, "upstream_lists_total", |lists| lists == 0).await;
}

/// P4, P10: kill -9 of the hub, with and without the link: a client goes on from the version that it has.
#[tokio::test]
async fn a_client_goes_on_after_a_crash_of_the_hub() {
    let mut cluster = online().await;
    put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    let seen = put(&cluster, "b", "red");
    assert_eq!(change(&mut stream).await.3, seen);
    cluster.hub.kill().await;
    let missed = put(&cluster, "c", "red");
    cluster.hub.start().await;
    let client = cluster.client(yurt_testkit::client::Protocol::Http2).timeout(SOON).token("ann-token");
    until_link(&cluster, "Online").await;
    let mut stream = watch(&client, &format!("resourceVersion={seen}")).await;
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "c".into(), "red".into(), missed));
    until_collection(&cluster, &["configmaps"], "live").await;
    cluster.relay.refuse().await;
    cluster.hub.crash_and_restart().await;
    let mut stream = watch(&client, &format!("resourceVersion={missed}&allowWatchBookmarks=true")).await;
    assert_eq!(rest(&mut stream).await, []);
    let newer = put(&cluster, "d", "red");
    mend(&cluster).await;
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "d".into(), "red".into(), newer));
    assert_eq!(rest(&mut stream).await, []);
}

/// P4: a client that comes back after the hub's restart with a version of long before gets what it has missed, each
/// object once, also what went and what left its selection; with the link and without; and then what comes.
#[tokio::test]
async fn a_history_outlives_the_hub() {
    let mut cluster = online().await;
    for name in ["a", "again", "gone", "same"] {
        put(&cluster, name, "red");
    }
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (list, mut live) = informer(&client, MAPS, JSON).await;
    let (_, mut proto) = informer(&client, MAPS, PROTOBUF).await;
    until_collection(&cluster, &["configmaps", "json"], "live").await;
    until_collection(&cluster, &["configmaps", "protobuf"], "live").await;
    let from = version(&decoded(&list));
    put(&cluster, "a", "green");
    let blue = put(&cluster, "a", "blue");
    cluster.api.delete("configmaps", "default", "gone");
    cluster.api.delete("configmaps", "default", "again");
    put(&cluster, "again", "red");
    put(&cluster, "short", "red");
    cluster.api.delete("configmaps", "default", "short");
    let last = put(&cluster, "new", "red");
    for stream in [&mut live, &mut proto] {
        while change(stream).await.3 < last {}
    }
    cut(&cluster).await;
    for away in [true, false] {
        if !away {
            mend(&cluster).await;
        }
        cluster.hub.crash_and_restart().await;
        if !away {
            until_link(&cluster, "Online").await;
        }
        let client = caller(&cluster, "ann");
        let upstream = upstream_watches(&cluster, MAPS);
        for accept in [JSON, PROTOBUF] {
            let open = async |query: &str| {
                client.watch(&format!("{MAPS}?watch=true&resourceVersion={query}"), accept).await.unwrap()
            };
            let mut all = open(&from.to_string()).await;
            let mut seen = rest(&mut all).await;
            seen.sort();
            let event = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
            let expected = [
                event("ADDED", "again"),
                event("ADDED", "new"),
                event("DELETED", "again"),
                event("DELETED", "gone"),
                event("MODIFIED", "a"),
            ];
            assert_eq!(seen, expected, "away: {away}, {accept}");
            let mut reds = open(&format!("{from}&labelSelector=color%3Dred")).await;
            let left = change(&mut reds).await;
            assert_eq!(left, ("DELETED".into(), "a".into(), "red".into(), blue), "as the client knows it");
            let mut seen = rest(&mut reds).await;
            seen.sort();
            assert_eq!(seen, expected[..4], "away: {away}, {accept}");
            let mut later = open(&blue.to_string()).await;
            let seen: Vec<_> = rest(&mut later).await.into_iter().map(|e| e.1).collect();
            assert!(!seen.contains(&"a".to_owned()) && seen.len() == 4, "{seen:?}");
            let mut gone = open("1").await;
            let told = gone.next_within(SOON).await.unwrap();
            assert_eq!(told.object["code"], 410, "the history has a beginning");
        }
        assert!(upstream_watches(&cluster, MAPS) <= upstream + 2, "no client costs the cloud a watch");
    }
    let client = caller(&cluster, "ann");
    let mut stream = watch(&client, &format!("resourceVersion={last}")).await;
    let newer = put(&cluster, "newer", "red");
    assert_eq!(change(&mut stream).await, ("ADDED".into(), "newer".into(), "red".into(), newer));
    assert_eq!(rest(&mut stream).await, []);
}

/// A watch that only the cloud can serve ends with the link: its client must be able to notice.
#[tokio::test]
async fn a_watch_of_the_clouds_ends_with_the_link() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let table = format!("{TABLE},application/json");
    let mut stream = client.watch(&format!("{MAPS}?watch=true&resourceVersion=0"), &table).await.unwrap();
    assert_eq!(change(&mut stream).await.0, "ADDED");
    cluster.relay.hold();
    let ended = async { while matches!(stream.next().await, Ok(Some(_))) {} };
    within("the stream ends", Duration::from_secs(8), ended).await;
}

/// Watchers of a collection that nobody may keep any more are sent away to ask for themselves.
#[tokio::test]
async fn watchers_are_not_left_behind_when_the_last_credential_goes() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    cluster.api.disallow("ann");
    cluster.api.end_watches();
    let ended = async { while matches!(stream.next().await, Ok(Some(_))) {} };
    within("the stream ends", SOON, ended).await;
    let again = client.get(&format!("{MAPS}?watch=true&timeoutSeconds=1")).await.unwrap();
    assert_eq!(again.code(), 403, "{}", again.text());
}

/// P4: a list of every namespace that nobody watches is kept, too, and has no credential to be kept up to date with. A
/// watch of one namespace from its version hears what happens, and is not told to list again.
#[tokio::test]
async fn a_watch_of_one_namespace_goes_on_from_a_list_of_all() {
    let cluster = online().await;
    let client = reader(&cluster, "ann", &["configmaps"]);
    let list = client.get_as("/api/v1/configmaps?labelSelector=color", JSON).await.unwrap().expect(200);
    until_collection(&cluster, &["configmaps", "color"], "snapshot").await;
    let from = version(&decoded(&list));
    put(&cluster, "a", "red");
    let query = format!("labelSelector=color&allowWatchBookmarks=true&resourceVersion={from}");
    let mut stream = watch(&client, &query).await;
    assert_eq!(change(&mut stream).await.1, "a");
    put(&cluster, "b", "red");
    assert_eq!(rest(&mut stream).await, [("ADDED".to_owned(), "b".to_owned())]);
}

/// P9: watches that go at a client's pace leave room for everything else, and an apiserver's limit of
/// 100 streams a connection (`k8s.io/apiserver/pkg/server/secure_serving.go`) is no limit of the node's.
#[tokio::test]
async fn many_watches_leave_room_for_requests() {
    let cluster = online().await;
    let client = reader(&cluster, "ann", &["configmaps"]);
    let table = format!("{TABLE},application/json");
    let mut passed = Vec::new();
    for _ in 0..40 {
        passed.push(client.watch(&format!("{MAPS}?watch=true&resourceVersion=0"), &table).await.unwrap());
    }
    let mut informers = Vec::new();
    for n in 0..130 {
        let path = format!("{MAPS}?fieldSelector=metadata.name%3Dmap-{n}");
        let begun = informer(&client, &path, JSON);
        informers.push(within("an informer begins", Duration::from_secs(5), begun).await.1);
    }
    for missing in ["x", "y"] {
        let path = format!("{MAPS}/{missing}");
        within("a plain answer", Duration::from_secs(2), client.get(&path)).await.unwrap().expect(404);
    }
    for n in [0, 64, 129] {
        put(&cluster, &format!("map-{n}"), "red");
        assert_eq!(change(&mut informers[n]).await.1, format!("map-{n}"));
    }
    assert_eq!(rest(&mut informers[1]).await, []);
}

/// The old form of a watch of one object shows that object only.
#[tokio::test]
async fn a_legacy_watch_of_a_name_is_of_that_name() {
    let cluster = online().await;
    put(&cluster, "a", "red");
    put(&cluster, "b", "red");
    let client = reader(&cluster, "ann", &["configmaps"]);
    let (_, _live) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let mut stream = client.watch("/api/v1/watch/namespaces/default/configmaps/b", JSON).await.unwrap();
    assert_eq!(change(&mut stream).await.1, "b");
    put(&cluster, "a", "blue");
    let last = put(&cluster, "b", "blue");
    assert_eq!(change(&mut stream).await, ("MODIFIED".into(), "b".into(), "blue".into(), last));
}
