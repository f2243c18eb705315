//! Starts that are not like the others: nothing held and no link, a store that is taken, a port that is taken.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use yurt_testkit::client::{Client, Protocol};
use yurt_testkit::cluster::{Cluster, Hub, HubOptions, yurthub};

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

/// Pods reach it at an address of their own (of a dummy interface), the kubelet at the loopback: one port, one certificate.
#[tokio::test]
async fn it_listens_at_every_address_and_its_certificate_names_them() {
    let mut cluster = without_link().await;
    let addresses = "--bind-proxy-address=127.0.0.1,127.0.0.2".to_owned();
    cluster.hub.options.arguments.push(addresses);
    cluster.hub.start().await;
    let (port, ca) = (cluster.hub.ports().secure, fs::read_to_string(cluster.hub.ca_file()).unwrap());
    let at = |address: &str| Client::new(&format!("https://{address}:{port}"), &ca, None, Protocol::Http2);
    for address in ["127.0.0.1", "127.0.0.2"] {
        at(address).get("/version").await.unwrap().expect(401);
    }
    let refused = at("127.0.0.3").get("/version").await;
    assert!(refused.is_err(), "{refused:?}");
    // What of them does not exist is said, and nothing is served halfway.
    cluster.hub.stop().await;
    let options = cluster.hub.options.clone();
    let wrong =
        HubOptions { arguments: vec!["--bind-proxy-address=127.0.0.1,192.0.2.1".to_owned()], ..options };
    let mut hub = Hub::new(wrong);
    hub.spawn();
    let failed = format!("{:#}", hub.until_ready().await.unwrap_err());
    assert!(failed.contains("exit status: 1") && failed.contains("192.0.2.1"), "{failed}");
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

/// A key that is gone opens nothing any more; a key that cannot be used is named, because the right one may come back.
#[tokio::test]
async fn a_lost_key_begins_a_fresh_store_and_a_wrong_one_is_named() {
    let mut cluster = Cluster::start(NODE).await;
    cluster.node_client(Protocol::Http2).get("/api/v1/services").await.unwrap().expect(200);
    cluster.hub.stop().await;
    let root = cluster.hub.options.root.clone();
    let key = root.join("pki/store.key");
    let right = fs::read(&key).unwrap();
    let arguments = [
        "--server-addr=https://127.0.0.1:1".to_owned(),
        format!("--node-name={NODE}"),
        format!("--root-dir={}", root.display()),
        "--serve-port=0".to_owned(),
        "--proxy-secure-port=0".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for wrong in [vec![0; 31], vec![7; 32], vec![]] {
        fs::write(&key, &wrong).unwrap();
        let ended = run(&arguments).await;
        let said = text(&ended.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(last.contains("sealed") && last.contains(root.to_str().unwrap()), "{said}");
    }
    fs::write(&key, &right).unwrap();
    cluster.hub.start().await;
    assert_eq!(crate::tools::status(&cluster.hub).await["store"]["found"], "existing");
    cluster.hub.stop().await;
    fs::remove_file(&key).unwrap();
    cluster.hub.start().await;
    assert_eq!(crate::tools::status(&cluster.hub).await["store"]["found"], "damaged");
    assert_eq!(metric(&cluster.hub, "yurthub_store_set_aside").await, 1);
}

/// The hub's own CA is trusted by every local client: it is never made anew behind their backs.
#[tokio::test]
async fn a_damaged_ca_is_named() {
    let mut cluster = without_link().await;
    cluster.hub.start().await;
    cluster.hub.stop().await;
    let root = cluster.hub.options.root.clone();
    for file in ["ca.crt", "ca.key"] {
        let path = root.join("pki").join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "nonsense").unwrap();
        let root = format!("--root-dir={}", root.display());
        let ended = run(&[
            "--server-addr=https://127.0.0.1:1",
            "--node-name=n",
            "--serve-port=0",
            "--proxy-secure-port=0",
            &root,
        ])
        .await;
        let said = text(&ended.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(last.contains(&format!("pki/{file}")), "{file}: {said}");
        fs::write(&path, whole).unwrap();
    }
    cluster.hub.start().await;
}

/// Whoever reads the log may end before the hub does.
#[tokio::test]
async fn a_log_that_nobody_reads_ends_nothing() {
    let mut cluster = Cluster::prepare(NODE, Default::default()).await;
    let folder = cluster.folder().path().to_owned();
    let (script, fifo) = (folder.join("unread"), folder.join("fifo"));
    let lines = [
        "#!/bin/sh".to_owned(),
        format!("mkfifo {0}; true < {0} &", fifo.display()),
        format!("exec {} --log=debug \"$@\" 2> {}", yurthub().display(), fifo.display()),
    ];
    let unread = lines.join("\n");
    fs::write(&script, unread).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.hub.options.binary = script;
    cluster.hub.start().await;
    crate::tools::until_link(&cluster.hub, "Online").await;
    for _ in 0..5 {
        cluster.node_client(Protocol::Http2).get("/api/v1/services").await.unwrap().expect(200);
    }
    assert_eq!(metric(&cluster.hub, "yurthub_panics_total").await, 0);
}
