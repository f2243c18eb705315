//! Lists by every combination of version, match, limit, token and selector, watches by every combination of version,
//! match, initial events and bookmarks. `list_combinations.txt` and `watch_combinations.txt` have what a real apiserver
//! answers: code, then names, whether a list goes on and how much is left, or what a watch tells in its first seconds, or
//! the reason of a refusal.

use std::fmt::Write;

use serde_json::{Value, json};
use yurt_testkit::combinations::{events, number};

use crate::{Bench, names, version};

const VERSIONS: [&str; 4] = ["", "0", "now", "old"];
const MATCHES: [&str; 3] = ["", "Exact", "NotOlderThan"];
/// "none" leaves the parameter out.
const LIMITS: [&str; 6] = ["none", "", "0", "2", "3", "-1"];

pub async fn lists_answer_every_combination(b: &Bench) {
    let (old, now) = secrets(b).await;
    let mut seen = String::new();
    for selector in ["", "all"] {
        let first = b.get(&b.path(&format!("secrets?limit=1&labelSelector={selector}"))).await;
        let token = first["metadata"]["continue"].as_str().unwrap();
        for (asked, matched, limit, goes_on) in combinations() {
            let version = number(asked, old, now);
            let token = if goes_on { token } else { "" };
            let limited = if limit == "none" { String::new() } else { format!("&limit={limit}") };
            let query = format!(
                "resourceVersion={version}&resourceVersionMatch={matched}{limited}&continue={token}&labelSelector={selector}"
            );
            let answer = b.client.get(&b.path(&format!("secrets?{query}"))).await.unwrap();
            writeln!(
                seen,
                "version={asked} match={matched} limit={limit} continue={goes_on} selector={selector}: {} {}",
                answer.code(),
                told(&answer.json())
            )
            .unwrap();
        }
    }
    assert_eq!(seen, include_str!("list_combinations.txt"), "all of it:\n{seen}");
}

pub async fn watches_answer_every_combination(b: &Bench) {
    let (old, now) = secrets(b).await;
    let each = watch_combinations().map(async |(asked, matched, initial, bookmarks)| {
        let initial_events = if initial == "none" { String::new() } else { format!("&sendInitialEvents={initial}") };
        let query = format!(
            "watch=true&timeoutSeconds=2&resourceVersion={}&resourceVersionMatch={matched}{initial_events}&allowWatchBookmarks={bookmarks}",
            number(asked, old, now)
        );
        let answer = b.client.get(&b.path(&format!("secrets?{query}"))).await.unwrap();
        let code = answer.code();
        let told = if code == 200 { events(&answer.text()) } else { told(&answer.json()) };
        format!("version={asked} match={matched} initial={initial} bookmarks={bookmarks}: {code} {told}\n")
    });
    let seen = futures_util::future::join_all(each).await.concat();
    assert_eq!(seen, include_str!("watch_combinations.txt"), "all of it:\n{seen}");
}

/// Three secrets; the version of the first, and that of all.
async fn secrets(b: &Bench) -> (u64, u64) {
    let mut old = 0;
    for name in ["a", "b", "c"] {
        let metadata = json!({"name": name, "namespace": b.namespace, "labels": {"all": "yes"}});
        let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata});
        let made = b.client.post(&b.path("secrets"), &secret).await.unwrap().expect(201).json();
        old = if old == 0 { version(&made) } else { old };
    }
    (old, version(&b.get(&b.path("secrets")).await))
}

fn watch_combinations() -> impl Iterator<Item = (&'static str, &'static str, &'static str, bool)> {
    VERSIONS.into_iter().flat_map(|version| {
        MATCHES.into_iter().flat_map(move |matched| {
            let initials = ["none", "true", "false"].into_iter();
            initials.flat_map(move |initial| {
                [false, true].map(|bookmarks| (version, matched, initial, bookmarks))
            })
        })
    })
}

fn combinations() -> impl Iterator<Item = (&'static str, &'static str, &'static str, bool)> {
    VERSIONS.into_iter().flat_map(|version| {
        MATCHES.into_iter().flat_map(move |matched| {
            LIMITS
                .into_iter()
                .flat_map(move |limit| [false, true].map(|goes_on| (version, matched, limit, goes_on)))
        })
    })
}

fn told(answer: &Value) -> String {
    if answer["kind"] == "Status" {
        return answer["reason"].as_str().unwrap_or_default().to_owned();
    }
    let meta = &answer["metadata"];
    let more = if meta["continue"].as_str().is_some_and(|c| !c.is_empty()) { " ..." } else { "" };
    let left = meta["remainingItemCount"].as_u64().map(|n| format!(" {n}")).unwrap_or_default();
    format!("[{}]{more}{left}", names(answer).join(" "))
}
