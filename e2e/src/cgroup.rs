//! The cgroup below which the kubelet of a run keeps its pods, in every hierarchy of the machine. Cgroups
//! are the one thing that the namespaces do not end by themselves.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The cgroup's name below the root of each hierarchy.
pub const NAME: &str = "yurt-e2e";

/// Makes the cgroup in every hierarchy.
pub fn create() -> Result<()> {
    for hierarchy in used()? {
        let folder = hierarchy.join(NAME);
        crate::files::folder(&folder)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(&hierarchy.join(file), &folder.join(file))?;
        }
        delegate(&hierarchy)?;
    }
    Ok(())
}

/// Removes the cgroup with everything below it; the processes in it must have been killed.
pub fn remove() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(NAME);
        // A killed process leaves its cgroup a moment later.
        while folder.exists() && remove_tree(&folder).is_err() {
            if Instant::now() > deadline {
                bail!("{} cannot be removed: a process is left in it", folder.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The hierarchies in which pods get their limits: beside those of version 1 a mount of version 2 has none.
fn used() -> Result<Vec<PathBuf>> {
    let all = hierarchies()?;
    let first: Vec<PathBuf> =
        all.iter().filter(|place| !place.join("cgroup.controllers").exists()).cloned().collect();
    Ok(if first.is_empty() { all } else { first })
}

/// Every mounted hierarchy: runc notes a container also where it limits nothing.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(place))
    });
    Ok(places.collect())
}

/// A version 1 cpuset starts empty and takes no process until it has CPUs and memory nodes.
fn inherit(parent: &Path, child: &Path) -> Result<()> {
    let (Ok(value), Ok(own)) = (fs::read_to_string(parent), fs::read_to_string(child)) else { return Ok(()) };
    if own.trim().is_empty() && !value.trim().is_empty() {
        crate::files::write(child, value.trim())?;
    }
    Ok(())
}

/// In version 2 a cgroup's children have the controllers that it hands down.
fn delegate(hierarchy: &Path) -> Result<()> {
    let Ok(controllers) = fs::read_to_string(hierarchy.join("cgroup.controllers")) else { return Ok(()) };
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    for folder in [hierarchy.to_path_buf(), hierarchy.join(NAME)] {
        crate::files::write(&folder.join("cgroup.subtree_control"), all.join(" "))?;
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for child in folders(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
