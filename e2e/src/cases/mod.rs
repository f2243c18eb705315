//! The cases, in the order in which they run. Each starts from a node that is online through the hub (or
//! makes one), and one that fails leaves the next a fresh boot.

mod beginnings;
mod black_hole;
mod boot_requests;
mod certificates;
mod cold_boot;
mod coming_home;
mod conformance;
mod controller;
mod endpoints;
mod eviction;
mod flapping;
mod informers;
mod kubectl;
mod kubectl_offline;
mod native;
mod refused;
mod register;
mod specs;
mod timing;

use crate::link;
use crate::settings::Settings;
use crate::world::World;
use anyhow::{Result, bail};
use std::io::Read;
use std::time::Instant;

/// A case: what it is called and what it does.
struct Case {
    name: &'static str,
    run: fn(&mut World) -> Result<()>,
}

/// The cases that need programs which take minutes to build.
pub const CONFORMANCE: &str = "conformance";
pub const SPECS: &str = "specs";

const CASES: [Case; 19] = [
    Case { name: CONFORMANCE, run: conformance::run },
    Case { name: "native-boot", run: native::run },
    Case { name: "register", run: register::run },
    Case { name: "kubectl", run: kubectl::run },
    Case { name: "cold-boot", run: cold_boot::run },
    Case { name: "boot-requests", run: boot_requests::run },
    Case { name: "black-hole", run: black_hole::run },
    Case { name: "refused", run: refused::run },
    Case { name: "coming-home", run: coming_home::run },
    Case { name: "offline-kubectl", run: kubectl_offline::run },
    // Before the others that make its kind of custom resource: a hub that has followed that kind lists it once when it
    // is made again, and lists are what it counts.
    Case { name: "flapping", run: flapping::run },
    Case { name: "informers", run: informers::run },
    Case { name: "beginnings", run: beginnings::run },
    Case { name: "endpoints", run: endpoints::run },
    Case { name: SPECS, run: specs::run },
    Case { name: "timing", run: timing::run },
    // Without yurt-controller-manager's objects in the cluster first: it has the control.
    Case { name: "eviction", run: eviction::run },
    Case { name: "eviction-kubelet", run: eviction::kubelet::run },
    Case { name: "certificates", run: certificates::run },
];

/// Runs the wanted cases, reports and returns how many failed.
pub fn run(settings: &Settings) -> Result<usize> {
    let wanted: Vec<&Case> = CASES.iter().filter(|case| is_wanted(&settings.only, case.name)).collect();
    if wanted.is_empty() {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        bail!("--only {} matches none of {}", settings.only.join(", "), names.join(", "));
    }
    let mut world = World::start(settings)?;
    for case in wanted {
        run_case(&mut world, case);
    }
    let failed = world.report.close(&settings.report)?;
    if settings.keep {
        keep(&world)?;
    }
    Ok(failed)
}

fn run_case(world: &mut World, case: &Case) {
    let start = Instant::now();
    let outcome = (case.run)(world).and_then(|()| link::heal());
    if outcome.is_err() {
        world.disturbed();
    }
    world.report.case(case.name, &outcome, start.elapsed());
}

/// Whether a case is to be run when only names with one of these parts are; all when there are none.
pub fn is_wanted(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|part| name.contains(part.as_str()))
}

fn keep(world: &World) -> Result<()> {
    println!(
        "The cluster is left running. From another terminal:\n  nsenter --all --target \"$(pgrep -P {})\" {} --kubeconfig {} get pods -A\nEnter ends it.",
        world.settings.outside,
        world.settings.kubectl.display(),
        world.cluster.admin_config.display(),
    );
    let mut key = [0];
    std::io::stdin().read_exact(&mut key)?;
    Ok(())
}
