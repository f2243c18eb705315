//! The checks that the simulated apiserver passes, on the real one: what the hub's other tests run against is true.

use crate::world::World;
use anyhow::{Context, Result, bail};
use std::process::Command;

pub fn run(world: &mut World) -> Result<()> {
    let program = world.settings.conformance.as_ref().context("the checks were not built")?;
    let output = Command::new(program)
        .args(["--test-threads", "4"])
        .env("YURT_REAL_APISERVER", &world.cluster.admin_config)
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stdout);
    std::fs::write(world.settings.run.join("logs/conformance.log"), &output.stdout)?;
    let passed = told.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
    world.report.count("checks of the simulated apiserver that the real one passes", passed);
    if !output.status.success() || passed == 0 {
        bail!("{}: {told}", output.status);
    }
    Ok(())
}
