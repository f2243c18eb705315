//! The outage story on one machine: a cloud, a node, and the link between them.
//!
//! One binary plays three parts, told apart by the name it is started under (`argv[0]`): the story itself, the
//! real `yurthub`, and the simulated `apiserver`. The two latter are processes of their own, which the story
//! starts, kills and starts again.

mod report;
mod stage;
mod story;
mod wait;

use std::{ffi::OsString, io::IsTerminal, path::Path, process::ExitCode};

use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use report::Report;
use stage::Stage;
use yurt_testkit::cluster::Folder;

/// The exit code of a program that Ctrl-C has ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Tells on this machine how yurthub carries a Kubernetes node through a power cut with no cloud.
///
/// It starts a simulated kube-apiserver and the real yurthub as processes, runs a kubelet-like node with ten
/// pods, cuts the link and the power, and brings everything home again. Every step is checked. It needs no
/// root, no network beyond loopback and no fixed port, takes about 10 seconds and leaves nothing behind.
///
/// Exit code: 0 when every check passed, 1 when one failed, 2 for a wrong flag, 130 when it was interrupted.
#[derive(Debug, Parser)]
#[command(name = "playground", version)]
struct Flags {
    /// Leave everything running at the end and print the path of a kubeconfig for kubectl.
    ///
    /// Ctrl-C ends it; on a terminal, Enter cuts the link and heals it again.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|n| n.to_str()) {
        Some("yurthub") => part(|| yurt_hub::hub::main(std::env::args_os())),
        Some("apiserver") => part(|| apiserver(std::env::args_os().skip(1))),
        _ => play(&Flags::parse()),
    }
}

/// Plays a part of the story: no longer than the story itself, however that ends.
fn part(play: impl FnOnce() -> ExitCode) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("this process may outlive the story: {error}");
    }
    play()
}

fn apiserver(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = arguments.map(|a| a.to_string_lossy().into_owned());
    match yurt_testkit::apiserver::process::run_from_args(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apiserver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(flags: &Flags) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(flags)));
    played.unwrap_or_else(|error| {
        eprintln!("playground: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut folder = Folder::new("playground");
    let ended = tell(flags, folder.path()).await;
    if ended.as_ref().map_or(true, |code| *code == ExitCode::FAILURE) {
        folder.keep();
    }
    ended
}

async fn tell(flags: &Flags, folder: &Path) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(story::CHAPTERS);
    report.say(story::OPENING);
    let mut stage = tokio::select! {
        stage = Stage::set(folder) => stage?,
        ended = interrupted() => return ended.map(|()| ExitCode::from(INTERRUPTED)),
    };
    let told = tokio::select! {
        // A failed check has been reported where it happened; it ends the story, not the program.
        _ = story::tell(&mut stage, &mut report) => Ok(true),
        ended = interrupted() => ended.map(|()| false),
    };
    let ended = match told {
        Ok(true) => close(flags, &stage, &report).await,
        Ok(false) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(error),
    };
    stage.clear().await;
    ended
}

async fn close(flags: &Flags, stage: &Stage, report: &Report) -> anyhow::Result<ExitCode> {
    report.close();
    if flags.keep {
        stay(stage, report).await?;
    }
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything stays until Ctrl-C, and the link is in the reader's hand.
async fn stay(stage: &Stage, report: &Report) -> anyhow::Result<()> {
    let kubeconfig = stage.write_kubeconfig()?;
    report.say(&story::left_running(stage, &kubeconfig));
    let mut lines = typed_lines();
    let mut cut = false;
    loop {
        tokio::select! {
            ended = interrupted() => return ended,
            Some(()) = lines.recv() => {
                cut = !cut;
                if cut { stage.link.hold() } else { stage.link.heal() }
                report.say(if cut { "The link is cut. Enter heals it." } else { "The link is healed. Enter cuts it." });
            }
        }
    }
}

/// A message per line typed; none ever when nobody sits at a terminal.
fn typed_lines() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    if std::io::stdin().is_terminal() {
        std::thread::spawn(move || {
            let mut lines = std::io::stdin().lines();
            while lines.next().is_some_and(|line| line.is_ok()) && sender.blocking_send(()).is_ok() {}
        });
    }
    receiver
}

async fn interrupted() -> anyhow::Result<()> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}
