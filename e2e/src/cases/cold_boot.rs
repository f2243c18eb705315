//! Scenario 1: the link is cut, the power fails, the node boots with no cloud, three times. Then the link
//! returns, and the cloud has the same pods.

use crate::link::{self, Cut};
use crate::pods;
use crate::workload::PODS;
use crate::world::{HOMECOMING, SETTLE, World, same_pods};
use anyhow::{Context, Result};
use std::time::Instant;

pub fn run(world: &mut World) -> Result<()> {
    let before = world.be_online()?;
    link::cut(Cut::BlackHole)?;
    for round in 1..=3 {
        let start = Instant::now();
        world.reboot_offline(PODS).with_context(|| format!("offline boot {round}"))?;
        let pods = world.settled_on_node(PODS, SETTLE).with_context(|| format!("offline boot {round}"))?;
        world.report.seconds(
            &format!("offline boot {round}, power cut to all pods ready"),
            start.elapsed(),
            None,
        );
        same_pods(&before, &pods)?;
        world.check_contents(&pods)?;
    }
    let offline = pods::of_node(&world.hub()?)?;
    link::heal()?;
    let start = Instant::now();
    let after = world.agree(PODS, HOMECOMING)?;
    world.report.seconds("link back to cloud and node agreeing", start.elapsed(), None);
    same_pods(&before, &after)?;
    not_restarted(&offline, &after)
}

/// An error when a container that ran before is not the one that runs now.
pub fn not_restarted(before: &crate::world::Pods, after: &crate::world::Pods) -> Result<()> {
    for (name, pod) in before {
        if let Some(now) = after.get(name)
            && now.uid == pod.uid
            && now.container != pod.container
        {
            anyhow::bail!("{name} was restarted with no need");
        }
    }
    Ok(())
}
