//! The composition root: makes the parts, connects them, runs them until the stop.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use yurt_store::{OpenReport, Options, SealKey, StoreError};

use crate::admin::Admin;
use crate::cache::{Cache, Front};
use crate::cloud::Cloud;
use crate::config::{Config, Flags};
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
/// How often unused parts of the cache are looked for.
const GARBAGE_EVERY: std::time::Duration = std::time::Duration::from_secs(600);

/// Runs the binary with these arguments: exit code 2 for a wrong setting, 1 for what went wrong later.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let config = match flags.resolve() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("yurthub: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = log_to_stderr(&config.log) {
        eprintln!("yurthub: log: {error}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(config)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yurthub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(filter: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| format!("{filter:?}: {e}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// Runs the hub until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    folder(&config.root_dir)?;
    let secure =
        listen::bind(SocketAddr::new(config.bind_address, config.secure_port), "proxy-secure-port").await?;
    let admin =
        listen::bind(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), config.admin_port), "serve-port").await?;
    let ports = [secure.local_addr()?.port(), admin.local_addr()?.port()];

    let metrics = Arc::new(Metrics::default());
    let (stop, shutdown) = tasks::shutdown();
    let link = Link::new();
    let connectivity = link.connectivity();
    let credentials = Arc::new(Credentials::load(config.credentials.clone()));
    let cloud = Arc::new(Cloud::new(&config.servers, Arc::clone(&credentials), link.signal()));
    // The first probe travels while the store is read.
    tasks::spawn("connectivity", Failure::Fatal, link.run(Arc::clone(&cloud), shutdown.clone()));

    let (front, opened, store_threads) = open_store(&config)?;
    let cache = Cache::load(
        front,
        opened,
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

    let names = ca::serving_names(config.bind_address, &config.node_name, &config.extra_names);
    let serving = ca::serving_certificate(&config.root_dir.join("pki"), &names)?;
    let terminal = Arc::new(Terminal::new(serving, &credentials)?);
    let (renewed, watched) =
        ((Arc::clone(&terminal), Arc::clone(&cloud), Arc::clone(&credentials)), Arc::clone(&credentials));
    let renew = move || {
        renewed.0.reload(&renewed.2);
        renewed.1.renew();
    };
    tasks::spawn("certificate files", Failure::Fatal, watch_files(watched, renew, shutdown.clone()));
    let admin_page = Admin {
        cache: Arc::clone(&cache),
        cloud: Arc::clone(&cloud),
        connectivity: connectivity.clone(),
        credentials,
        metrics: Arc::clone(&metrics),
        report,
    };
    tasks::spawn("admin", Failure::Fatal, Arc::new(admin_page).run(admin, shutdown.clone()));
    tasks::spawn("garbage", Failure::Local, collect_garbage(Arc::clone(&cache), shutdown.clone()));

    let pipeline = Arc::new(Pipeline::new(Arc::clone(&cache), cloud, connectivity, Arc::clone(&metrics)));
    write_ports(&config.root_dir, ports)?;
    notify("READY=1");
    tracing::info!(secure = ports[0], admin = ports[1], node = config.node_name, "yurthub serves");
    let listener = Listener { socket: secure, terminal, metrics };
    let served =
        tokio::spawn(listener.run(move |request, peer| Arc::clone(&pipeline).serve(request, peer), shutdown));
    wait_for_stop().await?;
    notify("STOPPING=1");
    tracing::info!("stopping");
    stop.stop();
    let _ = served.await;
    close(cache, store_threads)
}

async fn wait_for_stop() -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Waits for the store to close when nobody uses it any more; tasks that still hold it end with the process.
fn close(cache: Arc<Cache>, threads: Vec<std::thread::JoinHandle<()>>) -> anyhow::Result<()> {
    if let Some(cache) = Arc::into_inner(cache) {
        drop(cache);
        for thread in threads {
            let _ = thread.join();
        }
    }
    Ok(())
}

async fn collect_garbage(cache: Arc<Cache>, mut shutdown: tasks::Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(GARBAGE_EVERY) => cache.collect_garbage().await,
        }
    }
}

fn open_store(config: &Config) -> anyhow::Result<(Front, OpenReport, Vec<std::thread::JoinHandle<()>>)> {
    folder(&config.store_dir)?;
    folder(&config.root_dir.join("pki"))?;
    let path = key_path(config);
    let key = SealKey::load_or_create(&path)
        .map_err(|e| anyhow::anyhow!("the store's key {}: {e}", path.display()))?;
    let (entries, bytes, events) = JOURNAL;
    let options = Options {
        dir: config.store_dir.clone(),
        key,
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
    if let OpenReport::Damaged { set_aside, why } = &opened.report {
        tracing::error!(set_aside = %set_aside.display(), why, "the store was damaged: a fresh one is begun");
    }
    let (front, threads) = Front::start(opened.writer, opened.reader)?;
    Ok((front, opened.report, threads))
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

/// Tells scripts and tests which ports were bound, when they asked for free ones.
#[allow(clippy::disallowed_methods)]
fn write_ports(root: &Path, [secure, admin]: [u16; 2]) -> anyhow::Result<()> {
    let dir = root.join("run");
    folder(&dir)?;
    let temporary = dir.join("ports.json.new");
    fs::write(&temporary, json!({"secure": secure, "admin": admin}).to_string())?;
    Ok(fs::rename(&temporary, dir.join("ports.json"))?)
}
