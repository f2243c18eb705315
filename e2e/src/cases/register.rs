//! A node that the cloud does not know registers through the hub and gets its pods.

use crate::container::NODE_NAME;
use crate::node::Through;
use crate::workload::NAMESPACE;
use crate::world::World;
use anyhow::Result;

pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    world.kubectl.run(&["delete", "node", NODE_NAME, "--ignore-not-found"])?;
    world.kubectl.run(&["delete", "pods", "--all", "-n", NAMESPACE, "--force", "--grace-period=0"])?;
    let boot = world.reboot(Through::Hub)?;
    world.report.seconds("registration through the hub, all containers", boot.all, None);
    let pods = world.be_online()?;
    world.check_contents(&pods)
}
