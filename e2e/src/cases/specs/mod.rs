//! Upstream's own API-machinery specs, all that need no running pods, with one user's token straight to the apiserver
//! and through the hub at the same time. What passes direct passes through the hub.

mod node;
mod plan;
mod results;

use crate::cluster::flag;
use crate::link;
use crate::wait::until_slowly;
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result, bail};
use node::StandIn;
use plan::{LANES, Lane};
use results::Spec;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::PoisonError;
use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

/// What a lane may take on a slow machine; ginkgo ends it then, and the case fails.
const LIMIT: &str = "--ginkgo.timeout=10m";
/// Some of upstream's specs fail by chance, direct as well: one compares the ages that two tables show, for one, and a
/// second may end between them.
const ATTEMPTS: &str = "--ginkgo.flake-attempts=2";
/// What all of them may take, those that take turns included.
const ALL: Duration = Duration::from_secs(21 * 60);
/// Between two heartbeats of the node; the cloud calls it silent after 50 s.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where the specs are run: direct or through the hub.
struct Side<'a> {
    name: &'static str,
    config: &'a Path,
}

/// The program with what is the same for every start.
struct Program<'a> {
    path: &'a Path,
    kubectl: &'a Path,
    run: &'a Path,
}

pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    link::heal()?;
    world.node.start_hub()?;
    world.wait_for("Online", HOMECOMING)?;
    // The specs of quotas wait for this, five minutes by default.
    restart_controller_manager(world, &["--resource-quota-sync-period=20s".to_string()])?;
    let outcome = StandIn::register(&world.cluster.admin).and_then(|node| compare(world, &node));
    restart_controller_manager(world, &[]).and(outcome)
}

fn restart_controller_manager(world: &mut World, flags: &[String]) -> Result<()> {
    world.cluster.restart_controller_manager(flags)?;
    world.node.spare(&world.cluster)
}

fn compare(world: &mut World, node: &StandIn) -> Result<()> {
    let (hub, cloud) = world.operator_configs()?;
    let settings = world.settings.clone();
    let path = settings.specs.as_deref().context("the specs were not built")?;
    let program = Program { path, kubectl: &settings.kubectl, run: &settings.run };
    let dry =
        |name, flags: &[String]| program.run(name, &cloud, &[flags, &["--ginkgo.dry-run".into()]].concat());
    let offered = dry("specs-offered", &plan::offered())?;
    let planned = dry("specs-planned", &plan::planned())?;
    let sides = [Side { name: "direct", config: &cloud }, Side { name: "hub", config: &hub }];
    let start = Instant::now();
    let [direct, through] = scope(|scope| {
        let lanes = sides.each_ref().map(|side| start_lanes(scope, &program, side));
        renewed(node, &lanes)?;
        let joined = lanes.map(|lanes| collect(lanes).and_then(|lanes| results::joined(&planned, lanes)));
        anyhow::Ok(joined)
    })?;
    world.report.count("upstream specs that there are", offered.len());
    world.report.count("upstream specs that are run", planned.len());
    world.report.seconds("upstream specs, both sides", start.elapsed(), None);
    results::judge(&mut world.report, &direct.context("direct")?, &through.context("through the hub")?)
}

type Handle<'scope> = ScopedJoinHandle<'scope, Result<Vec<Spec>>>;

fn start_lanes<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    program: &'env Program<'env>,
    side: &'env Side<'env>,
) -> Vec<Handle<'scope>> {
    LANES.iter().map(|lane| scope.spawn(|| run_lane(program, side, lane))).collect()
}

/// Runs a lane, after the other side's when its names are the whole cluster's.
fn run_lane(program: &Program, side: &Side, lane: &Lane) -> Result<Vec<Spec>> {
    let _turn = lane.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
    program.run(&format!("specs-{}-{}", side.name, lane.name), side.config, &lane.flags())
}

/// Waits until all lanes have ended and keeps the node ready meanwhile.
fn renewed<const N: usize>(node: &StandIn, lanes: &[Vec<Handle>; N]) -> Result<()> {
    until_slowly("the specs to end", ALL, HEARTBEAT, || {
        node.renew()?;
        let left = lanes.iter().flatten().filter(|lane| !lane.is_finished()).count();
        if left == 0 { Ok(()) } else { bail!("{left} lanes still run") }
    })
}

fn collect(lanes: Vec<Handle>) -> Result<Vec<Vec<Spec>>> {
    let ended = |lane: Handle| lane.join().unwrap_or_else(|_| bail!("a thread that ran specs failed"));
    lanes.into_iter().map(ended).collect()
}

impl Program<'_> {
    /// Runs specs with that kubeconfig and these flags beside the usual ones. The exit code says whether all passed,
    /// which is for `judge` to say.
    fn run(&self, name: &str, config: &Path, flags: &[String]) -> Result<Vec<Spec>> {
        let logs = self.run.join("logs");
        let results = logs.join(format!("{name}.jsonl"));
        let log = File::create(logs.join(format!("{name}.log")))?;
        Command::new(self.path)
            .arg(flag("kubeconfig", config))
            .arg(flag("results", &results))
            .arg(flag("kubectl-path", self.kubectl))
            .args(flags)
            .args([LIMIT, ATTEMPTS, "--ginkgo.no-color", "--ginkgo.seed=1", "--dump-logs-on-failure=false"])
            .current_dir(self.run)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| format!("starting {}", self.path.display()))?;
        results::read(&results)
    }
}
