//! Lists and watches offline by every combination of their parameters, held against what a real apiserver answers
//! (`crates/testkit/tests/conformance/*_combinations.txt`).

use serde_json::{Value, json};
use yurt_testkit::client::Client;
use yurt_testkit::cluster::Cluster;
use yurt_testkit::combinations::{events, number};
use yurt_testkit::objects;

use crate::bed::*;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const LISTS: &str = include_str!("../../../testkit/tests/conformance/list_combinations.txt");
const WATCHES: &str = include_str!("../../../testkit/tests/conformance/watch_combinations.txt");

fn told(answer: &Value) -> String {
    if answer["kind"] == "Status" {
        return answer["reason"].as_str().unwrap_or_default().to_owned();
    }
    let meta = &answer["metadata"];
    let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    let more = if meta["continue"].as_str().is_some_and(|c| !c.is_empty()) { " ..." } else { "" };
    let left = meta["remainingItemCount"].as_u64().map(|n| format!(" {n}")).unwrap_or_default();
    format!("[{}]{more}{left}", names.join(" "))
}

/// What a line of the truth asks, as name and value; and what is expected.
fn read(line: &str) -> (Vec<(&str, &str)>, &str) {
    let (asked, expected) = line.split_once(": ").unwrap();
    (asked.split(' ').map(|pair| pair.split_once('=').unwrap()).collect(), expected)
}

/// A node and a reader of three secrets; the version of the first of them, and that of the list. Followed, the list was
/// held before the second came.
async fn begun(followed: bool) -> (Cluster, Client, u64, u64) {
    let cluster = online().await;
    let ann = reader(&cluster, "ann", &["secrets"]);
    let secret = |name: &str| {
        let mut secret = objects::secret("default", name, &[]);
        secret["metadata"]["labels"] = json!({"all": "yes"});
        version(&cluster.api.create(secret))
    };
    let old = secret("a");
    let mut following = None;
    if followed {
        following = Some(informer(&ann, SECRETS, JSON).await.1);
        until_collection(&cluster, &["secrets"], "live").await;
    }
    secret("b");
    let now = secret("c");
    if let Some(stream) = &mut following {
        for name in ["b", "c"] {
            assert_eq!(stream.next_change(SOON).await.unwrap().name(), name);
        }
    }
    let listed = version(&ann.get(SECRETS).await.unwrap().expect(200).json());
    (cluster, ann, old, listed.max(now))
}

async fn token(client: &Client, selector: &str) -> String {
    let page = client.get(&format!("{SECRETS}?limit=1&labelSelector={selector}")).await.unwrap().expect(200);
    page.json()["metadata"]["continue"].as_str().unwrap().to_owned()
}

/// P4: the hub answers each of them as the apiserver does, by its own tokens and by those of the cloud. A state that is
/// gone is 410, as it is in the cloud after some minutes.
#[tokio::test]
async fn lists_offline_answer_every_combination_as_an_apiserver() {
    let (cluster, ann, old, now) = begun(false).await;
    let clouds = [token(&ann, "").await, token(&ann, "all").await];
    cut(&cluster).await;
    let own = [token(&ann, "").await, token(&ann, "all").await];
    for (whose, tokens) in [("the cloud's", clouds), ("its own", own)] {
        for line in LISTS.lines() {
            let (asked, expected) = read(line);
            let get = |name: &str| asked.iter().find(|(n, _)| *n == name).unwrap().1;
            let version = number(get("version"), old, now);
            let token = match (get("continue"), get("selector")) {
                ("true", "") => &*tokens[0],
                ("true", _) => &*tokens[1],
                _ => "",
            };
            let (matched, limit, selector) = (get("match"), get("limit"), get("selector"));
            let limited = if limit == "none" { String::new() } else { format!("&limit={limit}") };
            let path = format!(
                "{SECRETS}?resourceVersion={version}&resourceVersionMatch={matched}{limited}&continue={token}&labelSelector={selector}"
            );
            let gone = get("version") == "old" && expected == "200 [a]";
            let expected = if gone { "410 Expired" } else { expected };
            for accept in [JSON, PROTOBUF] {
                let answer = ann.get_as(&path, accept).await.unwrap();
                let seen = format!("{} {}", answer.code(), told(&decoded(&answer)));
                assert_eq!(seen, expected, "{accept}, {whose} token: {line}");
            }
        }
    }
}

/// P4: and so does every watch, with the link and without it.
#[tokio::test]
async fn watches_answer_every_combination_as_an_apiserver() {
    let (cluster, ann, old, now) = begun(true).await;
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        let each = WATCHES.lines().map(async |line| {
            let (asked, expected) = read(line);
            let get = |name: &str| asked.iter().find(|(n, _)| *n == name).unwrap().1;
            let initial = match get("initial") {
                "none" => String::new(),
                initial => format!("&sendInitialEvents={initial}"),
            };
            let path = format!(
                "{SECRETS}?watch=true&timeoutSeconds=2&resourceVersion={}&resourceVersionMatch={}{initial}&allowWatchBookmarks={}",
                number(get("version"), old, now),
                get("match"),
                get("bookmarks")
            );
            let answer = ann.get(&path).await.unwrap();
            let told = if answer.code() == 200 { events(&answer.text()) } else { told(&answer.json()) };
            assert_eq!(format!("{} {told}", answer.code()), expected, "away: {away}: {line}");
        });
        futures_util::future::join_all(each).await;
    }
}
