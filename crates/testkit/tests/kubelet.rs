//! The kubelet-like client against the simulated apiserver, directly and over the relay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::json;
use yurt_testkit::{
    apiserver::Apiserver,
    kubelet::{Kubelet, KubeletOptions},
    objects,
    relay::Relay,
};

const SOON: Duration = Duration::from_secs(10);
const NODE: &str = "edge-1";

fn options(api: &Apiserver, server: &str) -> KubeletOptions {
    let mut options = KubeletOptions::new(NODE, server, api.pki().ca_pem(), &api.pki().node(NODE));
    options.backoff = Duration::from_millis(20);
    options.backoff_max = Duration::from_millis(100);
    options.lease_interval = Duration::from_millis(100);
    options
}

fn create_pods(api: &Apiserver, count: usize) {
    for n in 0..count {
        for object in objects::pod_with_volumes("default", &format!("web-{n}"), NODE) {
            api.create(object);
        }
    }
}

#[tokio::test]
async fn it_registers_and_runs_its_pods_in_either_encoding() {
    for json in [false, true] {
        let api = Apiserver::start().await;
        create_pods(&api, 3);
        let mut kubelet = Kubelet::new(KubeletOptions { json, ..options(&api, &api.url()) });
        kubelet.boot();
        kubelet.wait_registered(SOON).await.unwrap();
        kubelet.wait_running(3, SOON).await.unwrap();
        kubelet.wait_reported(SOON).await.unwrap();
        let pod = api.get("pods", "default", "web-0").unwrap();
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["podIP"], kubelet.pods()[0].address.as_str());
        let node = api.get("nodes", "", NODE).unwrap();
        assert_eq!(node["status"]["nodeInfo"]["bootID"], "boot-1");
        let renewed =
            |e: &yurt_testkit::apiserver::Entry| e.method == "PUT" && e.path.ends_with("/leases/edge-1");
        while api.audit().count(renewed) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(api.audit().count(|e| e.status == 406 || e.status >= 500), 0);
        assert!(!json || api.audit().count(|e| e.accept.contains("protobuf")) == 0);
    }
}

#[tokio::test]
async fn a_deleted_pod_is_ended_and_removed() {
    let api = Apiserver::start().await;
    create_pods(&api, 2);
    let mut kubelet = Kubelet::new(options(&api, &api.url()));
    kubelet.boot();
    kubelet.wait_running(2, SOON).await.unwrap();
    let admin = yurt_testkit::client::Client::new(
        &api.url(),
        api.pki().ca_pem(),
        Some(&api.pki().admin()),
        yurt_testkit::client::Protocol::Http2,
    );
    admin.delete("/api/v1/namespaces/default/pods/web-0", &json!(null)).await.unwrap().expect(200);
    kubelet.wait(SOON, |pods| pods.len() == 1).await.unwrap();
    assert!(!api.exists("pods", "default", "web-0"));
}

#[tokio::test]
async fn it_survives_power_cuts_and_a_broken_link() {
    let api = Apiserver::start().await;
    create_pods(&api, 2);
    let relay = Relay::start(api.addr()).await;
    let mut kubelet = Kubelet::new(options(&api, &relay.url()));
    kubelet.boot();
    kubelet.wait_running(2, SOON).await.unwrap();
    let first = kubelet.pods();
    kubelet.power_cut();
    relay.refuse().await;
    kubelet.boot();
    kubelet.wait_running(1, Duration::from_millis(200)).await.expect_err("no pods without a server");
    assert!(!kubelet.record().failures().is_empty());
    relay.heal();
    kubelet.wait_running(2, SOON).await.unwrap();
    assert_eq!(kubelet.pods()[0].uid, first[0].uid);
    assert_ne!(kubelet.pods()[0].address, first[0].address);
    relay.reset();
    api.create(objects::pod("default", "late", NODE));
    api.create(objects::secret("default", "late-secret", &[]));
    api.create(objects::config_map("default", "late-config", &[("mode", "x")]));
    kubelet.wait_running(3, SOON).await.unwrap();
    assert!(kubelet.record().watch_restarts() > 0);
}
