//! The link: however it fails, no held read waits for it, its loss is noticed, and its return too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use yurt_testkit::apiserver::{Fault, Rule};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::STRATEGIC;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// No read of what is held waits longer (design, section 12); the rest is this machine's noise.
const READ_BOUND: Duration = Duration::from_millis(2400);
/// A black hole is noticed within 5 s.
const NOTICED: Duration = Duration::from_millis(5500);

/// A node with a map that is held and watched, and one reader of it.
async fn held() -> (Cluster, Client) {
    let cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "v")]));
    let client = reader(&cluster, "ann", &["configmaps"]);
    client.get(MAPS).await.unwrap().expect(200);
    client.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    (cluster, client)
}

async fn noticed(cluster: &Cluster, since: Instant, bound: Duration, what: &str) {
    until_link(cluster, "Offline").await;
    assert!(since.elapsed() < bound, "{what}: noticed after {:?}", since.elapsed());
}

/// Reads what is held again and again; remembers the longest time that one took.
struct Reader {
    stop: Arc<AtomicBool>,
    slowest: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
}

impl Reader {
    fn start(client: &Client, how_many: usize, pause: Duration) -> Self {
        let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = |_| {
            let (client, stop, slowest) = (client.clone(), stop.clone(), slowest.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    client.get(MAPS).await.unwrap().expect(200);
                    slowest.fetch_max(u64::try_from(begun.elapsed().as_millis()).unwrap(), Ordering::Relaxed);
                    done += 1;
                    tokio::time::sleep(pause).await;
                }
                done
            })
        };
        let tasks = (0..how_many).map(one).collect();
        Self { stop, slowest, tasks }
    }

    /// Every read was answered with 200, none late.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert!(task.await.expect("every read is answered") > 0);
        }
        let slowest = Duration::from_millis(self.slowest.load(Ordering::Relaxed));
        assert!(slowest < READ_BOUND, "a read took {slowest:?}");
    }
}

#[tokio::test]
async fn a_refused_link_is_noticed_at_once() {
    let (cluster, client) = held().await;
    let readers = Reader::start(&client, 2, Duration::from_millis(20));
    let since = Instant::now();
    cluster.relay.refuse().await;
    noticed(&cluster, since, Duration::from_secs(2), "refused").await;
    mend(&cluster).await;
    readers.end().await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_when_nothing_is_asked() {
    let (cluster, _client) = held().await;
    let since = Instant::now();
    cluster.relay.hold();
    noticed(&cluster, since, NOTICED, "idle").await;
    mend(&cluster).await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_under_load() {
    let (cluster, client) = held().await;
    let readers = Reader::start(&client, 12, Duration::from_millis(10));
    let since = Instant::now();
    cluster.relay.hold();
    noticed(&cluster, since, NOTICED, "busy").await;
    mend(&cluster).await;
    readers.end().await;
}

/// Whatever answers in the apiserver's place: reads go on, and the cloud is found again.
#[tokio::test]
async fn what_is_no_apiserver_is_no_link() {
    let (cluster, client) = held().await;
    for fault in [Fault::Html, Fault::Empty(502), Fault::Silence] {
        let readers = Reader::start(&client, 1, Duration::from_millis(20));
        let id = cluster.api.fault_all(fault.clone());
        noticed(&cluster, Instant::now(), NOTICED, &format!("{fault:?}")).await;
        cluster.api.remove_fault(id);
        until_link(&cluster, "Online").await;
        readers.end().await;
    }
}

/// One slow path is no lost link: what is held is answered in time, what is not waits for the cloud.
#[tokio::test]
async fn a_slow_answer_is_not_a_lost_link() {
    let (cluster, client) = held().await;
    cluster.api.allow(Rule::allow("ann", "list", "", "secrets"));
    let slow = |_: &str, path: &str| path.contains("configmaps") || path.contains("secrets");
    cluster.api.fault(Fault::SlowFirstByte(Duration::from_secs(3)), slow);
    let begun = Instant::now();
    let answer = client.get(MAPS).await.unwrap().expect(200);
    assert!(begun.elapsed() < READ_BOUND, "{:?}", begun.elapsed());
    assert!(source(&answer).contains("reason=slow"), "{}", source(&answer));
    assert!(answer.header("warning").starts_with("299"), "a consistent read says that it is not");
    let waited = client.get(SECRETS).await.unwrap().expect(200);
    assert_eq!((names(&waited).len(), source(&waited)), (0, "cloud"));
    until_link(&cluster, "Online").await;
}

/// A link over a satellite is slow, and a link all the same.
#[tokio::test]
async fn a_link_with_long_round_trips_is_a_link() {
    let (cluster, client) = held().await;
    cluster.api.allow(Rule::allow("ann", "list", "", "secrets"));
    cut(&cluster).await;
    cluster.relay.delay(Duration::from_millis(400), Duration::from_millis(400));
    mend(&cluster).await;
    let answer = client.get(SECRETS).await.unwrap().expect(200);
    assert_eq!(source(&answer), "cloud");
}

/// A round trip of more than a second, twice over a satellite: the bounds grow with it, and the link stays.
#[tokio::test]
async fn a_link_with_very_long_round_trips_does_not_flap() {
    let (cluster, client) = held().await;
    cluster.api.allow(Rule::allow("ann", "list", "", "secrets"));
    cut(&cluster).await;
    cluster.relay.delay(Duration::from_millis(650), Duration::from_millis(650));
    cluster.relay.heal();
    within("the link is Online", Duration::from_secs(40), until_link_slowly(&cluster, "Online")).await;
    let since = status(&cluster).await["connectivity"]["since"].clone();
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    for n in 0..4 {
        // Idle and busy: pings, answers that are slow enough to be doubted, events.
        let answer = client.get(SECRETS).await.unwrap().expect(200);
        assert_eq!(source(&answer), "cloud", "{n}");
        cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!(n.to_string()));
        while stream.next_change(SOON).await.unwrap().object["data"]["k"] != json!(n.to_string()) {}
        tokio::time::sleep(Duration::from_millis(1700)).await;
    }
    let link = status(&cluster).await;
    assert_ne!(link["connectivity"]["state"], "Offline");
    let log = cluster.hub.log();
    let lost =
        log.lines().filter(|l| l.contains("connectivity changed") && l.contains("to=\"Offline\"")).count();
    assert_eq!(lost, 1, "the cut, and nothing after it; it was {since}");
    assert!(link["servers"][0]["roundTripMs"].as_u64() >= Some(1000), "{}", link["servers"]);
}

async fn until_link_slowly(cluster: &Cluster, wanted: &str) {
    while status(cluster).await["connectivity"]["state"] != wanted {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// 256 kbit/s for everything: the first list of 110 pods comes whole and is kept, watches run, writes come home, and
/// the link that is merely full is not taken for a lost one.
#[tokio::test]
async fn a_very_slow_link_makes_progress() {
    let cluster = online().await;
    let filler = "x".repeat(2000);
    for n in 0..110 {
        let mut pod = objects::pod("default", &format!("pod-{n:03}"), NODE);
        pod["metadata"]["annotations"]["filler"] = json!(filler);
        cluster.api.create(pod);
    }
    cut(&cluster).await;
    cluster.relay.rate(32_000);
    cluster.relay.heal();
    // The recovery itself reads the node's pods: 300 KB.
    within("the link is Online", Duration::from_secs(90), until_link_slowly(&cluster, "Online")).await;
    let kubelet = node(&cluster).timeout(Duration::from_secs(120));
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}");
    let begun = Instant::now();
    // Others use the link at the same time.
    let (first, second) =
        tokio::join!(kubelet.get(&path), kubelet.get("/api/v1/namespaces/default/pods/pod-007"));
    let first = first.unwrap().expect(200);
    assert_eq!(names(&first).len(), 110);
    assert!(begun.elapsed() > Duration::from_secs(5), "the link was not slow: {:?}", begun.elapsed());
    second.unwrap().expect(200);
    let watch = format!("{path}&watch=true&resourceVersion={}", version(&first.json()));
    let mut stream = kubelet.watch(&watch, JSON).await.unwrap();
    until_collection(&cluster, &["pods"], "live").await;
    cluster.api.modify("pods", "default", "pod-001", |o| o["metadata"]["labels"]["k"] = json!("v"));
    assert_eq!(stream.next_change(SOON).await.unwrap().object["metadata"]["labels"]["k"], "v");
    let lost = |log: &str| {
        log.lines().filter(|l| l.contains("connectivity changed") && l.contains("to=\"Offline\"")).count()
    };
    kubelet.get(&format!("/api/v1/nodes/{NODE}")).await.unwrap().expect(200);
    assert_eq!(lost(&cluster.hub.log()), 1, "the cut, and nothing after it");
    cut(&cluster).await;
    kubelet
        .patch(
            &format!("/api/v1/nodes/{NODE}"),
            STRATEGIC,
            &json!({"metadata": {"labels": {"zone": "west"}}}),
        )
        .await
        .unwrap()
        .expect(200);
    cluster.relay.heal();
    within("home", Duration::from_secs(90), until_link_slowly(&cluster, "Online")).await;
    assert_eq!(cluster.api.get("nodes", "", NODE).unwrap()["metadata"]["labels"]["zone"], "west");
}

/// Connections that break are made again; nobody is told of it.
#[tokio::test]
async fn a_reset_is_not_an_outage() {
    let (cluster, client) = held().await;
    for n in 0..5 {
        cluster.relay.reset();
        client.get(&format!("{MAPS}?labelSelector=n%3D{n}")).await.unwrap().expect(200);
    }
    assert_ne!(status(&cluster).await["connectivity"]["state"], json!("Offline"));
    until_link(&cluster, "Online").await;
}

/// A kind that is gone (its definition was deleted) is the cloud's own word: whoever still asks for it does not make the
/// link doubtful.
#[tokio::test]
async fn a_kind_that_is_gone_is_no_doubt_about_the_link() {
    let (cluster, client) = held().await;
    let (_, _stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let since = status(&cluster).await["connectivity"].clone();
    cluster.api.fault(Fault::Fail(404, "NotFound"), |_, path| path.contains("/configmaps"));
    let before = cluster.api.audit().count(|e| e.path == MAPS);
    cluster.api.end_watches();
    eventually("it was asked for again and again", async || {
        cluster.api.audit().count(|e| e.path == MAPS) >= before + 3
    })
    .await;
    let now = status(&cluster).await["connectivity"].clone();
    assert_eq!((&now["state"], &now["since"]), (&since["state"], &since["since"]));
}

/// Scenario 13: streams stay, nothing is listed anew, nothing is left over.
#[tokio::test]
async fn a_flapping_link_leaves_everything_as_it_was() {
    let (cluster, client) = held().await;
    let (_, mut stream) = informer(&client, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let readers = Reader::start(&client, 1, Duration::from_millis(50));
    let lists =
        || cluster.api.audit().count(|e| e.user_agent.starts_with("yurthub") && !e.watch && e.path == MAPS);
    let before = (lists(), open_files(&cluster));
    for n in 0..10 {
        match n % 2 {
            0 => cluster.relay.refuse().await,
            _ => cluster.relay.hold(),
        }
        tokio::time::sleep(Duration::from_millis(100 + 70 * n)).await;
        cluster.relay.heal();
        cluster.api.modify("configmaps", "default", "a", |o| o["data"]["k"] = json!(n.to_string()));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    until_link(&cluster, "Online").await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("9") {
        let event = stream.next_change(SOON).await.unwrap();
        assert_eq!(event.kind, "MODIFIED");
        seen.push(event.object["data"]["k"].as_str().unwrap().to_owned());
    }
    // A client's own list, in a moment with a link, may bring several changes at once; none comes twice.
    assert!(seen.is_sorted_by(|a, b| a < b), "each change once, in order: {seen:?}");
    readers.end().await;
    assert_eq!(lists(), before.0, "no list was made again");
    eventually("what the flaps opened is closed", async || {
        let now = status(&cluster).await;
        let connections = now["upstreamConnections"].as_u64().unwrap();
        connections <= 4
            && open_files(&cluster) <= before.1 + 2
            && collections(&now, &["configmaps"])[0]["watchers"] == 1
    })
    .await;
}

fn open_files(cluster: &Cluster) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", cluster.hub.pid().unwrap())).unwrap().count()
}

/// P10: a start without a link answers from the disk at once.
#[tokio::test]
async fn a_start_in_a_black_hole_answers_at_once() {
    let (mut cluster, _client) = held().await;
    cluster.relay.hold();
    cluster.hub.kill().await;
    cluster.hub.start().await;
    let begun = Instant::now();
    let client = cluster.client(yurt_testkit::client::Protocol::Http2).token("ann-token");
    client.get(MAPS).await.unwrap().expect(200);
    client.get(&format!("{MAPS}?resourceVersion=0")).await.unwrap().expect(200);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    mend(&cluster).await;
}
