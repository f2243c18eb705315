//! Scenario 7: informers of client-go and kube-rs, plain and streaming, in JSON and protobuf and of metadata
//! alone, through an outage in which the hub crashes. Their stores are the cloud's truth, or the one in which
//! the cloud was lost; every change is told once; and nobody lists again because the link came or went.

use crate::changes::{self, Changes};
use crate::group::Group;
use crate::link::{self, Cut};
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

const NOTICED: Duration = Duration::from_secs(20);

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    changes::with(world, story)
}

fn story(world: &mut World, changes: &mut Changes) -> Result<()> {
    let (config, direct) = world.operator_configs()?;
    // What fails here as well is not the hub's.
    let mut control = Group::prepare(world, &direct, "direct")?;
    let mut first = Group::prepare(world, &config, "first")?;
    let mut late = Group::prepare(world, &config, "late")?;
    let start = changes.record.count();
    control.begin(start)?;
    first.begin(start)?;
    changes.round()?;
    control.is_true(world, changes)?;
    first.is_true(world, changes).context("online")?;
    first.listed_once().context("online")?;
    outage(world, changes, &mut first, &mut late)?;
    changes.round()?;
    for group in [&mut control, &mut first, &mut late] {
        group.is_true(world, changes).context("the round after the outage")?;
    }
    report(world, &mut first)?;
    late.listed_once().context("begun offline, at the end")?;
    first.listed_once().context("at the end")
}

/// The cloud changes what the node cannot hear of, other informers begin, the hub crashes, the link comes back.
fn outage(world: &mut World, changes: &mut Changes, first: &mut Group, late: &mut Group) -> Result<()> {
    link::cut(Cut::BlackHole)?;
    world.wait_for("Offline", NOTICED)?;
    first.remember_truth(world)?;
    late.remember_truth(world)?;
    let lost = changes.record.count();
    changes.round()?;
    first.holds(lost, changes).context("offline")?;
    late.begin(lost)?;
    late.holds(lost, changes).context("begun offline")?;
    first.listed_once().context("offline")?;
    first.grown_up()?;
    late.grown_up()?;
    let before = first.state()?;
    world.node.crash_hub()?;
    first.came_again(&before).context("after the crash")?;
    first.holds(lost, changes).context("after the crash")?;
    link::heal()?;
    let healed = Instant::now();
    world.wait_for("Online", HOMECOMING)?;
    first.is_true(world, changes).context("back online")?;
    late.is_true(world, changes).context("begun offline, now online")?;
    world.report.seconds("informers, link back to all changes told", healed.elapsed(), None);
    Ok(())
}

fn report(world: &mut World, group: &mut Group) -> Result<()> {
    let all = group.state()?;
    let extra: usize = all.values().map(|informer| informer.beginnings().saturating_sub(1)).sum();
    world.report.count("informers of real clients", all.len());
    world.report.count("informers, lists after the first", extra);
    Ok(())
}
