//! Starts that are not like the others: nothing held and no link, a store that is taken, a port that is taken.

use std::fs;

use yurt_testkit::client::Protocol;
use yurt_testkit::cluster::{Cluster, Hub, HubOptions};

use crate::tools::{NODE, metric, mode, run, source, text, until, without_link};

/// P2, P10: up at once, honest about what it cannot do.
#[tokio::test]
async fn with_no_link_and_an_empty_store_it_is_up_and_says_what_is_missing() {
    let mut cluster = without_link().await;
    cluster.hub.start().await;
    let health = cluster.hub.admin("/v1/healthz").await.unwrap();
    assert_eq!((health.code(), health.text().as_str()), (200, "OK"));
    let ready = cluster.hub.admin("/v1/readyz").await.unwrap();
    assert_eq!(ready.code(), 503);
    assert!(ready.text().contains("cannot be reached") && ready.text().contains("empty"), "{}", ready.text());
    assert_eq!(metric(&cluster.hub, "yurthub_online").await, 0);
    let client = cluster.node_client(Protocol::Http2);
    let paths = [
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1",
        "/api/v1/nodes/edge-1",
        "/api/v1/services?watch=1",
        "/apis",
        "/version",
        "/readyz",
    ];
    for path in paths {
        let answer = client.get(path).await.unwrap();
        let status = answer.json();
        assert_eq!(answer.code(), 503, "{path}: {}", answer.text());
        assert_eq!(
            (&status["kind"], &status["reason"], &status["code"]),
            (&"Status".into(), &"ServiceUnavailable".into(), &503.into()),
            "{path}"
        );
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0), "{path}");
        assert!(source(&answer).starts_with("yurthub; reason="), "{path}: {}", source(&answer));
    }
    let stranger = cluster.client(Protocol::Http2).get("/api/v1/pods").await.unwrap();
    assert_eq!((stranger.code(), stranger.json()["reason"].as_str()), (401, Some("Unauthorized")));
}

#[tokio::test]
async fn a_second_hub_on_the_same_store_is_refused_and_a_taken_port_is_named() {
    let cluster = Cluster::start(NODE).await;
    let options = &cluster.hub.options;
    let arg = |name: &str, value: &std::path::Path| format!("--{name}={}", value.display());
    let usual = [
        format!("--server-addr={}", options.servers),
        format!("--node-name={NODE}"),
        arg("root-dir", &options.root),
        "--proxy-secure-port=0".to_owned(),
    ];
    let usual: Vec<&str> = usual.iter().map(String::as_str).collect();
    let ports = fs::read(options.root.join("run/ports.json")).unwrap();

    let second = run(&[&usual[..], &["--serve-port=0"]].concat()).await;
    let said = text(&second.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        last.contains("another yurthub") && last.contains(options.root.join("cache").to_str().unwrap()),
        "{said}"
    );

    let taken = format!("--serve-port={}", cluster.hub.ports().admin);
    let third = run(&[&usual[..], &[taken.as_str()]].concat()).await;
    let said = text(&third.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(third.status.code(), Some(1), "{said}");
    assert!(last.contains("serve-port") && last.contains(&cluster.hub.ports().admin.to_string()), "{said}");

    assert_eq!(fs::read(options.root.join("run/ports.json")).unwrap(), ports, "the first one's ports stand");
    assert_eq!(cluster.hub.admin("/v1/healthz").await.unwrap().code(), 200);
    cluster.node_client(Protocol::Http2).get("/api/v1/nodes/edge-1").await.unwrap().expect(200);
}

/// The flags win over the file, and the file is used.
#[tokio::test]
async fn the_file_and_the_flags_make_one_configuration() {
    let cluster = without_link().await;
    let given = &cluster.hub.options;
    let file = cluster.folder().path().join("hub.yaml");
    let store = cluster.folder().path().join("elsewhere");
    let lines = [
        "node-name: wrong".to_owned(),
        format!("disk-cache-path: {}", store.display()),
        "log: debug".to_owned(),
        "hub-cert-sans: hub.example,10.0.0.9".to_owned(),
        "cache-max-bytes: 8388608".to_owned(),
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let mut hub =
        Hub::new(HubOptions { arguments: vec![format!("--config={}", file.display())], ..given.clone() });
    hub.start().await;
    let status = crate::tools::status(&hub).await;
    assert_eq!(status["node"], NODE);
    assert!(store.join("store.db").exists(), "the file's key is used");
    hub.client(None, Protocol::Http2).get("/version").await.unwrap().expect(401);
    until("a line of the log at the level of the file", async || hub.log().contains("DEBUG").then_some(()))
        .await;
    hub.stop().await;
}

#[tokio::test]
async fn what_it_keeps_is_its_owners_only() {
    let mut cluster = without_link().await;
    cluster.hub.start().await;
    let root = cluster.hub.options.root.clone();
    for folder in ["", "pki", "cache", "run"] {
        assert_eq!(mode(&root.join(folder)), 0o700, "{folder:?}");
    }
    for file in ["pki/ca.key", "pki/store.key", "cache/store.db", "cache/store.db-wal", "cache/store.lock"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
    // What a careless hand opened is closed again at the next start.
    cluster.hub.stop().await;
    let open = |path: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, mode) in
        [("pki", 0o755), ("run", 0o777), ("cache", 0o755), ("cache/store.db", 0o644), ("pki/ca.key", 0o644)]
    {
        open(path, mode);
    }
    cluster.hub.start().await;
    for (path, expected) in
        [("pki", 0o700), ("run", 0o700), ("cache", 0o700), ("cache/store.db", 0o600), ("pki/ca.key", 0o600)]
    {
        assert_eq!(mode(&root.join(path)), expected, "{path}");
    }
}
