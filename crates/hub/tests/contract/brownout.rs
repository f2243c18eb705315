//! Brown-out: the cloud is there, more or less. What is held is answered in time and marked as what it is, nothing
//! half is kept, and what is not held waits for the cloud or is told why not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use yurt_testkit::apiserver::{Apiserver, Fault, Principal, Rule};
use yurt_testkit::client::{Answer, Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// What is held of the maps; one is the cluster's own.
const HELD: [&str; 4] = ["a", "b", "c", "kube-root-ca.crt"];
/// No read of what is held waits longer than 2 s (design, section 12); the rest is this machine's noise.
const READ_BOUND: Duration = Duration::from_millis(2400);

/// A node that holds maps, which nobody watches, and their reader, who may read secrets, too.
async fn held() -> (Cluster, Client) {
    let cluster = online().await;
    let value = "v".repeat(200);
    for name in ["a", "b", "c"] {
        cluster.api.create(objects::config_map("default", name, &[("k", &value)]));
    }
    let client = reader(&cluster, "ann", &["configmaps", "secrets"]);
    client.get(MAPS).await.unwrap().expect(200);
    client.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    until_metric(&cluster, "being_kept", |n| n == 0).await;
    (cluster, client)
}

async fn timed(client: &Client, path: &str) -> (Answer, Duration) {
    let begun = Instant::now();
    let answer = client.get(path).await.unwrap_or_else(|e| panic!("{path}: {e:#}"));
    (answer, begun.elapsed())
}

/// Answered by the view in time, and marked as that.
#[track_caller]
fn from_the_view((answer, took): &(Answer, Duration), what: &str) {
    assert_eq!(answer.code(), 200, "{what}: {}", answer.text());
    assert!(source(answer).starts_with("cache; reason="), "{what}: {}", source(answer));
    assert!(!answer.header("age").is_empty() && answer.header("warning").starts_with("299"), "{what}");
    assert!(*took < READ_BOUND, "{what}: {took:?}");
}

async fn until_online(cluster: &Cluster) {
    until_link(cluster, "Online").await;
}

/// Whatever becomes of an answer: the list and the object that are held are answered from the view.
#[tokio::test]
async fn what_is_held_is_answered_in_time() {
    let (cluster, client) = held().await;
    let faults = [
        Fault::SlowFirstByte(Duration::from_secs(30)),
        Fault::SlowBody(10, Duration::from_millis(500)),
        Fault::CutBody(100),
        Fault::Silence,
        Fault::Html,
        Fault::Empty(502),
        Fault::Empty(503),
        Fault::Empty(504),
        Fault::Fail(503, "ServiceUnavailable"),
    ];
    for fault in faults {
        let id = cluster.api.fault(fault.clone(), |_, path| path.contains("configmaps"));
        for path in [MAPS.to_owned(), format!("{MAPS}/a")] {
            let answer = timed(&client, &path).await;
            from_the_view(&answer, &format!("{fault:?} {path}"));
            match path == MAPS {
                true => assert_eq!(names(&answer.0), HELD, "{fault:?}"),
                false => assert_eq!(answer.0.json()["metadata"]["name"], "a", "{fault:?}"),
            }
        }
        cluster.api.remove_fault(id);
        until_online(&cluster).await;
        let whole = client.get(MAPS).await.unwrap().expect(200);
        assert_eq!((source(&whole), names(&whole).len()), ("cloud", HELD.len()), "{fault:?}");
    }
}

/// A live collection is what is held, too; kubectl's tables as well.
#[tokio::test]
async fn what_is_watched_is_answered_in_time() {
    let (cluster, client) = held().await;
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    for fault in [Fault::SlowBody(10, Duration::from_millis(500)), Fault::CutBody(100)] {
        let id = cluster.api.fault(fault.clone(), |_, path| path.contains("configmaps"));
        from_the_view(&timed(&client, MAPS).await, &format!("{fault:?}"));
        let begun = Instant::now();
        let table = client.get_as(MAPS, TABLE).await.unwrap();
        from_the_view(&(table, begun.elapsed()), &format!("table {fault:?}"));
        cluster.api.remove_fault(id);
        until_online(&cluster).await;
    }
}

/// P2: what is not held is never made up. It waits for a slow cloud, and hears of a broken one.
#[tokio::test]
async fn what_is_not_held_waits_or_is_told() {
    let (cluster, client) = held().await;
    cluster.api.create(objects::config_map("other", "x", &[("k", "v")]));
    let others = "/api/v1/namespaces/other/configmaps";
    let slow =
        [Fault::SlowFirstByte(Duration::from_secs(3)), Fault::SlowBody(100, Duration::from_millis(500))];
    for fault in slow {
        let id = cluster.api.fault(fault.clone(), |_, path| path.contains("secrets"));
        let answer = client.get(SECRETS).await.unwrap().expect(200);
        assert_eq!((source(&answer), names(&answer).len()), ("cloud", 0), "{fault:?}");
        cluster.api.remove_fault(id);
        until_online(&cluster).await;
    }
    for fault in [Fault::Html, Fault::Empty(502), Fault::Empty(504), Fault::CutBody(10)] {
        let id = cluster.api.fault(fault.clone(), |_, path| path.contains("other"));
        for path in [others.to_owned(), format!("{others}/x")] {
            match client.get(&path).await {
                // Of a list the client has the beginning, and sees that it is no more.
                Err(error) => assert!(matches!(fault, Fault::CutBody(_)), "{fault:?} {path}: {error:#}"),
                Ok(answer) => {
                    assert_eq!((answer.code(), answer.header("retry-after")), (503, "1"), "{fault:?} {path}");
                    assert_eq!(answer.json()["reason"], "ServiceUnavailable", "{fault:?} {path}");
                }
            }
        }
        cluster.api.remove_fault(id);
        until_online(&cluster).await;
    }
    // The API's own words pass.
    cluster.api.fault_times(1, Fault::Fail(503, "ServiceUnavailable"), |_, path| path.contains("other"));
    assert!(client.get(others).await.unwrap().text().contains("testkit: ServiceUnavailable"));
}

/// P3: a body that cannot be read passes as it came, is counted, and leaves what is held as it was.
#[tokio::test]
async fn what_cannot_be_read_passes_and_is_not_kept() {
    let (cluster, client) = held().await;
    cluster.api.fault(Fault::ShortBody(150), |_, path| path.contains("configmaps") || path.contains("apis"));
    for path in [MAPS.to_owned(), format!("{MAPS}/a"), "/apis".to_owned()] {
        let broken = client.get(&path).await.unwrap().expect(200);
        assert_eq!((source(&broken), broken.body.len()), ("cloud", 150), "{path}");
    }
    until_metric(&cluster, "undecodable_bodies_total", |n| n == 3).await;
    cut(&cluster).await;
    assert_eq!(names(&client.get(MAPS).await.unwrap().expect(200)), HELD);
    let a = client.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    assert_eq!(a.json()["data"]["k"].as_str().unwrap().len(), 200);
    not_held(&client.get("/apis").await.unwrap(), "half a document");
}

/// The cloud's own "too many" passes with its Retry-After; reflectors come back not before it.
#[tokio::test]
async fn too_many_requests_is_the_clouds_word() {
    let (cluster, client) = held().await;
    cluster.api.fault(Fault::TooManyRequests(7), |method, path| method == "GET" && path.starts_with(MAPS));
    let answer = client.get(MAPS).await.unwrap();
    assert_eq!((answer.code(), answer.header("retry-after"), source(&answer)), (429, "7", "cloud"));
    assert_eq!(answer.json()["reason"], "TooManyRequests");
    let version = client.get_as(&format!("{MAPS}?resourceVersion=0"), JSON).await.unwrap();
    assert_eq!(version.code(), 429, "a list that nobody follows is not of now");
    assert_eq!(status(&cluster).await["connectivity"]["state"], json!("Online"));
    cluster.api.heal();
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let watches = || cluster.api.audit().count(|e| e.path == MAPS && e.query.contains("watch=true"));
    let before = watches();
    cluster.api.fault(Fault::TooManyRequests(4), |_, path| path.starts_with(MAPS) && path.contains("watch"));
    cluster.api.end_watches();
    eventually("it is refused", async || watches() > before).await;
    let refused = Instant::now();
    cluster.api.heal();
    eventually("it comes back", async || watches() > before + 1).await;
    assert!(refused.elapsed() > Duration::from_millis(3500), "after {:?}", refused.elapsed());
    until_collection(&cluster, &["configmaps"], "live").await;
}

/// A captive portal with a certificate of its own, and one that answers 200 to all; then the real one again.
#[tokio::test]
async fn a_portal_is_no_cloud() {
    let (cluster, client) = held().await;
    let portal = Apiserver::start().await;
    portal.add_token("ann-token", Principal::user("ann", &["system:masters"]));
    cluster.relay.retarget(portal.addr());
    cluster.relay.reset();
    for _ in 0..3 {
        from_the_view(&timed(&client, MAPS).await, "another CA");
    }
    until_link(&cluster, "Offline").await;
    let said = status(&cluster).await["connectivity"]["trouble"].to_string();
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(portal.audit().entries().len(), 0, "no credential is shown to it");
    cluster.relay.retarget(cluster.api.addr());
    until_online(&cluster).await;
    let id = cluster.api.fault_all(Fault::Html);
    for _ in 0..3 {
        from_the_view(&timed(&client, MAPS).await, "HTML with 200");
    }
    cluster.api.remove_fault(id);
    until_online(&cluster).await;
    assert_eq!(source(&client.get(MAPS).await.unwrap().expect(200)), "cloud");
}

/// A proxy that takes every connection and says nothing, not even a TLS handshake.
#[tokio::test]
async fn a_mute_proxy_is_no_cloud() {
    let (cluster, client) = held().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.relay.retarget(mute.local_addr().unwrap());
    let since = Instant::now();
    cluster.relay.reset();
    let accepting = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = mute.accept().await {
            taken.push(stream);
        }
    });
    from_the_view(&timed(&client, MAPS).await, "mute");
    until_link(&cluster, "Offline").await;
    assert!(since.elapsed() < Duration::from_millis(5500), "{:?}", since.elapsed());
    from_the_view(&timed(&client, MAPS).await, "mute, and known");
    cluster.relay.retarget(cluster.api.addr());
    cluster.relay.reset();
    until_online(&cluster).await;
    accepting.abort();
}

/// A name that nobody knows is a lost link like any other: what is held is served from the first moment on.
#[tokio::test]
async fn a_name_that_is_not_known_is_no_cloud() {
    let (mut cluster, _client) = held().await;
    cluster.hub.stop().await;
    let right = cluster.hub.options.servers.clone();
    cluster.hub.options.servers = "https://apiserver.yurt.invalid:6443".into();
    cluster.hub.start().await;
    let client = cluster.client(Protocol::Http2).token("ann-token").timeout(SOON);
    from_the_view(&timed(&client, MAPS).await, "no name");
    let what = format!("{SECRETS}/none");
    // Until the name has been looked up it is "later".
    eventually("never granted, never held: 403", async || client.get(&what).await.unwrap().code() == 403)
        .await;
    cluster.hub.stop().await;
    cluster.hub.options.servers = right;
    cluster.hub.start().await;
    until_online(&cluster).await;
}

/// Half-open: what stands is dead and nobody says so (a NAT forgot it), what is new works.
#[tokio::test]
async fn half_open_connections_are_found_and_made_anew() {
    let (cluster, client) = held().await;
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    cluster.relay.strand();
    let since = Instant::now();
    from_the_view(&timed(&client, MAPS).await, "half-open");
    cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!("new"));
    assert_eq!(stream.next_change(SOON).await.unwrap().object["data"]["k"], "new");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    until_online(&cluster).await;
    assert_eq!(source(&client.get(MAPS).await.unwrap().expect(200)), "cloud");
}

/// A write waits for its answer, and is not told success without one.
#[tokio::test]
async fn a_write_is_never_answered_by_a_portal() {
    let (cluster, _client) = held().await;
    cluster.api.allow(Rule::allow("ann", "create", "", "configmaps"));
    let client = caller(&cluster, "ann");
    let body = Bytes::from(objects::config_map("default", "new", &[("k", "v")]).to_string());
    for fault in [Fault::Html, Fault::Empty(502), Fault::CutBody(10)] {
        let id = cluster.api.fault(fault.clone(), |method, _| method == "POST");
        let answer = client.send(Method::POST, MAPS, JSON, body.clone()).await;
        assert!(answer.is_err() || answer.is_ok_and(|a| a.code() >= 500), "{fault:?}");
        cluster.api.remove_fault(id);
        until_online(&cluster).await;
        cluster.api.delete("configmaps", "default", "new");
    }
}

/// A start in a brown-out answers from the store at once.
#[tokio::test]
async fn a_start_in_a_brown_out_answers_from_the_store() {
    let (mut cluster, _client) = held().await;
    cluster.api.fault_all(Fault::SlowFirstByte(Duration::from_secs(20)));
    cluster.hub.crash_and_restart().await;
    let client = cluster.client(Protocol::Http2).token("ann-token").timeout(SOON);
    from_the_view(&timed(&client, MAPS).await, "a start");
}
