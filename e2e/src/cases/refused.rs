//! A link that is refused is noticed by the first that is sent over it, and one that is mended is taken up again.

use crate::container::NODE_NAME;
use crate::link::{self, Cut};
use crate::workload::PODS;
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Figure of the design.
const NOTICED: Duration = Duration::from_secs(1);
/// Beyond this the hub has missed it.
const MISSED: Duration = Duration::from_secs(30);

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    link::cut(Cut::Refused)?;
    let start = Instant::now();
    // A silent connection hears of nothing, whatever happened to the link: a read makes it speak.
    world.hub()?.get(&format!("/api/v1/nodes/{NODE_NAME}"))?.success().context("a read on a refused link")?;
    world.wait_for("Offline", MISSED)?;
    let noticed = start.elapsed();
    world.report.seconds("refused link, until Offline", noticed, Some(NOTICED));
    link::heal()?;
    world.agree(PODS, HOMECOMING).map(drop)
}
