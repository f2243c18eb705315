//! P8: nobody gets an identity that it did not present, online or offline, and nothing that proves one
//! is left in the clear.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use yurt_testkit::apiserver::Rule;
use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;
use yurt_testkit::pki::{Pki, Validity};

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn count(cluster: &Cluster, resource: &str, user: &str) -> usize {
    cluster.api.audit().count(|e| e.path.ends_with(resource) && e.user == user)
}

/// A copy of a client for the hub's new life.
fn again(cluster: &Cluster, token: &str) -> Client {
    cluster.client(Protocol::Http2).timeout(SOON).token(token)
}

/// Everybody speaks upstream with its own credential, and who it is is asked once.
#[tokio::test]
async fn tokens_pass_untouched_and_are_asked_about_once() {
    let cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    for _ in 0..3 {
        ann.get(MAPS).await.unwrap().expect(200);
    }
    eventually("the hub has asked who that is", async || {
        count(&cluster, "/tokenreviews", "system:node:edge-1") > 0
    })
    .await;
    let (_, _stream) = informer(&ann, MAPS, JSON).await;
    ann.get(&format!("{MAPS}?resourceVersion=0")).await.unwrap().expect(200);
    assert_eq!(count(&cluster, "/tokenreviews", "system:node:edge-1"), 1);
    assert!(count(&cluster, "/configmaps", "ann") >= 4);
    assert_eq!(
        count(&cluster, "/configmaps", "system:node:edge-1"),
        0,
        "nobody borrowed the node's identity"
    );
    let denied = again(&cluster, "nobody-token").get(MAPS).await.unwrap();
    assert_eq!(denied.code(), 401);
    let anonymous = cluster.client(Protocol::Http2).get(MAPS).await.unwrap();
    assert_eq!(anonymous.code(), 403, "the cloud's own word for nobody");
}

/// What one caller's credential opened is shared only with those that the cloud allows it.
#[tokio::test]
async fn a_shared_collection_asks_for_each_callers_right() {
    let cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "v")]));
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let (_, _stream) = informer(&ann, MAPS, JSON).await;
    until_collection(&cluster, &["configmaps"], "live").await;
    let bob = caller(&cluster, "bob");
    for query in
        ["?resourceVersion=0", "?watch=true&resourceVersion=0&timeoutSeconds=1", "/a?resourceVersion=0", ""]
    {
        let answer = bob.get(&format!("{MAPS}{query}")).await.unwrap();
        assert_eq!(answer.code(), 403, "{query}: {}", answer.text());
    }
    assert_eq!(
        node(&cluster).get(&format!("{MAPS}/a?resourceVersion=0")).await.unwrap().code(),
        403,
        "nor the node"
    );
    let carl = reader(&cluster, "carl", &["configmaps"]);
    carl.get(&format!("{MAPS}/a")).await.unwrap().expect(200);
    eventually("the hub knows who that is", async || {
        let shared = carl.get(&format!("{MAPS}?resourceVersion=0")).await.unwrap().expect(200);
        source(&shared).starts_with("cache")
    })
    .await;
    let (_, _stream) = informer(&carl, MAPS, JSON).await;
    let asked = count(&cluster, "/selfsubjectaccessreviews", "carl");
    assert!((1..=2).contains(&asked), "asked with its own credential, once for each verb: {asked}");
    assert!(cluster.api.open_watches().iter().all(|w| w.user != "carl"), "and then shared");
    assert_eq!(count(&cluster, "/selfsubjectaccessreviews", "system:node:edge-1"), 1);
}

/// A right to one name is a right to that name, also as a selected list (as the apiserver's RequestInfo
/// names it), and to no other.
#[tokio::test]
async fn a_right_to_one_name_opens_one_name() {
    let cluster = online().await;
    for name in ["mine", "other"] {
        cluster.api.create(objects::secret("default", name, &[("k", "dg==")]));
    }
    cluster.api.allow(Rule::allow("ann", "get,list,watch", "", "secrets").within("default").named("mine"));
    let ann = caller(&cluster, "ann");
    let carl = reader(&cluster, "carl", &["secrets"]);
    let (_, _all) = informer(&carl, SECRETS, JSON).await;
    until_collection(&cluster, &["secrets"], "live").await;
    let by_name = |name: &str| format!("{SECRETS}?fieldSelector=metadata.name%3D{name}&resourceVersion=0");
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        let mine = ann.get(&by_name("mine")).await.unwrap().expect(200);
        assert_eq!(names(&mine), ["mine"], "away: {away}");
        ann.get(&format!("{SECRETS}/mine?resourceVersion=0")).await.unwrap().expect(200);
        for path in [by_name("other"), format!("{SECRETS}/other?resourceVersion=0"), SECRETS.to_owned()] {
            let refused = ann.get(&path).await.unwrap();
            assert_eq!(refused.code(), 403, "{path}, away: {away}: {}", refused.text());
        }
    }
}

/// Offline: what was granted is 200, what was not 403, who was never seen 401; after a restart too.
#[tokio::test]
async fn offline_everybody_reads_what_it_was_granted() {
    let mut cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "v")]));
    cluster.api.create(objects::secret("default", "s", &[("k", "dg==")]));
    let ann = reader(&cluster, "ann", &["configmaps"]);
    let carl = reader(&cluster, "carl", &["secrets"]);
    let bob = caller(&cluster, "bob");
    ann.get(MAPS).await.unwrap().expect(200);
    carl.get(SECRETS).await.unwrap().expect(200);
    carl.get(&format!("{SECRETS}/s")).await.unwrap().expect(200);
    bob.get(MAPS).await.unwrap().expect(403);
    bob.get("/version").await.unwrap().expect(200);
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        let [ann, bob, carl, unknown] =
            ["ann-token", "bob-token", "carl-token", "x"].map(|t| again(&cluster, t));
        let asked = async |who: &Client, path: &str| who.get(path).await.unwrap().code();
        let one = format!("{SECRETS}/s");
        assert_eq!(names(&ann.get(MAPS).await.unwrap().expect(200)), ["a", "kube-root-ca.crt"]);
        assert_eq!([asked(&carl, SECRETS).await, asked(&carl, &one).await], [200, 200]);
        assert_eq!(
            [asked(&ann, SECRETS).await, asked(&ann, &one).await, asked(&carl, MAPS).await],
            [403, 403, 403]
        );
        assert_eq!([asked(&bob, MAPS).await, asked(&bob, "/version").await], [403, 200]);
        let watch = format!("{SECRETS}?watch=true&resourceVersion=0&timeoutSeconds=1");
        assert_eq!([asked(&ann, &watch).await, asked(&unknown, &watch).await], [403, 401]);
        for path in [MAPS, SECRETS, "/version", "/api"] {
            assert_eq!(asked(&unknown, path).await, 401, "{path}");
            assert_eq!(
                asked(&cluster.client(Protocol::Http2), path).await,
                401,
                "{path} without any credential"
            );
        }
        let write = ann.put(&format!("{MAPS}/a"), &json!({})).await.unwrap();
        assert_eq!(write.code(), 503, "{}", write.text());
    }
}

/// P1: who has only listed may watch and get offline what the cloud would have let it; who may not, may not.
#[tokio::test]
async fn the_other_verbs_of_a_right_are_asked_for() {
    let mut cluster = online().await;
    cluster.api.create(objects::config_map("default", "a", &[("k", "v")]));
    let ann = reader(&cluster, "ann", &["configmaps"]);
    cluster.api.allow(Rule::allow("bob", "list", "", "configmaps"));
    let bob = caller(&cluster, "bob");
    let asked = |user: &str| count(&cluster, "/selfsubjectaccessreviews", user);
    for (client, user) in [(&ann, "ann"), (&bob, "bob")] {
        // One list: two at once may ask before either has heard.
        client.get(MAPS).await.unwrap().expect(200);
        eventually("both other verbs are asked for", async || asked(user) >= 2).await;
        until_metric(&cluster, "being_kept", |n| n == 0).await;
        client.get(MAPS).await.unwrap().expect(200);
        assert_eq!(asked(user), 2, "and not again, whatever the answer was");
    }
    let watch = format!("{MAPS}?watch=true&resourceVersion=0&timeoutSeconds=1");
    let one = format!("{MAPS}/a");
    cut(&cluster).await;
    cluster.hub.crash_and_restart().await;
    for (token, code) in [("ann-token", 200), ("bob-token", 403)] {
        let client = again(&cluster, token);
        client.get(MAPS).await.unwrap().expect(200);
        for path in [&watch, &one] {
            client.get(path).await.unwrap().expect(code);
        }
    }
    mend(&cluster).await;
    // What came with a right goes with it.
    cluster.api.disallow("ann");
    again(&cluster, "ann-token").get(MAPS).await.unwrap().expect(403);
    eventually("the others are looked at again", async || {
        count(&cluster, "/selfsubjectaccessreviews", "ann") >= 4
    })
    .await;
    cut(&cluster).await;
    eventually("and are gone", async || again(&cluster, "ann-token").get(&one).await.unwrap().code() == 403)
        .await;
    again(&cluster, "ann-token").get(&watch).await.unwrap().expect(403);
}

/// What the cloud took back online is taken back offline.
#[tokio::test]
async fn a_right_that_was_taken_back_is_gone() {
    let mut cluster = online().await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    ann.get(MAPS).await.unwrap().expect(200);
    cluster.api.disallow("ann");
    ann.get(MAPS).await.unwrap().expect(403);
    cut(&cluster).await;
    for restarted in [false, true] {
        if restarted {
            cluster.hub.crash_and_restart().await;
        }
        assert_eq!(
            again(&cluster, "ann-token").get(MAPS).await.unwrap().code(),
            403,
            "restarted: {restarted}"
        );
    }
}

/// The token of a pod that the hub handed out itself is known, though it was never used before the cut.
#[tokio::test]
async fn a_token_that_the_hub_handed_out_is_known_offline() {
    let cluster = online().await;
    cluster.api.create(objects::pod("default", "web", NODE));
    let user = "system:serviceaccount:default:default";
    cluster.api.allow(Rule::allow(user, "get,list,watch", "", "configmaps"));
    let ask = async |audiences: Value| {
        let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
        let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": audiences, "expirationSeconds": 3600}});
        let answer = node(&cluster).post(path, &body).await.unwrap().expect(201).json();
        answer["status"]["token"].as_str().unwrap().to_owned()
    };
    let first = ask(json!([])).await;
    again(&cluster, &first).get(MAPS).await.unwrap().expect(200);
    // The kubelet refreshes it; the pod has not used the new one yet.
    let second = ask(json!([])).await;
    let for_others = ask(json!(["vault"])).await;
    assert_ne!(first, second);
    cut(&cluster).await;
    assert_eq!(again(&cluster, &second).get(MAPS).await.unwrap().code(), 200);
    let misused = again(&cluster, &for_others).get(MAPS).await.unwrap();
    assert_eq!(misused.code(), 401, "a token for somebody else proves nothing here: {}", misused.text());
}

/// Headers make nobody: neither a proxy's, nor impersonation, nor a name in the User-Agent.
#[tokio::test]
async fn headers_lend_no_identity() {
    let cluster = online().await;
    cluster.api.create(objects::secret("default", "s", &[("k", "dg==")]));
    let carl = reader(&cluster, "carl", &["secrets"]);
    let (_, _all) = informer(&carl, SECRETS, JSON).await;
    until_collection(&cluster, &["secrets"], "live").await;
    let ann = reader(&cluster, "ann", &["configmaps"]);
    ann.get(MAPS).await.unwrap().expect(200);
    let forge = |client: &Client| {
        client
            .header("x-remote-user", "carl")
            .header("x-remote-group", "system:masters")
            .header("user-agent", "kubelet/v1.34.4")
            .header("x-forwarded-for", "127.0.0.1")
    };
    let plain = cluster.client(Protocol::Http2);
    // Whoever may impersonate reads as another, and that must not become a right of its own.
    let impersonating = |client: &Client| client.header("impersonate-user", "carl");
    let before = count(&cluster, "/secrets", "carl");
    for path in
        [SECRETS.to_owned(), format!("{SECRETS}?resourceVersion=0"), format!("{SECRETS}/s?resourceVersion=0")]
    {
        assert_eq!(forge(&ann).get(&path).await.unwrap().code(), 403, "{path}");
        assert_eq!(forge(&plain).get(&path).await.unwrap().code(), 403, "{path}");
    }
    let shared = format!("{SECRETS}?resourceVersion=0");
    let answer = impersonating(&carl).get(&shared).await.unwrap();
    assert!(!source(&answer).starts_with("cache"), "only the cloud judges impersonation");
    assert_eq!(count(&cluster, "/secrets", "carl"), before + 1);
    cut(&cluster).await;
    for path in [SECRETS.to_owned(), format!("{SECRETS}/s?resourceVersion=0")] {
        assert_eq!(forge(&ann).get(&path).await.unwrap().code(), 403, "{path}");
        assert_eq!(forge(&plain).get(&path).await.unwrap().code(), 401, "{path}");
        assert_eq!(impersonating(&carl).get(&path).await.unwrap().code(), 403, "{path}");
        assert_eq!(impersonating(&node(&cluster)).get(&path).await.unwrap().code(), 403, "{path}");
    }
    let body = json!({"status": {"phase": "Failed"}});
    let write = impersonating(&node(&cluster))
        .patch("/api/v1/nodes/edge-1/status", "merge-patch", &body)
        .await
        .unwrap();
    assert_eq!(write.code(), 403);
}

/// A certificate is worth what its CA says: the node's own also when it has ended (P7).
#[tokio::test]
async fn certificates_are_the_cas_word() {
    let cluster = online().await;
    let nodes = "/api/v1/nodes/edge-1";
    node(&cluster).get(nodes).await.unwrap().expect(200);
    let other_ca = tempfile::tempdir().unwrap();
    let stranger = Pki::create(other_ca.path()).node(NODE);
    let lasting = Validity::lasting(Duration::from_secs(86_400));
    let another = cluster.api.pki().client("system:node:edge-2", &["system:nodes"], lasting);
    let admin = cluster.api.pki().admin();
    let ended = Validity::expired(Duration::from_secs(86_400));
    let expired = cluster.api.pki().client("system:node:edge-1", &["system:nodes"], ended);
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        let as_certificate = |identity| cluster.hub.client(Some(identity), Protocol::Http2);
        let shown = as_certificate(&stranger).get(nodes).await;
        assert!(shown.is_err() || shown.is_ok_and(|a| matches!(a.code(), 401 | 403)), "away: {away}");
        for other in [&another, &admin] {
            assert_eq!(as_certificate(other).get(nodes).await.unwrap().code(), 403, "away: {away}");
        }
        assert_eq!(as_certificate(&expired).get(nodes).await.unwrap().code(), 200, "away: {away}");
    }
}

/// The node's certificate opens what the node was shown, not what others on it were.
#[tokio::test]
async fn the_node_reads_its_own_part() {
    let cluster = online().await;
    for object in objects::pod_with_volumes("default", "web", NODE) {
        cluster.api.create(object);
    }
    cluster.api.create(objects::secret("default", "foreign", &[("k", "dg==")]));
    cluster.api.create(objects::pod("default", "elsewhere", "edge-2"));
    let carl = reader(&cluster, "carl", &["secrets", "pods"]);
    let (_, _a) = informer(&carl, SECRETS, JSON).await;
    let (_, _b) = informer(&carl, "/api/v1/pods", JSON).await;
    let kubelet = node(&cluster);
    let own = format!("{SECRETS}?fieldSelector=metadata.name%3Dweb-secret");
    let (_, _c) = informer(&kubelet, &own, JSON).await;
    let (_, _d) = informer(&kubelet, "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1", JSON).await;
    for parts in [["secrets", "json"], ["pods", "json"]] {
        until_collection(&cluster, &parts, "live").await;
    }
    let foreign = [
        format!("{SECRETS}/foreign?resourceVersion=0"),
        format!("{SECRETS}?resourceVersion=0"),
        "/api/v1/pods?resourceVersion=0".to_owned(),
        "/api/v1/namespaces/default/pods/elsewhere?resourceVersion=0".to_owned(),
        format!("{SECRETS}?watch=true&resourceVersion=0&timeoutSeconds=1"),
    ];
    for away in [false, true] {
        if away {
            cut(&cluster).await;
        }
        kubelet.get(&format!("{SECRETS}/web-secret?resourceVersion=0")).await.unwrap().expect(200);
        kubelet.get("/api/v1/namespaces/default/pods/web").await.unwrap().expect(200);
        for path in &foreign {
            let answer = kubelet.get(path).await.unwrap();
            assert_eq!(answer.code(), if away { 503 } else { 403 }, "{path}: {}", answer.text());
        }
    }
}

/// No token, no Secret body on the disk or in a log.
#[tokio::test]
async fn nothing_secret_is_left_in_the_clear() {
    let mut cluster = Cluster::prepare(NODE, yurt_testkit::apiserver::Options::default()).await;
    cluster.hub.options.arguments = vec!["--log".into(), "trace".into()];
    cluster.hub.start().await;
    until_link(&cluster, "Online").await;
    let hidden = "dmVyeS1oaWRkZW4tdmFsdWU="; // very-hidden-value
    cluster.api.create(objects::secret("default", "s", &[("k", hidden)]));
    cluster.api.create(objects::pod("default", "web", NODE));
    let carl = reader(&cluster, "carl", &["secrets"]);
    for accept in [JSON, PROTOBUF] {
        let (_, _stream) = informer(&carl, SECRETS, accept).await;
        carl.get_as(&format!("{SECRETS}/s"), accept).await.unwrap().expect(200);
    }
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let issued = node(&cluster).post(path, &body).await.unwrap().expect(201).json();
    let issued = issued["status"]["token"].as_str().unwrap().to_owned();
    cut(&cluster).await;
    carl.get(SECRETS).await.unwrap().expect(200);
    node(&cluster).post(path, &body).await.unwrap().expect(201);
    let shown = [
        cluster.hub.admin("/v1/status").await.unwrap().text(),
        cluster.hub.admin("/metrics").await.unwrap().text(),
    ];
    cluster.hub.stop().await;
    let mut places = vec![("log".to_owned(), cluster.hub.log().into_bytes())];
    places.extend(shown.map(|text| ("admin".to_owned(), text.into_bytes())));
    files(&cluster.hub.options.root, &mut places);
    assert!(places.len() > 5, "the store was looked at");
    for needle in ["very-hidden-value", hidden, "carl-token", &issued] {
        for (place, bytes) in &places {
            assert!(!contains(bytes, needle.as_bytes()), "{needle:.12} is in {place}");
        }
    }
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap())),
        }
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle)
}
