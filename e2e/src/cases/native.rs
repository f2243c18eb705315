//! Without a hub: the node registers, runs its pods, and runs them again after a power cut. What fails here
//! is the machine's or the harness's.

use crate::node::Through;
use crate::workload::PODS;
use crate::world::{SETTLE, World, same_pods};
use anyhow::Result;

pub fn run(world: &mut World) -> Result<()> {
    world.reboot(Through::Cloud)?;
    let before = world.settled_in_cloud(PODS, SETTLE)?;
    world.check_contents(&before)?;
    let boot = world.reboot(Through::Cloud)?;
    world.report.seconds("native boot, first container", boot.first, None);
    world.report.seconds("native boot, all containers", boot.all, None);
    let after = world.settled_in_cloud(PODS, SETTLE)?;
    world.check_contents(&after)?;
    same_pods(&before, &after)
}
