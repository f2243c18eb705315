//! How long boots take, the three kinds in turn so that whatever slows the machine slows all of them:
//! native online, through the hub online, through the hub with the link black-holed.

use crate::link;
use crate::node::Through;
use crate::workload::PODS;
use crate::world::{HOMECOMING, SETTLE, World};
use anyhow::Result;
use std::time::Duration;

/// Figure of the design: an offline boot takes at most a tenth longer than a native one.
const OFFLINE_TO_NATIVE: f64 = 1.10;

pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    let (mut native, mut online, mut offline) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=world.settings.boots {
        native.push(world.reboot(Through::Cloud)?.all);
        world.settled_in_cloud(PODS, SETTLE)?;
        online.push(world.reboot(Through::Hub)?.all);
        world.agree(PODS, SETTLE)?;
        offline.push(world.reboot_offline(PODS)?.all);
        world.settled_on_node(PODS, SETTLE)?;
        link::heal()?;
        world.agree(PODS, HOMECOMING)?;
        println!(
            "       boots {round}: native {}, hub online {}, hub offline {}",
            last(&native),
            last(&online),
            last(&offline)
        );
    }
    let (native, online, offline) = (median(native), median(online), median(offline));
    let limit = native.mul_f64(OFFLINE_TO_NATIVE);
    world.report.seconds("boot native online (median)", native, None);
    world.report.seconds("boot hub online (median)", online, None);
    world.report.seconds("boot hub offline (median)", offline, Some(limit));
    let ratio = offline.as_secs_f64() / native.as_secs_f64();
    world.report.figure("boot hub offline to native online", ratio, "ratio", Some(OFFLINE_TO_NATIVE));
    Ok(())
}

fn last(times: &[Duration]) -> String {
    times.last().map_or_else(String::new, |time| format!("{:.2} s", time.as_secs_f64()))
}

/// The middle one; of an even number the lower of the two.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}
