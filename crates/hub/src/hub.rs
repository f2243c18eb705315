//! The composition root: makes the parts, connects them, runs them until the stop.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use yurt_store::{OpenReport, Options, SealKey, StoreError};

use crate::admin::Admin;
use crate::autonomy::{Autonomy, Shown};
use crate::cache::{Cache, Found, Front, StoreThreads};
use crate::cloud::Cloud;
use crate::config::{Asked, Config, Flags};
use crate::connectivity::Link;
use crate::credential::{Credentials, ca, watch_files};
use crate::listen::{self, Listener, Terminal};
use crate::metrics::Metrics;
use crate::notify::notify;
use crate::replay::{Replay, Report};
use crate::serve::Pipeline;
use crate::tasks::{self, Failure};

/// SQLite's page cache per connection, in bytes.
const PAGE_CACHE: u32 = 1 << 20;
/// Bounds of the journal: entries, bytes, and Events among them (the newest are kept).
const JOURNAL: (usize, u64, usize) = (20_000, 64 << 20, 1000);
/// How long the store may take to close: the last fsync of a slow disk.
const CLOSE_BOUND: std::time::Duration = std::time::Duration::from_secs(10);
/// How often unused parts of the cache are looked for.
const GARBAGE_EVERY: std::time::Duration = std::time::Duration::from_secs(600);

/// Runs the binary with these arguments: exit code 2 for a wrong setting, 1 for what went wrong later.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    start(args.into_iter().collect())
}

/// Not generic: what depends on it is in the program once.
fn start(args: Vec<OsString>) -> ExitCode {
    let flags = match Flags::read(args) {
        Ok(Asked::Run(flags)) => flags,
        Ok(Asked::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return wrong_setting(error),
    };
    let config = match flags.resolve() {
        Ok(config) => config,
        Err(error) => return wrong_setting(error),
    };
    if let Err(error) = log_to_stderr(&config.log) {
        return wrong_setting(format!("log: {error}"));
    }
    let ended = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let ended = ended.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(run(config));
        // A name that is still being looked up must not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yurthub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_setting(what: impl std::fmt::Display) -> ExitCode {
    eprintln!("yurthub: {what}");
    ExitCode::from(2)
}

fn log_to_stderr(filter: &str) -> Result<(), String> {
    let level = |word: &&str| word.parse::<LevelFilter>().is_err() && !word.contains('=');
    if let Some(word) = filter.split(',').find(level) {
        // It would be read as the name of a part of the program, and nothing else would be logged.
        return Err(format!("{word:?} is none of off, error, warn, info, debug, trace"));
    }
    let levels: Targets = filter.parse().map_err(|e| format!("{filter:?}: {e}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines.log_internal_errors(false)).with(levels).init();
    Ok(())
}

/// Runs the hub until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // From the first moment on: a signal during the start must not end the process half way.
    let mut signals = Signals::new()?;
    folder(&config.root_dir)?;
    let secure = listen::bind_all(&config.bind_addresses, config.secure_port, "proxy-secure-port").await?;
    let admin =
        listen::bind(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), config.admin_port), "serve-port").await?;
    let ports = [listen::port(&secure)?, admin.local_addr()?.port()];

    let metrics = Arc::new(Metrics::default());
    let (stop, shutdown) = tasks::shutdown();
    let link = Link::new();
    let connectivity = link.connectivity();
    let credentials = Arc::new(Credentials::load(config.credentials.clone()));
    let cloud = Arc::new(Cloud::new(
        &config.servers,
        config.lb_mode,
        &config.node_name,
        Arc::clone(&credentials),
        link.signal(),
    ));
    // The first probe travels while the store is read.
    tasks::spawn("connectivity", Failure::Fatal, link.run(Arc::clone(&cloud), shutdown.clone()));
    tasks::spawn("servers", Failure::Fatal, Arc::clone(&cloud).look_after_servers(shutdown.clone()));

    let (front, found, store_threads) = open_store(&config)?;
    let cache = Cache::load(
        front,
        found,
        &config.node_name,
        Arc::clone(&cloud),
        connectivity.clone(),
        Arc::clone(&metrics),
        shutdown.clone(),
    )
    .await?;
    let report = Arc::new(Mutex::new(Report::default()));
    let replay = Replay {
        cache: Arc::clone(&cache),
        cloud: Arc::clone(&cloud),
        connectivity: connectivity.clone(),
        report: Arc::clone(&report),
    };
    tasks::spawn("replay", Failure::Fatal, replay.run(shutdown.clone()));

    let names = ca::serving_names(&config.bind_addresses, &config.node_name, &config.extra_names);
    let serving = ca::serving_certificate(&config.root_dir.join("pki"), &names)?;
    let terminal = Arc::new(Terminal::new(serving, &credentials)?);
    let (renewed, watched) =
        ((Arc::clone(&terminal), Arc::clone(&cloud), Arc::clone(&credentials)), Arc::clone(&credentials));
    let renew = move || {
        renewed.0.reload(&renewed.2);
        renewed.1.renew();
    };
    tasks::spawn("certificate files", Failure::Fatal, watch_files(watched, renew, shutdown.clone()));
    let autonomy = Autonomy {
        cache: Arc::clone(&cache),
        cloud: Arc::clone(&cloud),
        connectivity: connectivity.clone(),
        credentials: Arc::clone(&credentials),
        shown: Shown::default(),
    };
    let shown = Arc::clone(&autonomy.shown);
    tasks::spawn("autonomy", Failure::Local, autonomy.run(shutdown.clone()));
    let admin_page = Admin {
        cache: Arc::clone(&cache),
        cloud: Arc::clone(&cloud),
        connectivity: connectivity.clone(),
        credentials,
        metrics: Arc::clone(&metrics),
        report,
        autonomy: shown,
    };
    tasks::spawn("admin", Failure::Fatal, Arc::new(admin_page).run(admin, shutdown.clone()));
    tasks::spawn("garbage", Failure::Local, collect_garbage(Arc::clone(&cache), shutdown.clone()));

    let pipeline = Arc::new(Pipeline::new(
        Arc::clone(&cache),
        cloud,
        connectivity,
        Arc::clone(&metrics),
        shutdown.clone(),
    ));
    let roots = Arc::clone(&pipeline).fetch_roots(shutdown.clone());
    tasks::spawn("documents", Failure::Local, roots);
    if let Err(error) = write_ports(&config.root_dir, ports) {
        // Nothing that a boot could be held up for: whoever chose the ports knows them.
        tracing::warn!(%error, "the ports cannot be written down");
    }
    notify("READY=1");
    tracing::info!(secure = ports[0], admin = ports[1], node = config.node_name, "yurthub serves");
    let listener = Listener { sockets: secure, terminal, metrics, node_name: config.node_name.clone() };
    let (drained, served) = tokio::sync::oneshot::channel();
    tasks::spawn("listener", Failure::Fatal, async move {
        listener.run(move |request, peer| Arc::clone(&pipeline).serve(request, peer), shutdown).await;
        let _ = drained.send(());
    });
    signals.next().await;
    notify("STOPPING=1");
    tracing::info!("stopping");
    stop.stop();
    tokio::select! {
        _ = served => {}
        () = signals.next() => tracing::info!("told to stop again: the streams are not waited for"),
    }
    match cache.front.close(store_threads, CLOSE_BOUND).await {
        true => Ok(()),
        false => Err(anyhow::anyhow!("the store could not be closed within {CLOSE_BOUND:?}")),
    }
}

/// SIGTERM and SIGINT; SIGHUP is somebody else's, and here only kept from ending the process until he listens.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [term, int, hangup] = kinds.map(signal);
        Ok(Signals([term?, int?, hangup?]))
    }

    async fn next(&mut self) {
        let [term, int, _] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

async fn collect_garbage(cache: Arc<Cache>, mut shutdown: tasks::Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(GARBAGE_EVERY) => cache.collect_garbage().await,
        }
    }
}

fn open_store(config: &Config) -> anyhow::Result<(Front, Found, StoreThreads)> {
    folder(&config.store_dir)?;
    own_folder(&config.root_dir.join("pki"))?;
    let path = key_path(config);
    let key_is_new = !path.exists();
    let key = SealKey::load_or_create(&path)
        .map_err(|e| anyhow::anyhow!("the store's key {}: {e}", path.display()))?;
    let (entries, bytes, events) = JOURNAL;
    let options = Options {
        dir: config.store_dir.clone(),
        key,
        key_is_new,
        max_bytes: config.cache_max_bytes,
        page_cache_bytes: PAGE_CACHE,
        journal_max_entries: entries,
        journal_max_bytes: bytes,
        events_max: events,
    };
    let opened = yurt_store::open(options).map_err(|error| match error {
        StoreError::Locked => {
            anyhow::anyhow!("another yurthub uses the store in {}", config.store_dir.display())
        }
        other => anyhow::anyhow!("the store in {}: {other}", config.store_dir.display()),
    })?;
    let found =
        Found { report: opened.report, unreadable_entries: opened.unreadable_entries, saved: opened.saved };
    if let OpenReport::Damaged { set_aside, why } = &found.report {
        let saved = found.saved;
        tracing::error!(set_aside = %set_aside.display(), why, saved, "the store was damaged: a fresh one is begun");
    }
    if found.unreadable_entries > 0 {
        tracing::error!(
            entries = found.unreadable_entries,
            "entries of the journal cannot be read; they stand among the conflicts"
        );
    }
    let (front, threads) = Front::start(opened.writer, opened.reader)?;
    Ok((front, found, threads))
}

/// A systemd credential named `yurthub-store-key` comes before the key file beside the hub's CA.
fn key_path(config: &Config) -> std::path::PathBuf {
    let given =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join("yurthub-store-key"));
    given.filter(|p| p.exists()).unwrap_or_else(|| config.root_dir.join("pki").join("store.key"))
}

fn folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| anyhow::anyhow!("cannot make the folder {}: {e}", path.display()))
}

/// A folder that is the hub's alone: nobody else may look into it, whoever opened it.
fn own_folder(path: &Path) -> anyhow::Result<()> {
    folder(path)?;
    let narrowed = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    narrowed.map_err(|e| anyhow::anyhow!("cannot close the folder {} for others: {e}", path.display()))
}

/// Tells scripts and tests which ports were bound, when they asked for free ones.
#[allow(clippy::disallowed_methods)]
fn write_ports(root: &Path, [secure, admin]: [u16; 2]) -> anyhow::Result<()> {
    let dir = root.join("run");
    own_folder(&dir)?;
    let temporary = dir.join("ports.json.new");
    fs::write(&temporary, json!({"secure": secure, "admin": admin}).to_string())?;
    Ok(fs::rename(&temporary, dir.join("ports.json"))?)
}
