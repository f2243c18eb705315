//! Scenario 7: clients of client-go and kube-rs that begin their watches at version 0, at a known one, at one that is too
//! old and at one to come; with the link and without it, through a crash of the hub and the return of the link. The
//! same clients of the apiserver itself are the control.

use crate::beginners::Beginners;
use crate::changes::{self, Changes};
use crate::group::Group;
use crate::link::{self, Cut};
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

const NOTICED: Duration = Duration::from_secs(20);
/// A version to come lies so far ahead: a round of changes is about 30.
const AHEAD: u64 = 45;
/// The version of a time when the cluster was empty.
const ANCIENT: u64 = 1;

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    changes::with(world, story)
}

/// Clients that begin at each kind of version.
struct Beginnings {
    zero: Beginners,
    known: Beginners,
    old: Beginners,
    future: Option<Beginners>,
}

impl Beginnings {
    fn prepare(world: &World, config: &Path, old: Beginners, changes: &Changes) -> Result<Beginnings> {
        Ok(Beginnings {
            zero: Beginners::who_know_nothing(world, config, "from 0", 0)?,
            known: Beginners::who_know_this(world, config, "from a known version", changes)?,
            old,
            future: None,
        })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Beginners> {
        [&mut self.zero, &mut self.known, &mut self.old].into_iter().chain(&mut self.future)
    }

    fn begin(&mut self, told: usize, changes: &Changes) -> Result<()> {
        self.all().try_for_each(|some| some.begin(told, changes))
    }

    /// What the cloud holds now is what the stores should.
    fn remember_truth(&mut self) -> Result<()> {
        self.all().try_for_each(Beginners::remember_truth)
    }

    fn hold(&mut self, told: usize, changes: &Changes) -> Result<()> {
        self.all().try_for_each(|some| some.hold(told, changes))
    }

    /// Nobody but those who were too old had to list.
    fn went_on(&mut self) -> Result<()> {
        let some = [&mut self.zero, &mut self.known].into_iter().chain(&mut self.future);
        some.into_iter().try_for_each(Beginners::went_on)
    }

    fn count(&mut self) -> Result<usize> {
        self.all().map(Beginners::count).sum()
    }
}

fn story(world: &mut World, changes: &mut Changes) -> Result<()> {
    let (config, direct) = world.operator_configs()?;
    let old = |config| Beginners::who_know_this(world, config, "from an old version", changes);
    let (old_direct, old_online) = (old(&direct)?, old(&config)?);
    // Nothing that the node holds reaches back so far.
    let old_offline = Beginners::who_know_nothing(world, &config, "from an ancient version", ANCIENT)?;
    changes.round()?;
    // These have the hub keep everything from now on.
    let mut keepers = Group::prepare(world, &config, "keeping")?;
    keepers.begin(changes.record.count())?;
    changes.round()?;
    keepers.is_true(world, changes)?;
    let mut control = Beginnings::prepare(world, &direct, old_direct, changes)?;
    let mut online = Beginnings::prepare(world, &config, old_online, changes)?;
    let mut offline = Beginnings::prepare(world, &config, old_offline, changes)?;
    changes.round()?;
    keepers.is_true(world, changes)?;
    let now = changes.record.count();
    let to_come = changes.record.newest(now) + AHEAD;
    control.future = Some(Beginners::at(&direct, "from a version to come", to_come));
    online.future = Some(Beginners::at(&config, "from a version to come", to_come));
    for (name, some) in [("direct", &mut control), ("online", &mut online)] {
        some.begin(now, changes)?;
        some.remember_truth()?;
        some.hold(now, changes).context(name).context("at the beginning")?;
    }
    changes.round()?;
    changes.round()?;
    for (name, some) in [("direct", &mut control), ("online", &mut online)] {
        some.remember_truth()?;
        some.hold(changes.record.count(), changes).context(name)?;
    }
    outage(world, changes, &config, &mut online, &mut offline)?;
    for (name, some) in [("direct", &mut control), ("online", &mut online), ("offline", &mut offline)] {
        some.remember_truth()?;
        let told = changes.record.count();
        some.hold(told, changes).context(name).context("back online")?;
        some.went_on().context(name)?;
    }
    world.report.count("beginnings, clients of the hub", online.count()? + offline.count()?);
    Ok(())
}

/// The cloud changes what the node cannot hear of; others begin; the hub crashes; the link comes back.
fn outage(
    world: &mut World,
    changes: &mut Changes,
    config: &Path,
    online: &mut Beginnings,
    offline: &mut Beginnings,
) -> Result<()> {
    link::cut(Cut::BlackHole)?;
    world.wait_for("Offline", NOTICED)?;
    let lost = changes.record.count();
    online.remember_truth()?;
    offline.remember_truth()?;
    changes.round()?;
    // Who was at the apiserver until now is ahead of the hub.
    let mut ahead = Beginners::who_know_this(world, config, "ahead of the hub", changes)?;
    ahead.remember_truth()?;
    offline.future = Some(ahead);
    online.hold(lost, changes).context("offline, begun before")?;
    offline.begin(lost, changes)?;
    offline.hold(lost, changes).context("offline")?;
    offline.old.were_too_old()?;
    crash(world, [&mut *online, &mut *offline])?;
    online.hold(lost, changes).context("begun before, after the crash")?;
    offline.hold(lost, changes).context("after the crash")?;
    link::heal()?;
    world.wait_for("Online", HOMECOMING)?;
    changes.round()
}

/// The hub crashes, and every client comes again.
fn crash(world: &mut World, all: [&mut Beginnings; 2]) -> Result<()> {
    let mut before = Vec::new();
    for some in all {
        for some in some.all() {
            before.push((some.grown_up()?, some));
        }
    }
    world.node.crash_hub()?;
    before.into_iter().try_for_each(|(before, some)| some.came_again(&before))
}
