//! Pools: what they give to their nodes, what they count, and their guard.

use serde_json::{Value, json};

use crate::bed::{Bed, POOL, until};

fn pool(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "apps.openyurt.io/v1beta2", "kind": "NodePool", "metadata": {"name": name}, "spec": spec})
}

fn status(bed: &Bed, pool: &str) -> Value {
    bed.api.get("nodepools.apps.openyurt.io", "", pool).unwrap()["status"].clone()
}

fn cut(bed: &Bed, pool: &str) -> Option<String> {
    Bed::condition(&bed.api.get("nodepools.apps.openyurt.io", "", pool).unwrap(), "Cut")
}

/// A pool of so many nodes, each with a pod of its name; no node is autonomous by itself.
async fn prepared(nodes: usize, spec: Value) -> (Bed, crate::bed::Manager, Vec<String>) {
    let bed = Bed::new().await;
    bed.api.create(pool("shop", spec));
    let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
    for name in &names {
        bed.node_in(name, "shop");
        bed.pod(name, name, None);
    }
    let manager = bed.manager(&[]).await;
    bed.pass(&manager, 5).await;
    bed.until(&manager, "the first status", || status(&bed, "shop")["readyNodeNum"] == nodes).await;
    (bed, manager, names)
}

#[tokio::test]
async fn nodes_are_given_what_their_pool_has_and_it_is_put_right() {
    let bed = Bed::new().await;
    bed.api.create(pool(
        "shop",
        json!({
            "type": "Edge", "labels": {"site": "a"}, "annotations": {"owner": "x"},
            "taints": [{"key": "edge", "value": "1", "effect": "NoSchedule"}],
        }),
    ));
    bed.node_in("n", "shop");
    let manager = bed.manager(&[]).await;
    let has = |label: &str| bed.node_now("n")["metadata"]["labels"][label].as_str().map(str::to_owned);
    until("labels", || has("site").as_deref() == Some("a")).await;
    until("taints", || bed.node_now("n")["spec"]["taints"][0]["key"] == "edge").await;
    assert_eq!(bed.node_now("n")["metadata"]["annotations"]["owner"], "x");
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["labels"]["site"] = "b".into());
    until("drift", || has("site").as_deref() == Some("a")).await;
    bed.until(&manager, "the count", || status(&bed, "shop")["nodes"] == json!(["n"])).await;
    bed.api.modify("nodes", "", "n", |n| drop(n["metadata"]["labels"].as_object_mut().unwrap().remove(POOL)));
    until("it has left", || has("site").is_none()).await;
    until("no taints", || bed.node_now("n")["spec"]["taints"].as_array().is_none_or(Vec::is_empty)).await;
    bed.pass(&manager, 5).await;
    bed.until(&manager, "the count", || status(&bed, "shop")["nodes"] == json!([])).await;
    manager.stop().await;
}

#[tokio::test]
async fn one_silent_node_of_a_healthy_pool_is_judged_by_its_own_word() {
    let (bed, manager, names) = prepared(4, json!({})).await;
    bed.give_up(&names[0]);
    bed.pass(&manager, 60).await;
    bed.until(&manager, "the count", || status(&bed, "shop")["disconnectedNodeNum"] == 1).await;
    assert_eq!(bed.mark(&names[0]), None);
    assert_eq!(cut(&bed, "shop"), None);
    manager.stop().await;
}

#[tokio::test]
async fn a_pool_that_falls_silent_as_a_whole_is_left_alone_until_its_maximum() {
    let spec = json!({"autonomy": {"duration": "1m", "guard": {"maxDuration": "1h"}}});
    let (bed, manager, names) = prepared(3, spec).await;
    names.iter().for_each(|n| bed.give_up(n));
    bed.pass(&manager, 10).await;
    bed.until(&manager, "cut", || cut(&bed, "shop").as_deref() == Some("True")).await;
    bed.until(&manager, "marks", || names.iter().all(|n| bed.mark(n).is_some())).await;
    until("no timers", || names.iter().all(|n| bed.tolerates(n) == [None, None])).await;
    bed.pass(&manager, 600).await;
    let alive = |pod: &str| bed.pod_now(pod)["metadata"]["deletionTimestamp"].is_null();
    assert!(names.iter().all(|n| alive(n)), "ten times its own duration");
    // Two come back: the third is judged by its own duration, from now on.
    for name in &names[1..] {
        bed.wake(name);
        bed.accept(name);
    }
    bed.pass(&manager, 15).await;
    bed.until(&manager, "healed", || cut(&bed, "shop").as_deref() == Some("False")).await;
    bed.pass(&manager, 35).await;
    assert!(alive(&names[0]), "its minute has only begun");
    bed.pass(&manager, 40).await;
    until("it is dead", || !alive(&names[0])).await;
    assert!(alive(&names[1]) && alive(&names[2]));
    until("events", || bed.told("shop") == ["PoolCut", "PoolHealed"]).await;
    manager.stop().await;
}

#[tokio::test]
async fn the_maximum_of_a_cut_pool_is_an_end() {
    let spec = json!({"autonomy": {"guard": {"maxDuration": "5m"}}});
    let (bed, manager, names) = prepared(2, spec).await;
    names.iter().for_each(|n| bed.give_up(n));
    bed.pass(&manager, 10).await;
    bed.until(&manager, "marks", || names.iter().all(|n| bed.mark(n).is_some())).await;
    bed.pass(&manager, 330).await;
    until("emptied", || names.iter().all(|n| bed.pod_now(n)["metadata"]["deletionTimestamp"].is_string()))
        .await;
    manager.stop().await;
}

#[tokio::test]
async fn the_hubs_word_is_counted_and_told() {
    let (bed, manager, names) = prepared(2, json!({})).await;
    let say = |node: &str, status: &str| {
        bed.api.modify("nodes", "", node, |n| {
            let condition = json!({
                "type": "Autonomy", "status": status, "reason": "CacheIncomplete",
                "lastTransitionTime": "2023-11-14T22:13:20Z",
            });
            n["status"]["conditions"].as_array_mut().unwrap().push(condition);
        });
    };
    say(&names[0], "True");
    say(&names[1], "False");
    bed.pass(&manager, 5).await;
    bed.until(&manager, "the count", || status(&bed, "shop")["autonomousNodeNum"] == 1).await;
    until("events", || bed.told(&names[1]) == ["NotReadyForAutonomy"]).await;
    assert!(bed.told(&names[0]).is_empty());
    assert!(manager.context.metrics.page().contains("autonomy_nodes{status=\"True\"} 1"));
    manager.stop().await;
}

#[tokio::test]
async fn a_node_that_moves_to_another_pool_has_what_that_one_gives() {
    let bed = Bed::new().await;
    let taint = |value: &str| json!([{"key": "site", "value": value, "effect": "NoSchedule"}]);
    bed.api.create(pool("shop", json!({"labels": {"site": "shop", "till": "1"}, "taints": taint("shop")})));
    bed.api.create(pool("ship", json!({"labels": {"site": "ship"}, "taints": taint("ship")})));
    bed.node_in("n", "shop");
    let manager = bed.manager(&[]).await;
    let site = || bed.node_now("n")["metadata"]["labels"]["site"].clone();
    let tainted = || bed.node_now("n")["spec"]["taints"].clone();
    until("the first pool's", || site() == "shop" && tainted() == taint("shop")).await;
    bed.give_up("n");
    bed.pass(&manager, 45).await;
    bed.api.modify("nodes", "", "n", |n| n["metadata"]["labels"][POOL] = "ship".into());
    until("the second pool's", || site() == "ship").await;
    until("no label of the first", || bed.node_now("n")["metadata"]["labels"]["till"].is_null()).await;
    let taints = tainted();
    let values: Vec<&Value> = taints.as_array().unwrap().iter().filter(|t| t["key"] == "site").collect();
    assert_eq!(values.iter().map(|t| &t["value"]).collect::<Vec<_>>(), ["ship"], "{taints}");
    manager.stop().await;
}

#[tokio::test]
async fn a_pool_that_is_deleted_in_mid_outage_protects_nobody_and_takes_back_what_it_gave() {
    let spec = json!({"labels": {"site": "a"}, "taints": [{"key": "edge", "effect": "NoSchedule"}]});
    let (bed, manager, names) = prepared(2, spec).await;
    bed.node("alone", &[("node.openyurt.io/autonomy-duration", "1h")]);
    bed.pod("alone", "alone", None);
    bed.api.modify("nodes", "", "alone", |n| n["metadata"]["labels"][POOL] = "shop".into());
    bed.pass(&manager, 5).await;
    let all = [names[0].as_str(), names[1].as_str(), "alone"];
    all.iter().for_each(|n| bed.give_up(n));
    bed.pass(&manager, 45).await;
    bed.until(&manager, "marks", || all.iter().all(|n| bed.mark(n).is_some())).await;
    bed.api.delete("nodepools.apps.openyurt.io", "", "shop");
    bed.until(&manager, "no marks without a pool", || names.iter().all(|n| bed.mark(n).is_none())).await;
    assert!(bed.mark("alone").is_some(), "it is autonomous by itself");
    until("no timers without an end", || names.iter().all(|n| bed.tolerates(n) == [Some(300), Some(300)]))
        .await;
    let bare = |node: &&str| {
        let node = bed.node_now(node);
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        node["metadata"]["labels"]["site"].is_null() && taints.iter().all(|t| t["key"] != "edge")
    };
    bed.until(&manager, "bare nodes", || all.iter().all(bare)).await;
    manager.stop().await;
}
