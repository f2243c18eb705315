//! A link that is refused is noticed at once, and one that is mended is taken up again.

use crate::link::{self, Cut};
use crate::workload::PODS;
use crate::world::{HOMECOMING, World};
use anyhow::Result;
use std::time::Duration;

/// Figure of the design.
const NOTICED: Duration = Duration::from_secs(1);
/// Beyond this the hub has missed it.
const MISSED: Duration = Duration::from_secs(30);

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    link::cut(Cut::Refused)?;
    let noticed = world.wait_for("Offline", MISSED)?;
    world.report.seconds("refused link, until Offline", noticed, Some(NOTICED));
    link::heal()?;
    world.agree(PODS, HOMECOMING).map(drop)
}
