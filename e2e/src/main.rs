//! End-to-end cases on real Kubernetes: etcd, kube-apiserver, controller manager, scheduler, kubelet,
//! containerd and the hub, all on this machine.
//!
//! `run` checks what is needed, builds what is missing and starts itself again inside namespaces of its
//! own (network, mounts, processes): `init` is process 1 there and cleans up, `cases` is the work. Whatever
//! ends a run, the kernel ends all of it, and nothing of the machine's own network or files is touched.

mod beginners;
mod binaries;
mod cases;
mod cgroup;
mod changes;
mod client;
mod client_go;
mod cluster;
mod container;
mod files;
mod group;
mod image;
mod informers;
mod init;
mod kube_rs;
mod kubectl;
mod link;
mod node;
mod pki;
mod pods;
mod process;
mod protobuf;
mod record;
mod report;
mod session;
mod settings;
mod slices;
mod stream;
mod wait;
mod workload;
mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// End-to-end cases of Yurt on real Kubernetes.
#[derive(Parser)]
#[command(name = "e2e", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds what is missing and runs the cases; needs root.
    Run(settings::RunArgs),
    /// Process 1 of a run's namespaces; started by `run`.
    #[command(hide = true)]
    Init { settings: PathBuf },
    /// The cases themselves; started by `init`.
    #[command(hide = true)]
    Cases { settings: PathBuf },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => settings::prepare(&args).and_then(|settings| init::enter(&settings)),
        Command::Init { settings } => settings::load(&settings).and_then(|loaded| init::run(&loaded)),
        Command::Cases { settings } => settings::load(&settings).and_then(|loaded| run_cases(&loaded)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("e2e: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_cases(settings: &settings::Settings) -> Result<ExitCode> {
    let failed = cases::run(settings)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
