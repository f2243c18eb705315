//! The node's containers as the kernel sees them: a container runs when its process does. Looking there
//! costs far less than asking the runtime, so that counting does not slow the boot that it measures.

use crate::{cgroup, image};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;

/// The node's name.
pub const NODE_NAME: &str = "edge-1";
/// The node's address, on an interface of the run's own network.
pub const NODE_ADDRESS: &str = "10.88.0.1";

/// A running application container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// A process of it.
    pub process: i32,
    /// The pod's UID, or a static pod's hash.
    pub pod: String,
}

/// Every running application container by its id.
pub fn running() -> BTreeMap<String, Container> {
    let mut found = BTreeMap::new();
    for id in processes() {
        let process = id.as_raw_pid();
        if command(process) == image::WEB_COMMAND
            && let Some((pod, container)) = place(process)
        {
            found.entry(container).or_insert(Container { process, pod });
        }
    }
    found
}

/// Every process of this namespace.
pub fn processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process's command name, at most 15 characters; empty when it has ended.
pub fn command(process: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_string()
}

/// A file as a container sees it.
pub fn read(process: i32, path: &str) -> std::io::Result<String> {
    fs::read_to_string(format!("/proc/{process}/root{path}"))
}

/// The environment that a container was started with.
pub fn environment(process: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

/// Pod and container from the cgroup: `…/<own>/kubepods/[<class>/]pod<uid>/<container>`.
fn place(process: i32) -> Option<(String, String)> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = groups.lines().find(|line| line.contains(cgroup::NAME))?;
    let mut parts = path.rsplit('/');
    let container = parts.next()?.to_string();
    let pod = parts.next()?.strip_prefix("pod")?.to_string();
    Some((pod, container))
}
