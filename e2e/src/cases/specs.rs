//! Upstream's own API-machinery specs, those that need no running pods, with one user's token straight to the
//! apiserver and through the hub at the same time. What passes direct passes through the hub.

use crate::link;
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// What the specs may take on a slow machine; ginkgo ends them then, and the case fails.
const LIMIT: &str = "--ginkgo.timeout=8m";
/// The groups of specs whose requests a hub could answer otherwise than the apiserver: reads, watches, discovery, forms.
const FOCUS: &str = "AggregatedDiscovery|ServerSideApply|support for API chunking|Discovery|\
    FieldValidation|OpenAPIV3|client-go should negotiate|Server request timeout|server version|\
    Table transformation|Watchers|API Streaming";
/// What waits for minutes, needs programs in pods, kubectl of the test's own version, or a gate that is off; and what
/// uses a fixed name, so that it cannot run twice at a time.
const SKIP: &str = "CustomResourceDefinition Watch|\\[Slow\\]|\\[Disruptive\\]|\\[Flaky\\]|\\[Feature:|Aggregated APIServer|\
    PublishOpenAPI|sample-apiserver|ConversionWebhook|compacted away";

/// What became of one spec.
#[derive(Debug, Deserialize)]
struct Spec {
    name: String,
    state: String,
    seconds: f64,
    #[serde(default)]
    message: String,
}

type Specs = BTreeMap<String, Spec>;

pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    link::heal()?;
    world.node.start_hub()?;
    world.wait_for("Online", HOMECOMING)?;
    let (hub, cloud) = world.operator_configs()?;
    let planned = specs(world, "specs-planned", &cloud, &["--ginkgo.dry-run"])?;
    let (direct, through) = std::thread::scope(|scope| {
        let direct = scope.spawn(|| specs(world, "specs-direct", &cloud, &[]));
        let through = scope.spawn(|| specs(world, "specs-hub", &hub, &[]));
        (direct.join(), through.join())
    });
    let (Ok(direct), Ok(through)) = (direct, through) else { bail!("a thread that ran specs failed") };
    let (direct, through) = (direct?, through?);
    for (name, ran) in [("direct", &direct), ("through the hub", &through)] {
        whole(&planned, ran).with_context(|| format!("the run {name} was cut short"))?;
    }
    judge(world, &direct, &through)
}

/// An error when a planned spec has not come to an end of its own.
fn whole(planned: &Specs, ran: &Specs) -> Result<()> {
    let ended = |name: &&String| {
        ran.get(*name)
            .is_some_and(|spec| !matches!(spec.state.as_str(), "interrupted" | "aborted" | "timedout"))
    };
    let cut: Vec<_> = planned.keys().filter(|name| !ended(name)).collect();
    match cut.first() {
        None => Ok(()),
        Some(first) => {
            let seconds: f64 = ran.values().map(|spec| spec.seconds).sum();
            bail!(
                "{} of {} specs have no end after {seconds:.0} s, such as {first}",
                cut.len(),
                planned.len()
            )
        }
    }
}

/// Runs the specs with that kubeconfig and these flags beside the usual ones.
fn specs(world: &World, name: &str, config: &Path, more: &[&str]) -> Result<Specs> {
    let program = world.settings.specs.as_ref().context("the specs were not built")?;
    let logs = world.settings.run.join("logs");
    let results = logs.join(format!("{name}.jsonl"));
    let log = File::create(logs.join(format!("{name}.log")))?;
    // Its exit code says whether all passed, which is for `judge` to say.
    Command::new(program)
        .arg(format!("--kubeconfig={}", config.display()))
        .arg(format!("--results={}", results.display()))
        .arg(format!("--kubectl-path={}", world.settings.kubectl.display()))
        .arg(format!("--ginkgo.focus={FOCUS}"))
        .arg(format!("--ginkgo.skip={SKIP}"))
        .args(more)
        .args([LIMIT, "--ginkgo.no-color", "--ginkgo.seed=1", "--dump-logs-on-failure=false"])
        .current_dir(&world.settings.run)
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    let lines = std::fs::read_to_string(&results).with_context(|| format!("{name} left no results"))?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).map(named).collect()
}

fn named(spec: Result<Spec>) -> Result<(String, Spec)> {
    spec.map(|spec| (spec.name.clone(), spec))
}

fn judge(world: &mut World, direct: &Specs, through: &Specs) -> Result<()> {
    let passed = |specs: &Specs| specs.values().filter(|spec| spec.state == "passed").count();
    let (alone, hub) = (passed(direct), passed(through));
    world.report.count("upstream specs", direct.len());
    for (name, specs) in [("direct", direct), ("through the hub", through)] {
        let seconds = specs.values().map(|spec| spec.seconds).sum();
        world.report.figure(&format!("upstream specs {name}, time"), seconds, "s", None);
    }
    world.report.count("upstream specs that pass direct", alone);
    world.report.count("upstream specs that pass through the hub", hub);
    let lost: Vec<_> = direct
        .values()
        .filter(|spec| spec.state == "passed")
        .filter_map(|spec| match through.get(&spec.name) {
            Some(same) if same.state == "passed" => None,
            Some(other) => {
                Some(format!("{} {} after {:.0} s: {}", spec.name, other.state, other.seconds, other.message))
            }
            None => Some(format!("{} was not run", spec.name)),
        })
        .collect();
    if !lost.is_empty() {
        bail!("{} specs pass direct and not through the hub: {}", lost.len(), lost.join("; "));
    }
    if alone == 0 {
        bail!("no spec passed: {direct:?}");
    }
    Ok(())
}
