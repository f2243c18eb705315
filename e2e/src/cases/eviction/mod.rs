//! Scenario 11, the eviction matrix: {10 min, 24 h, for ever} x {cut, dead, whole pool silent} x {Deployment,
//! StatefulSet, bare pod, pod of the outage} x {undisturbed, controller restarted, away when the nodes fall silent,
//! leader changed} on a real control plane with simulated nodes, and the same without our controller as the control: it shows that the
//! stock cluster deletes every one of these pods, so that the matrix can fail.
//!
//! `plan` and `judge` say what is expected and what came of it (pure); `stage` is the cluster with its
//! simulated nodes (`fleet`, `status`, `record`); `wave` is one outage of all groups.

mod fleet;
mod group;
mod judge;
pub mod kubelet;
mod objects;
mod people;
mod plan;
mod record;
mod rows;
mod stage;
mod status;
mod table;
mod wave;

use crate::cases::controller::Controller;
use crate::world::World;
use anyhow::{Context, Result, anyhow, bail};
use plan::{Disturbance, GRACE};
use rows::Row;
use stage::Stage;
use std::time::{Duration, Instant};
use wave::{Moment, Outcome};

/// What came of the cells and of the rows beside them.
#[derive(Default)]
struct Outcomes {
    cells: Vec<Outcome>,
    rows: Vec<Row>,
}

/// Runs the matrix. The real node is dark meanwhile, and left so.
pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    let mut outcomes = Outcomes::default();
    let ran = hurried(world, GRACE, |world| matrix(world, &mut outcomes));
    // What came before an error is told as well.
    let reported = report(world, &outcomes);
    ran.and(reported)
}

/// Does something while the stock controller manager is quick; afterwards it is as before.
fn hurried<T>(world: &mut World, grace: Duration, work: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
    world.cluster.restart_controller_manager(&shortened(grace))?;
    world.node.spare(&world.cluster)?;
    let outcome = work(world);
    world.cluster.restart_controller_manager(&[])?;
    world.node.spare(&world.cluster)?;
    outcome
}

/// The control first: as soon as the controller's objects are in the cluster, it is no stock cluster any more.
fn matrix(world: &mut World, outcomes: &mut Outcomes) -> Result<()> {
    let mut stage = Stage::start(&world.cluster.admin)?;
    let cells =
        timed(&stage, "control", |stage, name| wave::run(stage, name, Disturbance::Absent, |_| Ok(())))?;
    outcomes.cells.extend(cells);
    let mut controller = Controller::install(world, GRACE * 2 / 3)?;
    stage.pools = true;
    controller.start()?;
    controller.wait_for_leader()?;
    let (cells, rows) = timed(&stage, "calm", calm)?;
    outcomes.cells.extend(cells);
    outcomes.rows = rows;
    outcomes.cells.extend(timed(&stage, "restart", |stage, name| {
        wave::run(stage, name, Disturbance::Restarted, |moment| match moment {
            Moment::BeforeSilence => Ok(()),
            Moment::MidOutage => controller.restart_leader(),
        })
    })?);
    outcomes.cells.extend(timed(&stage, "late", |stage, name| {
        wave::run(stage, name, Disturbance::Late, |moment| match moment {
            Moment::BeforeSilence => controller.kill_all(),
            Moment::MidOutage => controller.start(),
        })
    })?);
    controller.start()?;
    outcomes.cells.extend(timed(&stage, "leader", |stage, name| {
        wave::run(stage, name, Disturbance::LeaderChanged, |moment| match moment {
            Moment::BeforeSilence => Ok(()),
            Moment::MidOutage => controller.change_leader(),
        })
    })?);
    Ok(())
}

/// The undisturbed wave, and the rows beside it.
fn calm(stage: &Stage, name: &str) -> Result<(Vec<Outcome>, Vec<Row>)> {
    std::thread::scope(|scope| {
        let rows = scope.spawn(|| rows::run(stage, name));
        let outcomes = wave::run(stage, name, Disturbance::Undisturbed, |_| Ok(()));
        let rows = rows.join().map_err(|_| anyhow!("the rows panicked"))?;
        Ok((outcomes?, rows.context("the rows beside the matrix")?))
    })
}

/// A wave from its set-up to the removal of all that it made.
fn timed<T>(stage: &Stage, name: &str, run: impl FnOnce(&Stage, &str) -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let outcome = run(stage, name).with_context(|| format!("wave {name}"))?;
    stage.clear(name)?;
    println!("       wave {name} ({:.0} s)", start.elapsed().as_secs_f64());
    Ok(outcome)
}

/// The flags that make the stock cluster quick: it notices within seconds, and evicts from all nodes at once
/// however many are silent, as it does in a cluster that is large enough.
fn shortened(grace: Duration) -> Vec<String> {
    vec![
        format!("--node-monitor-grace-period={}s", grace.as_secs()),
        "--node-monitor-period=1s".to_string(),
        "--node-eviction-rate=1000".to_string(),
        "--secondary-node-eviction-rate=1000".to_string(),
        "--large-cluster-size-threshold=0".to_string(),
        "--kube-api-qps=200".to_string(),
        "--kube-api-burst=400".to_string(),
    ]
}

fn report(world: &mut World, outcomes: &Outcomes) -> Result<()> {
    let Outcomes { cells, rows } = outcomes;
    for Outcome { cell, got } in cells {
        let name =
            format!("eviction: {}, {}, {}, {}", cell.autonomy, cell.failure, cell.workload, cell.disturbance);
        world.report.cell(&name, got.is(cell.expected()));
    }
    for row in rows {
        world.report.cell(&format!("eviction: {}", row.name), row.got.is_ok());
    }
    match table::print(cells, rows) {
        0 => Ok(()),
        failed => bail!("{failed} cells are not as expected"),
    }
}
