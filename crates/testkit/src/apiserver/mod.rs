//! A simulated kube-apiserver: real TLS and HTTP, objects in memory, every request recorded, faults on demand.
//!
//! It runs on a thread and runtime of its own, so that a busy or blocking test does not slow it and the
//! handle's calls need no `await`. What is simulated is checked against a real apiserver by
//! `tests/conformance.rs`. Not simulated: server-side apply, gzip, admission other than what is in
//! `defaults`, validation of fields, controllers (a namespace gets nothing by itself).
//!
//! A request goes through [`serve`](serve::serve): record, fault, authenticate, authorize, act, answer.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering, mpsc as std_mpsc},
    thread::JoinHandle,
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{net::TcpListener, sync::mpsc};

pub mod act;
pub mod audit;
pub mod auth;
pub mod authorize;
pub mod certificate;
pub mod defaults;
pub mod delete;
pub mod discovery;
pub mod error;
pub mod fault;
pub mod gate;
pub mod list;
pub mod listen;
pub mod media;
pub mod object;
mod options;
pub mod patch;
pub mod process;
pub mod protobuf;
pub mod references;
pub mod registry;
pub mod request;
pub mod respond;
pub mod review;
pub mod select;
pub mod serve;
pub mod server;
pub mod storage;
pub mod subresource;
pub mod table;
pub mod token;
pub mod upgrade;
pub mod watch;
pub mod write;

pub use audit::Entry;
pub use auth::Principal;
pub use authorize::Rule;
pub use fault::{Fault, FaultId, Gate};
pub use registry::Kind;
pub use server::Options;
pub use storage::Snapshot;

use crate::pki::Pki;
use audit::Audit;
use listen::{Command, Connections};
use object::Key;
use request::Target;
use server::Server;
use write::Write;

/// A running apiserver. It stops when this is dropped.
pub struct Apiserver {
    server: Arc<Server>,
    pki: Arc<Pki>,
    address: SocketAddr,
    counts: Arc<Connections>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
    _dir: Option<tempfile::TempDir>,
}

impl Apiserver {
    /// Starts one with a PKI in a temporary folder.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts one that behaves as `options` say.
    pub async fn start_with(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut api = Self::start_in(dir.path(), options);
        api._dir = Some(dir);
        api
    }

    /// Starts one that keeps its PKI in `dir`. Holds `default`, `kube-system` and `kube-node-lease`.
    pub fn start_in(dir: &Path, options: Options) -> Self {
        let api = Self::serve(Arc::new(Server::new(options)), Arc::new(Pki::create(dir)));
        for object in crate::objects::cluster() {
            api.create(object);
        }
        api
    }

    /// Another apiserver of the same cluster: the same objects, tokens and rules on a port of its own, with
    /// faults, switches, trail and lag of its own.
    pub fn another(&self) -> Self {
        Self::serve(Arc::new(self.server.another()), self.pki.clone())
    }

    fn serve(server: Arc<Server>, pki: Arc<Pki>) -> Self {
        let counts = Arc::new(Connections::default());
        let (commands, receiver) = mpsc::unbounded_channel();
        let (ready, address) = std_mpsc::channel();
        let run = run(server.clone(), pki.server_config(), counts.clone(), receiver, ready);
        let thread = std::thread::Builder::new()
            .name("testkit-apiserver".into())
            .spawn(move || run_on_this_thread(run));
        let address = address.recv().expect("the apiserver's listener");
        let thread = Some(thread.expect("a thread for the apiserver"));
        Self { server, pki, address, counts, commands: Some(commands), thread, _dir: None }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The cluster's PKI.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Creates an object of any served kind; panics when it is refused. Its namespace is made when missing.
    pub fn create(&self, mut object: Value) -> Value {
        let (kind, target) = self.locate(&object);
        if let Some(namespace) = target.namespace.as_deref().filter(|n| !self.exists("namespaces", "", n)) {
            self.create(crate::objects::namespace(namespace));
        }
        let status = object["status"].take();
        let create = |s: &mut storage::Storage| {
            let write = Write { kind: &kind, target: &target, dry_run: false };
            let created = write.create(s, object)?;
            if status.is_null() || !kind.status {
                return Ok(created);
            }
            let mut value = created.value().clone();
            value["status"] = status;
            Ok(s.put(&kind.group_resource(), created.key.clone(), value))
        };
        let created = self.server.write(create);
        created.unwrap_or_else(|e: error::Refusal| panic!("create refused: {}", e.message)).typed(&kind)
    }

    /// An object by its resource ("pods", "deployments.apps"), namespace ("" = cluster-scoped) and name.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = self.kind(resource);
        self.server.read(|s| s.get(resource, &Key::new(namespace, name)).map(|o| o.typed(&kind)))
    }

    /// The object is there.
    pub fn exists(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.server.read(|s| s.get(resource, &Key::new(namespace, name)).is_some())
    }

    /// All objects of a resource in list order.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let kind = self.kind(resource);
        self.server.read(|s| {
            s.table(resource).into_iter().flat_map(|t| t.values()).map(|o| o.typed(&kind)).collect()
        })
    }

    /// Replaces an object, status included, whatever version it had; panics when it does not exist.
    pub fn update(&self, object: Value) -> Value {
        let (kind, target) = self.locate(&object);
        let name = object["metadata"]["name"].as_str().expect("metadata.name");
        let key = Key::new(target.namespace.as_deref().unwrap_or_default(), name);
        assert!(self.exists(&kind.group_resource(), &key.namespace, name), "{key:?} is not there");
        self.server.write(|s| s.put(&kind.group_resource(), key, object)).typed(&kind)
    }

    /// Changes an object in place; panics when it does not exist.
    pub fn modify(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Value {
        let mut object =
            self.get(resource, namespace, name).unwrap_or_else(|| panic!("no {resource} {namespace}/{name}"));
        change(&mut object);
        self.update(object)
    }

    /// Removes an object at once; its last state.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = self.kind(resource);
        self.server.write(|s| s.remove(resource, &Key::new(namespace, name))).map(|o| o.typed(&kind))
    }

    /// The events of the cluster (core/v1).
    pub fn events(&self) -> Vec<Value> {
        self.list("events")
    }

    /// Serves one more kind.
    pub fn register(&self, kind: Kind) {
        self.server.registry.write().unwrap().add(kind);
    }

    /// Accepts a bearer token for a user.
    pub fn add_token(&self, token: &str, principal: Principal) {
        self.server.tokens.add(token, principal);
    }

    /// Makes a token of a ServiceAccount as TokenRequest would.
    pub fn issue_token(&self, claims: &token::Claims) -> String {
        self.server.tokens.issue(claims).0
    }

    /// No longer accepts a token.
    pub fn revoke_token(&self, token: &str) {
        self.server.tokens.revoke(token);
    }

    /// Allows something.
    pub fn allow(&self, rule: Rule) {
        self.server.rules.add(rule);
    }

    /// Takes back all rules of a user or group.
    pub fn disallow(&self, subject: &str) {
        self.server.rules.remove(subject);
    }

    /// The current resourceVersion.
    pub fn version(&self) -> u64 {
        self.server.read(storage::Storage::version)
    }

    /// Other writers of the cluster use up versions.
    pub fn skip_versions(&self, by: u64) {
        self.server.write(|s| s.skip_versions(by));
    }

    /// What was asked.
    pub fn audit(&self) -> &Audit {
        &self.server.audit
    }

    /// Watches that run now.
    pub fn open_watches(&self) -> Vec<Entry> {
        self.server.audit.matching(|e| e.watch && !e.finished)
    }

    /// Connections accepted since the start, and open now.
    pub fn connections(&self) -> (u64, u64) {
        (self.counts.accepted.load(Ordering::SeqCst), self.counts.open.load(Ordering::SeqCst))
    }

    /// Faults of requests for which `matches(method, path with query)`, until removed.
    pub fn fault(
        &self,
        fault: Fault,
        matches: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) -> FaultId {
        self.server.faults.add(fault, None, matches)
    }

    /// A fault of every request.
    pub fn fault_all(&self, fault: Fault) -> FaultId {
        self.fault(fault, |_, _| true)
    }

    /// A fault of the next `times` requests that match.
    pub fn fault_times(
        &self,
        times: u32,
        fault: Fault,
        matches: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) -> FaultId {
        self.server.faults.add(fault, Some(times), matches)
    }

    /// Switches one fault off.
    pub fn remove_fault(&self, id: FaultId) {
        self.server.faults.remove(id);
    }

    /// Nothing is wrong any more: no faults, nothing held, no lag, the listener open.
    pub fn heal(&self) {
        self.catch_up();
        self.server.faults.clear();
        self.server.gate.release();
        self.command(Command::Accept);
    }

    /// Closes the listener and resets every connection: connects are refused until [`Self::heal`].
    pub fn refuse(&self) {
        self.command(Command::Refuse);
        self.command(Command::Reset);
    }

    /// Resets every connection; new ones are served.
    pub fn reset_connections(&self) {
        self.command(Command::Reset);
    }

    /// A black hole: connections stay open and new ones are taken, nothing is read or written until
    /// [`Self::heal`].
    pub fn hold(&self) {
        self.server.gate.hold();
    }

    /// Every read and watch is of the state as it is now, until [`Self::catch_up`]; writes go to the shared state.
    pub fn lag(&self) {
        self.server.lag(true);
    }

    /// It sees what the others see.
    pub fn catch_up(&self) {
        self.server.lag(false);
    }

    /// Forgets the history: older versions are answered 410.
    pub fn compact(&self) {
        self.server.write(storage::Storage::compact);
    }

    /// Ends every watch as a timeout does.
    pub fn end_watches(&self) {
        self.server.signal.send_modify(|s| s.epoch += 1);
    }

    /// A bookmark now on every watch that asked for bookmarks.
    pub fn send_bookmarks(&self) {
        self.server.signal.send_modify(|s| s.bookmarks += 1);
    }

    /// A copy of all objects.
    pub fn snapshot(&self) -> Snapshot {
        self.server.read(storage::Storage::snapshot)
    }

    /// Goes back to a snapshot as after an etcd restore: the version goes back, watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.server.write(|s| s.restore(snapshot));
        self.end_watches();
    }

    fn kind(&self, resource: &str) -> Arc<Kind> {
        let kind = self.server.registry.read().unwrap().of_group_resource(resource);
        kind.unwrap_or_else(|| panic!("{resource} is not served"))
    }

    fn locate(&self, object: &Value) -> (Arc<Kind>, Target) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let kind = self.server.registry.read().unwrap().of_object(&api_version, &kind);
        let kind = kind.unwrap_or_else(|| panic!("{api_version} {} is not served", object["kind"]));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let target = Target { namespace: kind.namespaced.then_some(namespace), ..Target::default() };
        (kind, target)
    }

    fn command(&self, command: impl FnOnce(std_mpsc::Sender<()>) -> Command) {
        let (done, wait) = std_mpsc::channel();
        let sent = self.commands.as_ref().is_some_and(|c| c.send(command(done)).is_ok());
        assert!(sent, "the apiserver's thread has ended");
        wait.recv_timeout(Duration::from_secs(10)).expect("the apiserver's thread obeys within 10 s");
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        self.server.gate.release();
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn run(
    server: Arc<Server>,
    tls: Arc<rustls::ServerConfig>,
    counts: Arc<Connections>,
    commands: mpsc::UnboundedReceiver<Command>,
    ready: std_mpsc::Sender<SocketAddr>,
) {
    let address = server.options.address;
    let listener = TcpListener::bind(address)
        .await
        .unwrap_or_else(|e| panic!("the apiserver cannot listen on {address}: {e}"));
    ready.send(listener.local_addr().expect("the address of the listener")).ok();
    listen::accept(server, tls, listener, counts, commands).await;
}

fn run_on_this_thread(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run);
}

/// A random uid (version 4).
pub(crate) fn uid() -> String {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Now plus `seconds` as `metav1.Time` is written: whole seconds, UTC.
pub(crate) fn timestamp(seconds: i64) -> String {
    rfc3339(OffsetDateTime::now_utc().unix_timestamp() + seconds)
}

/// Unix seconds as RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time that can be written");
    time.format(&Rfc3339).expect("a time that can be written")
}
