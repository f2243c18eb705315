//! What these tests share: waiting, the hub's own words, raw connections.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use yurt_testkit::apiserver::Options;
use yurt_testkit::client::Answer;
use yurt_testkit::cluster::{Cluster, Hub, yurthub};

pub const SOON: Duration = Duration::from_secs(15);
pub const NODE: &str = "edge-1";

/// Asks again until the answer is there; panics with `what` when it does not come.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// Runs the binary to its end.
pub async fn run(args: &[&str]) -> Output {
    let running = Command::new(yurthub()).args(args).kill_on_drop(true).output();
    tokio::time::timeout(SOON, running).await.unwrap_or_else(|_| panic!("still runs: {args:?}")).unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A cluster whose hub has not been started and whose link is cut.
pub async fn without_link() -> Cluster {
    let cluster = Cluster::prepare(NODE, Options::default()).await;
    cluster.relay.refuse().await;
    cluster
}

pub async fn status(hub: &Hub) -> Value {
    hub.admin("/v1/status").await.unwrap().expect(200).json()
}

pub async fn until_link(hub: &Hub, wanted: &str) {
    until(wanted, || async { (status(hub).await["connectivity"]["state"] == wanted).then_some(()) }).await;
}

/// The value of a metric without labels; panics when it is not there.
pub async fn metric(hub: &Hub, name: &str) -> u64 {
    let text = hub.admin("/metrics").await.unwrap().expect(200).text();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().unwrap()
}

/// The value of a metric with its labels; `None` while nothing of it was counted.
pub async fn metric_with(hub: &Hub, name: &str) -> Option<u64> {
    let text = hub.admin("/metrics").await.unwrap().expect(200).text();
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The source that the hub names for an answer.
pub fn source(answer: &Answer) -> &str {
    answer.header("x-yurthub-source")
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let found = path.metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    found.permissions().mode() & 0o777
}

pub fn signal(hub: &Hub, name: &str) {
    let pid = hub.pid().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// A TLS connection on which a test says what it likes.
pub async fn raw(hub: &Hub, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(hub.ca_file()).unwrap()).unwrap();
    let provider = yurt_testkit::pki::provider();
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", hub.ports().secure)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

/// A library that is preloaded under the hub, compiled from a C file of this crate.
pub fn preload(source: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let library = folder.join("preloaded.so");
    let compiled = std::process::Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(compiled.expect("a C compiler").success());
    library
}
