//! What all requests share.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    audit::Audit, authorize::Rules, fault::Faults, gate::Gate, registry::Registry, storage::Storage,
    token::Tokens,
};

/// How the server behaves. `Default` suits most tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// "127.0.0.1:0" by default.
    pub address: std::net::SocketAddr,
    /// The version before the first write.
    pub first_version: u64,
    /// How many changes are remembered for watches and older pages.
    pub history: usize,
    /// Time between the bookmarks of a watch that asked for them.
    pub bookmark_interval: Duration,
    /// A watch from before the history is answered HTTP 410 instead of 200 with an ERROR event.
    pub gone_over_http: bool,
    /// How long a read waits for a version that is not there yet.
    pub freshness_wait: Duration,
    /// `gitVersion` of `/version`.
    pub git_version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: ([127, 0, 0, 1], 0).into(),
            first_version: 1000,
            history: 20_000,
            bookmark_interval: Duration::from_secs(2),
            gone_over_http: false,
            freshness_wait: Duration::from_secs(3),
            git_version: "v1.34.4".into(),
        }
    }
}

/// What running watches listen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// The current version.
    pub version: u64,
    /// Grows when bookmarks are demanded.
    pub bookmarks: u64,
    /// Grows when all watches must end.
    pub epoch: u64,
}

/// The shared parts of the server.
pub struct Server {
    /// How it behaves.
    pub options: Options,
    /// All objects.
    storage: Arc<Mutex<Storage>>,
    /// All objects as this server still sees them, while it lags behind the others.
    behind: Mutex<Option<Storage>>,
    /// The served kinds.
    pub registry: Arc<RwLock<Registry>>,
    /// Accepted tokens.
    pub tokens: Arc<Tokens>,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// Faults of single requests.
    pub faults: Faults,
    /// What was asked.
    pub audit: Arc<Audit>,
    /// The switch of all connections.
    pub gate: Arc<Gate>,
    /// Wakes watches and reads that wait for a version.
    pub signal: watch::Sender<Signal>,
}

impl Server {
    /// An empty server.
    pub fn new(options: Options) -> Self {
        let signal = Signal { version: options.first_version, ..Signal::default() };
        Self {
            storage: Arc::new(Mutex::new(Storage::new(options.first_version, options.history))),
            behind: Mutex::default(),
            registry: Arc::new(RwLock::new(Registry::builtin())),
            tokens: Arc::new(Tokens::new()),
            rules: Arc::default(),
            faults: Faults::default(),
            audit: Arc::default(),
            gate: Arc::default(),
            signal: watch::Sender::new(signal),
            options,
        }
    }

    /// Another server over the same state, with faults, switches and a trail of its own.
    pub fn another(&self) -> Self {
        Self {
            options: Options { address: ([127, 0, 0, 1], 0).into(), ..self.options.clone() },
            storage: self.storage.clone(),
            behind: Mutex::default(),
            registry: self.registry.clone(),
            tokens: self.tokens.clone(),
            rules: self.rules.clone(),
            faults: Faults::default(),
            audit: Arc::default(),
            gate: Arc::default(),
            signal: self.signal.clone(),
        }
    }

    /// From now on this server sees no more of what changes, or everything again.
    pub fn lag(&self, lags: bool) {
        let now = lags.then(|| self.read(Storage::clone));
        *self.behind.lock().unwrap() = now;
        self.signal.send_modify(|_| {});
    }

    /// Reads the state as this server sees it.
    pub fn read<R>(&self, read: impl FnOnce(&Storage) -> R) -> R {
        if let Some(behind) = self.behind.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return read(behind);
        }
        read(&self.storage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and wakes who waits for it.
    pub fn write<R>(&self, write: impl FnOnce(&mut Storage) -> R) -> R {
        let mut storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        let result = write(&mut storage);
        let version = storage.version();
        self.signal.send_if_modified(|s| std::mem::replace(&mut s.version, version) != version);
        result
    }

    /// Waits until the version is reached; false = not within the bound.
    pub async fn reach(&self, version: u64) -> bool {
        let mut signal = self.signal.subscribe();
        // No condition inside the signal's lock: a write takes the state's lock first and that one second.
        let reached =
            async { while self.read(Storage::version) < version && signal.changed().await.is_ok() {} };
        tokio::time::timeout(self.options.freshness_wait, reached).await.is_ok()
    }
}
