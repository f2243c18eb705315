//! A node that the cloud does not know registers through the hub and gets its pods.

use crate::container::NODE_NAME;
use crate::node::Through;
use crate::wait::until;
use crate::workload::NAMESPACE;
use crate::world::{SETTLE, World};
use anyhow::{Context, Result, bail};

pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    world.kubectl.run(&["delete", "node", NODE_NAME, "--ignore-not-found"])?;
    world.kubectl.run(&["delete", "pods", "--all", "-n", NAMESPACE, "--force", "--grace-period=0"])?;
    let boot = world.reboot(Through::Hub)?;
    world.report.seconds("registration through the hub, all containers", boot.all, None);
    let pods = world.be_online()?;
    world.check_contents(&pods)?;
    until("the node to say that it could boot alone", SETTLE, || is_autonomous(world))
}

/// The hub's word on the node: everything that its kubelet would need is held.
fn is_autonomous(world: &World) -> Result<()> {
    let node = world.cluster.admin.object(&format!("/api/v1/nodes/{NODE_NAME}"))?;
    let conditions = node["status"]["conditions"].as_array().context("the node has no conditions")?;
    let said = conditions.iter().find(|c| c["type"] == "Autonomy").context("no condition Autonomy")?;
    if said["status"] != "True" {
        bail!("{} {}: {}", said["status"], said["reason"], said["message"]);
    }
    Ok(())
}
