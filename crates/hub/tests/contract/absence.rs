//! P2: what an object's absence may be said from: a collection that was live when the cloud was last heard, never
//! an old list.

use serde_json::json;
use yurt_testkit::objects;

use crate::bed::*;
use crate::kubelet::{NODE_PATH, STRATEGIC};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/services";
const SERVICE: &str = "/api/v1/namespaces/default/services";

/// One `kubectl get` weeks ago says nothing about what came after it.
#[tokio::test]
async fn an_old_list_does_not_say_that_something_does_not_exist() {
    let mut cluster = online().await;
    cluster.api.create(objects::config_map("default", "early", &[]));
    let ann = reader(&cluster, "ann", &["configmaps"]);
    ann.get(MAPS).await.unwrap().expect(200);
    // What the list has and a GET saw before it was deleted is not brought back either.
    cluster.api.create(objects::config_map("default", "gone", &[]));
    ann.get(&format!("{MAPS}/gone")).await.unwrap().expect(200);
    cluster.api.delete("configmaps", "default", "gone");
    let list = ann.get(MAPS).await.unwrap().expect(200);
    ann.get(&format!("{MAPS}/late")).await.unwrap().expect(404);
    ann.get(&format!("{MAPS}/early")).await.unwrap().expect(200);
    cluster.api.create(objects::config_map("default", "late", &[]));
    until_collection(&cluster, &["configmaps"], "snapshot").await;
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let ann = caller(&cluster, "ann");
        for name in ["late", "gone"] {
            not_held(&ann.get(&format!("{MAPS}/{name}")).await.unwrap(), name);
        }
        ann.get(&format!("{MAPS}/early")).await.unwrap().expect(200);
        assert_eq!(names(&ann.get(MAPS).await.unwrap().expect(200)), names(&list));
    }
}

/// What the kubelet and others watched until the link went, says so, also after a restart; the node goes on by it.
#[tokio::test]
async fn what_was_live_when_the_link_went_says_what_does_not_exist() {
    let mut cluster = online().await;
    cluster.api.create(objects::service("default", "web", &[("http", 80)]));
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let (_, _maps) = informer(&ann, MAPS, JSON).await;
    ann.get(&format!("{MAPS}/none")).await.unwrap().expect(404);
    let (_, _services) = informer(&node(&cluster), SERVICES, PROTOBUF).await;
    for resource in ["configmaps", "services"] {
        until_collection(&cluster, &[resource], "live").await;
    }
    cut(&cluster).await;
    for round in ["cut off", "restarted", "restarted again"] {
        if round != "cut off" {
            cluster.hub.crash_and_restart().await;
        }
        let (ann, kubelet) = (caller(&cluster, "ann"), node(&cluster));
        let missing = kubelet.get_as(&format!("{SERVICE}/none"), PROTOBUF).await.unwrap();
        assert_eq!(missing.code(), 404, "{round}");
        kubelet.get_as(&format!("{SERVICE}/web"), PROTOBUF).await.unwrap().expect(200);
        assert_eq!(ann.get(&format!("{MAPS}/none")).await.unwrap().code(), 404, "{round}");
    }
}

/// A client that is gone when the link comes back leaves an old list behind.
#[tokio::test]
async fn what_nobody_takes_up_again_is_an_old_list() {
    let mut cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let (_, maps) = informer(&ann, MAPS, JSON).await;
    ann.get(&format!("{MAPS}/late")).await.unwrap().expect(404);
    until_collection(&cluster, &["configmaps"], "live").await;
    drop(maps);
    cut(&cluster).await;
    cluster.hub.crash_and_restart().await;
    let ann = caller(&cluster, "ann");
    ann.get(&format!("{MAPS}/late")).await.unwrap().expect(404);
    mend(&cluster).await;
    cluster.api.create(objects::config_map("default", "late", &[]));
    // The node's own writes go on meanwhile: the link has come home whole.
    let label = json!({"metadata": {"labels": {"zone": "west"}}});
    node(&cluster).patch(NODE_PATH, STRATEGIC, &label).await.unwrap().expect(200);
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        } else {
            cut(&cluster).await;
        }
        not_held(&caller(&cluster, "ann").get(&format!("{MAPS}/late")).await.unwrap(), "late");
    }
}

/// A cluster that was restored from a backup: what was seen of the time that is gone is not held for ever.
#[tokio::test]
async fn a_list_of_now_takes_the_place_of_one_from_a_time_that_is_gone() {
    let mut cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let backup = cluster.api.snapshot();
    for name in ["lost", "lost-too"] {
        cluster.api.create(objects::config_map("default", name, &[]));
    }
    let before = ann.get(MAPS).await.unwrap().expect(200);
    cluster.api.restore(&backup);
    cluster.api.create(objects::config_map("default", "new", &[]));
    let after = ann.get(MAPS).await.unwrap().expect(200);
    assert!(version(&after.json()) < version(&before.json()), "the versions went back");
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let held = caller(&cluster, "ann").get(MAPS).await.unwrap().expect(200);
        assert_eq!((names(&held), version(&held.json())), (names(&after), version(&after.json())));
    }
}
