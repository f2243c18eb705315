//! The composition root: reads the flags, waits for the leader lease, starts the controllers, stops.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::Clock;
use crate::config::Config;
use crate::controllers::{Context, TABLE, Work};
use crate::lead::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::serve::Health;
use crate::tasks::{self, Task};
use crate::{nodes, rights, serve};

/// Exit code for flags that cannot be used (as clap's own).
const EXIT_USAGE: u8 = 2;
/// How soon rights are asked for again while one is missing.
const RIGHTS_AGAIN: Duration = Duration::from_secs(30);

/// The whole program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match Config::read(args) {
        Ok(config) => config,
        Err(error) => {
            // Help and version are errors for clap, too; nobody is left to tell that stdout is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> Result<()> {
    let levels: Targets = config.log.parse().context("--log")?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines.log_internal_errors(false)).with(levels).init();
    // Err: another part of the process has installed it, which is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client(&config).await?;
        run(config, client, Clock::system(), told_to_stop()?, |_, _| ()).await
    })
}

/// A client as the flags say. Errors: a kubeconfig, or the files of the ServiceAccount, that cannot be used.
pub async fn client(config: &Config) -> Result<kube::Client> {
    let mut settings = match &config.kubeconfig {
        None => kube::Config::incluster().context("no --kubeconfig, and not in a pod")?,
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
            let options = KubeConfigOptions::default();
            let read = kube::Config::from_custom_kubeconfig(file, &options).await;
            read.with_context(|| path.display().to_string())?
        }
    };
    // What failed is decided about anew; a repeated request would be about a world of before.
    settings.default_retry = false;
    settings.connect_timeout = Some(Duration::from_secs(5));
    Ok(kube::Client::try_from(settings)?)
}

/// Works until `stop`. `bound` is told where health and metrics are served, and what the controllers are given.
/// Errors: the address cannot be bound, the leader lease was lost.
pub async fn run(
    config: Config,
    client: kube::Client,
    clock: Clock,
    stop: impl Future<Output = ()>,
    bound: impl FnOnce(SocketAddr, &Context),
) -> Result<()> {
    let (listener, address) = serve::bind(config.admin()).await?;
    tracing::info!(%address, "health and metrics are served");
    let context = context(config, client, clock);
    bound(address, &context);
    let (health, metrics) = (context.health.clone(), context.metrics.clone());
    let _admin = tasks::spawn("admin", serve::serve(listener, health, metrics));
    let _rights = tasks::spawn("rights", ask_for_rights(context.clone()));
    tokio::pin!(stop);
    if !context.config.lead.leader_elect {
        let _work = work(&Context { leadership: Leadership::alone(), ..context });
        stop.await;
        return Ok(());
    }
    let mut candidate = candidate(&context);
    tokio::select! {
        () = candidate.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    let work = work(&Context { leadership: candidate.leadership(), ..context });
    let lost = tokio::select! {
        lost = candidate.hold() => Some(lost),
        () = &mut stop => None,
    };
    drop(work);
    match lost {
        Some(lost) => Err(lost.into()),
        None => {
            candidate.release().await;
            Ok(())
        }
    }
}

fn context(config: Config, client: kube::Client, clock: Clock) -> Context {
    Context {
        client,
        pace: Arc::new(Pace::new(clock.clone(), config.kube_api_qps, config.kube_api_burst)),
        config: Arc::new(config),
        clock,
        leadership: Leadership::default(),
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::default()),
    }
}

/// The candidate has a name that no other process has, so that a restarted one is not taken for its predecessor.
fn candidate(context: &Context) -> Candidate {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "yurt".to_owned());
    let started = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let me = format!("{host}_{}_{started:x}", std::process::id());
    let (client, clock) = (context.client.clone(), context.clock.clone());
    Candidate::new(client, clock, context.config.lead.clone(), &context.config.namespace, me)
}

/// Starts every controller that is chosen; they stop when the tasks are dropped.
fn work(context: &Context) -> Vec<Task> {
    context.metrics.leading.set(1);
    context.health.leads(true);
    let chosen = || TABLE.iter().filter(|c| context.config.runs(c.name));
    let mut tasks: Vec<Task> = chosen()
        .filter_map(|controller| match controller.work {
            Work::Task(task) => Some(tasks::spawn(controller.name, task(context.clone()))),
            Work::Nodes => None,
        })
        .collect();
    if chosen().any(|c| matches!(c.work, Work::Nodes)) {
        tasks.extend(nodes::start(context));
    } else {
        context.health.read();
    }
    tasks
}

/// Asks until nothing is missing.
async fn ask_for_rights(context: Context) {
    let mut known = None;
    loop {
        match rights::missing(&context.client, &context.config).await {
            Ok(missing) => {
                if known.as_ref() != Some(&missing) {
                    missing.iter().for_each(|right| tracing::error!(right, "a right is missing"));
                    known = Some(missing.clone());
                }
                let complete = missing.is_empty();
                context.health.rights(missing);
                if complete {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "the rights cannot be asked for"),
        }
        tokio::time::sleep(RIGHTS_AGAIN.min(Duration::from_secs(if known.is_none() { 2 } else { 30 }))).await;
    }
}

fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
    })
}
