//! Lists in pages: what the pages of one caller make up is held as a whole, and nothing less ever is.

use serde_json::{Value, json};
use yurt_testkit::apiserver::Fault;
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// With the one that every namespace has.
const ALL: [&str; 6] = ["a", "b", "c", "d", "e", "kube-root-ca.crt"];

fn maps(cluster: &Cluster) {
    for name in &ALL[..5] {
        cluster.api.create(objects::config_map("default", name, &[("key", "1")]));
    }
}

async fn page(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().expect(200).json()
}

fn token(page: &Value) -> &str {
    page["metadata"]["continue"].as_str().unwrap_or_default()
}

/// What client-go's pager does: pages by its limit, the version only on the first, and the whole list when a token
/// has expired. Returns names, and how many requests it took.
async fn pager(client: &Client, query: &str, limit: usize, accept: &str) -> (Vec<String>, usize) {
    let first = format!("{MAPS}?limit={limit}&{query}");
    let (mut all, mut path) = (Vec::new(), first);
    for requests in 1..20 {
        let answer = client.get_as(&path, accept).await.unwrap();
        if answer.code() == 410 {
            assert_eq!(answer.json()["reason"], "Expired");
            all.clear();
            path = format!("{MAPS}?{query}");
            continue;
        }
        let answer = answer.expect(200);
        all.extend(names(&answer));
        match token(&decoded(&answer)) {
            "" => return (all, requests),
            token => path = format!("{MAPS}?limit={limit}&continue={token}"),
        }
    }
    panic!("the pager does not come to an end");
}

/// The bed of a test: a node, its maps, and a caller that may read them.
async fn begun() -> (Cluster, Client) {
    let cluster = online().await;
    maps(&cluster);
    let client = reader(&cluster, "ann", &["configmaps"]);
    (cluster, client)
}

/// P1, P3: a client that pages online finds all of it offline, whatever the size of its pages then.
#[tokio::test]
async fn a_pager_finds_offline_what_it_read_online() {
    for accept in [JSON, PROTOBUF] {
        let (mut cluster, client) = begun().await;
        assert_eq!(
            pager(&client, "resourceVersionMatch=NotOlderThan&resourceVersion=1", 2, accept).await.1,
            3
        );
        cut(&cluster).await;
        for restarted in [false, true] {
            if restarted {
                cluster.hub.crash_and_restart().await;
            }
            let client = caller(&cluster, "ann");
            // A list of any version knows no limit, as in the apiserver's watch cache.
            let cases =
                [(1, "", 6), (4, "", 2), (500, "", 1), (2, "resourceVersion=0", 1), (6, "labelSelector=", 1)];
            for (limit, query, pages) in cases {
                let (held, requests) = pager(&client, query, limit, accept).await;
                assert_eq!(
                    (held.as_slice(), requests),
                    (&ALL.map(str::to_owned)[..], pages),
                    "{limit} {query}"
                );
            }
        }
    }
}

/// P3: pages of two callers, of two lists, of two versions, in a wrong order, or with an error between: not a list.
#[tokio::test]
async fn only_pages_that_belong_together_are_joined() {
    let (cluster, client) = begun().await;
    let other = reader(&cluster, "eve", &["configmaps"]);
    let first = page(&client, &format!("{MAPS}?limit=4")).await;
    let rest = format!("{MAPS}?limit=4&continue={}", token(&first));
    // Somebody else goes on.
    assert_eq!(names(&other.get(&rest).await.unwrap().expect(200)), ["e", "kube-root-ca.crt"]);
    // The cloud has lost the token, as after a compaction; then it answers after all.
    let expired = Fault::Fail(410, "Expired");
    cluster.api.fault_times(1, expired, |_, path| path.contains("continue"));
    assert_eq!(client.get(&rest).await.unwrap().code(), 410);
    client.get(&rest).await.unwrap().expect(200);
    // Another selection under the same token.
    page(&client, &format!("{MAPS}?limit=4")).await;
    client.get(&format!("{rest}&labelSelector=x%21%3Dy")).await.unwrap();
    // The last page alone, twice.
    let lonely = format!("{MAPS}?limit=5");
    let last = format!("{lonely}&continue={}", token(&page(&other, &lonely).await));
    for _ in 0..2 {
        client.get(&last).await.unwrap().expect(200);
    }
    cut(&cluster).await;
    not_held(&client.get(MAPS).await.unwrap(), "no list was read to its end by one caller");
    assert_eq!(collections(&status(&cluster).await, &["configmaps"]), Vec::<Value>::new());
}

/// A page that had to be asked for twice does no harm: too many requests, a connection that broke.
#[tokio::test]
async fn a_page_may_be_asked_for_again() {
    let (cluster, client) = begun().await;
    let mut path = format!("{MAPS}?limit=2");
    for fault in [Fault::TooManyRequests(0), Fault::CutBody(120), Fault::TooManyRequests(0)] {
        cluster.api.fault_times(1, fault, |_, path| path.starts_with(MAPS));
        if let Ok(answer) = client.get(&path).await {
            assert_ne!(answer.code(), 200, "{}", answer.text());
        }
        until_link(&cluster, "Online").await;
        let read = page(&client, &path).await;
        path = format!("{MAPS}?limit=2&continue={}", token(&read));
    }
    cut(&cluster).await;
    assert_eq!(names(&client.get(MAPS).await.unwrap().expect(200)), ALL);
}

/// A client in the middle of its pages when the link goes: it goes on where the very state is held, otherwise it starts
/// again (client-go does so by itself after 410), or goes on in another state by the token that it is given.
#[tokio::test]
async fn a_token_of_the_clouds_is_good_for_the_state_that_it_names() {
    let (cluster, client) = begun().await;
    let path = format!("{MAPS}?limit=4");
    let old = page(&client, &path).await;
    cluster.api.modify("configmaps", "default", "e", |o| o["data"]["key"] = json!("2"));
    let first = page(&client, &path).await;
    client.get(MAPS).await.unwrap().expect(200);
    cut(&cluster).await;
    let rest = page(&client, &format!("{path}&continue={}", token(&first))).await;
    assert_eq!((names_of(&rest), version(&rest)), (vec!["e", "kube-root-ca.crt"], version(&first)));
    let next = client.get(&format!("{path}&continue={}", token(&old))).await.unwrap();
    let status = next.json();
    assert_eq!((next.code(), &status["reason"], &status["kind"]), (410, &json!("Expired"), &json!("Status")));
    assert!(status["message"].as_str().unwrap().starts_with("The provided continue parameter is too old"));
    let rest = page(&client, &format!("{path}&continue={}", token(&status))).await;
    assert_eq!((names_of(&rest), version(&rest)), (vec!["e", "kube-root-ca.crt"], version(&first)));
    let (all, _) = pager(&client, "", 4, JSON).await;
    assert_eq!(all, ALL);
    // A page of the store's goes on in the cloud, which has that version, too.
    let first = page(&client, &path).await;
    mend(&cluster).await;
    let rest = client.get(&format!("{path}&continue={}", token(&first))).await.unwrap().expect(200);
    assert_eq!((names(&rest), source(&rest)), (vec!["e".to_owned(), "kube-root-ca.crt".into()], "cloud"));
}

fn names_of(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

/// P3: the pages of a list are of one version, whatever the node writes between them; the numbers say how much is
/// left; and once that version cannot be shown any more, the client hears of it.
#[tokio::test]
async fn pages_offline_are_of_one_version() {
    let mut cluster = with_pods().await;
    for name in ["x-1", "x-2"] {
        cluster.api.create(objects::pod("default", name, NODE));
    }
    let kubelet = node(&cluster);
    let (_, _live) = informer(&kubelet, OWN_PODS, JSON).await;
    until_collection(&cluster, &["pods", "json"], "live").await;
    cut(&cluster).await;
    report(&kubelet, "web", "Running").await;
    let all = names(&kubelet.get(OWN_PODS).await.unwrap().expect(200));
    assert_eq!(all.len(), 4);
    let path = format!("{OWN_PODS}&limit=1");
    let first = page(&kubelet, &path).await;
    let mut seen: Vec<String> = names_of(&first).into_iter().map(str::to_owned).collect();
    assert!(first["metadata"].get("remainingItemCount").is_none(), "a selector leaves it open: {first}");
    let mut next = token(&first).to_owned();
    while !next.is_empty() {
        for name in ["web", "x-1", "x-2"] {
            report(&kubelet, name, "Failed").await;
        }
        let more = page(&kubelet, &format!("{path}&continue={next}")).await;
        assert_eq!(version(&more), version(&first));
        let phase = &more["items"][0]["status"]["phase"];
        let expected = if names_of(&more) == ["web"] { "Running" } else { "Pending" };
        assert_eq!(phase, expected, "{more:#}");
        seen.extend(names_of(&more).into_iter().map(str::to_owned));
        next = token(&more).to_owned();
    }
    assert_eq!(seen, all);
    let first = page(&kubelet, &path).await;
    let again = format!("{path}&continue={}", token(&first));
    // What a crash leaves is the newest view; an older one is gone with the process.
    cluster.hub.crash_and_restart().await;
    let kubelet = node(&cluster);
    assert_eq!(version(&page(&kubelet, &again).await), version(&first));
    report(&kubelet, "web", "Running").await;
    cluster.hub.crash_and_restart().await;
    let kubelet = node(&cluster);
    let expired = kubelet.get(&again).await.unwrap().expect(410).json();
    let rest = page(&kubelet, &format!("{OWN_PODS}&continue={}", token(&expired))).await;
    assert_eq!(names_of(&rest), all[1..]);
    // A version of the node's own means nothing to the cloud.
    let first = page(&kubelet, &path).await;
    mend(&cluster).await;
    let expired = kubelet.get(&format!("{path}&continue={}", token(&first))).await.unwrap().expect(410);
    assert!(!token(&expired.json()).is_empty());
    let rest = page(&kubelet, &format!("{OWN_PODS}&continue={}", token(&expired.json()))).await;
    assert_eq!(names_of(&rest), all[1..]);
}

/// The count of what is left, of lists without a selector only: in one namespace and in all.
#[tokio::test]
async fn what_is_left_is_counted() {
    let (cluster, client) = begun().await;
    cluster.api.create(objects::config_map("default-2", "a", &[("key", "1")]));
    let everywhere = "/api/v1/configmaps";
    let all = names(&client.get(everywhere).await.unwrap().expect(200)).len();
    cut(&cluster).await;
    for (path, count) in [(MAPS, ALL.len()), (everywhere, all)] {
        for accept in [JSON, PROTOBUF] {
            let first = client.get_as(&format!("{path}?limit=2"), accept).await.unwrap().expect(200);
            let first = decoded(&first);
            assert_eq!(first["metadata"]["remainingItemCount"], json!(count - 2), "{path} {accept}");
            let next = format!("{path}?limit=500&continue={}", token(&first));
            let rest = decoded(&client.get_as(&next, accept).await.unwrap().expect(200));
            assert_eq!(names_of(&rest).len(), count - 2);
            assert!(token(&rest).is_empty() && rest["metadata"].get("remainingItemCount").is_none());
        }
    }
}

/// P1: kubectl reads tables in pages; when it has gone on to the second the hub reads all of them beside.
#[tokio::test]
async fn tables_in_pages_are_kept_when_the_client_goes_on() {
    let (cluster, client) = begun().await;
    let table = async |path: &str| client.get_as(path, KUBECTL).await.unwrap().expect(200).json();
    let beside = || cluster.api.audit().count(|e| e.accept == JSON && e.path.starts_with(MAPS) && e.finished);
    let path = format!("{MAPS}?limit=2");
    let first = table(&path).await;
    eventually("the first page is read beside", async || beside() == 1).await;
    // What changes between makes no difference: the tokens are of another version than the tables.
    cluster.api.modify("configmaps", "default", "e", |o| o["data"]["key"] = json!("2"));
    let second = table(&format!("{path}&continue={}", token(&first))).await;
    until_collection(&cluster, &["configmaps"], "snapshot").await;
    let third = table(&format!("{path}&continue={}", token(&second))).await;
    assert_eq!(token(&third), "");
    let read = beside();
    assert!(read <= 5, "{read} reads for three pages");
    cut(&cluster).await;
    let (mut seen, mut next) = (Vec::new(), path.clone());
    for left in [4, 2, 0] {
        let held = table(&next).await;
        let row = |row: &Value| row["cells"][0].as_str().unwrap().to_owned();
        seen.extend(held["rows"].as_array().unwrap().iter().map(row));
        assert_eq!(held["metadata"]["remainingItemCount"].as_u64().unwrap_or(0), left, "{held:#}");
        next = format!("{path}&continue={}", token(&held));
    }
    assert_eq!(seen, ALL);
}
