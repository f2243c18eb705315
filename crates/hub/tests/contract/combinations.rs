//! Lists offline by every combination of version, match, limit, token and selector, held against what a real apiserver
//! answers (`crates/testkit/tests/conformance/combinations.txt`).

use serde_json::{Value, json};
use yurt_testkit::client::Client;
use yurt_testkit::objects;

use crate::bed::*;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const TRUTH: &str = include_str!("../../../testkit/tests/conformance/combinations.txt");

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

async fn token(client: &Client, selector: &str) -> String {
    let page = client.get(&format!("{SECRETS}?limit=1&labelSelector={selector}")).await.unwrap().expect(200);
    page.json()["metadata"]["continue"].as_str().unwrap().to_owned()
}

/// P4: the hub answers each of them as the apiserver does, by its own tokens and by those of the cloud. A state that is
/// gone is 410, as it is in the cloud after some minutes.
#[tokio::test]
async fn lists_offline_answer_every_combination_as_an_apiserver() {
    let cluster = online().await;
    let mut old = 0;
    for name in ["a", "b", "c"] {
        let mut secret = objects::secret("default", name, &[]);
        secret["metadata"]["labels"] = json!({"all": "yes"});
        let made = version(&cluster.api.create(secret));
        old = if old == 0 { made } else { old };
    }
    let ann = reader(&cluster, "ann", &["secrets"]);
    let now = version(&ann.get(SECRETS).await.unwrap().expect(200).json());
    let clouds = [token(&ann, "").await, token(&ann, "all").await];
    cut(&cluster).await;
    let own = [token(&ann, "").await, token(&ann, "all").await];
    for (whose, tokens) in [("the cloud's", clouds), ("its own", own)] {
        for line in TRUTH.lines() {
            let (asked, expected) = read(line);
            let get = |name: &str| asked.iter().find(|(n, _)| *n == name).unwrap().1;
            let version = match get("version") {
                "now" => now.to_string(),
                "old" => old.to_string(),
                other => other.to_owned(),
            };
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
