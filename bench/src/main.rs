//! `make bench`: what yurthub costs, measured beside direct access and nginx on the same work in one run.
//!
//! Starts the release binary, nginx and the simulated apiserver as processes of their own, all on loopback.
//! A figure that is missed is printed as missed; only `--strict` makes it the exit code.
//! How each figure is measured is told in `docs/performance.md` and at the head of each file in `cases`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod cloud;
mod informer;
mod nginx;
mod process;
mod report;
mod rounds;
mod trace;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use report::Report;

#[derive(Debug, Parser)]
#[command(about = "Figures of yurthub beside direct access and nginx")]
struct Flags {
    /// Only the cases with this in their name (gets, convert, lists, events, memory, start, outage, manager, sharing).
    #[arg(long)]
    only: Option<String>,
    /// Fewer and shorter rounds: for a look, not for figures.
    #[arg(long)]
    quick: bool,
    /// Exit code 1 when a figure is missed.
    #[arg(long)]
    strict: bool,
    /// Where the rows go as JSON.
    #[arg(long, default_value = "target/report/bench.json")]
    report: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == cloud::ROLE) {
        return cloud::run(arguments.into_iter().skip(1));
    }
    match bench(&Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the cases; false when the exit code has to say that something was missed.
fn bench(flags: &Flags) -> Result<bool> {
    ensure!(!cfg!(debug_assertions), "figures of a debug build mean nothing: use --release (or make bench)");
    build("yurt-hub", "YURTHUB_BIN")?;
    build("yurt-controller-manager", "YURT_MANAGER_BIN")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    for case in cases::all() {
        if flags.only.as_ref().is_none_or(|only| case.name.contains(only.as_str())) {
            eprintln!("{} ...", case.name);
            report.add(case.name, runtime.block_on(cases::run(case, flags.quick)));
        }
    }
    ensure!(!report.is_empty(), "no case has {:?} in its name", flags.only);
    print!("{}", report.table());
    report.write(&flags.report, flags.only.is_some())?;
    Ok(!flags.strict || report.missed() == 0)
}

/// The binary that is measured is the one of this tree, unless the environment names another.
fn build(package: &str, unless: &str) -> Result<()> {
    if std::env::var_os(unless).is_some() {
        return Ok(());
    }
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(2).context("a target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--package", package, "--target-dir"]).arg(target);
    let built = build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status()?;
    ensure!(built.success(), "{package} cannot be built");
    Ok(())
}
