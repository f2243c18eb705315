//! The link between the node and the cloud. The hub reaches the apiserver at an address that nobody else
//! uses, so that dropping its packets cuts the node off and leaves the cloud whole. The rules live in the
//! run's own network namespace and end with it.

use crate::process::quick;
use anyhow::{Context, Result};

/// The apiserver's address as the node sees it.
pub const CLOUD: &str = "127.0.0.2";

/// How the link is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Packets vanish in both directions and nobody says so.
    BlackHole,
    /// Connections are answered with a reset.
    Refused,
}

/// Breaks the link; one that was broken in another way is broken in this way afterwards.
pub fn cut(how: Cut) -> Result<()> {
    heal()?;
    match how {
        Cut::BlackHole => {
            iptables(&["-A", "OUTPUT", "-d", CLOUD, "-j", "DROP"])?;
            iptables(&["-A", "OUTPUT", "-s", CLOUD, "-j", "DROP"])
        }
        Cut::Refused => iptables(&[
            "-A",
            "OUTPUT",
            "-p",
            "tcp",
            "-d",
            CLOUD,
            "-j",
            "REJECT",
            "--reject-with",
            "tcp-reset",
        ]),
    }
}

/// Mends the link.
pub fn heal() -> Result<()> {
    iptables(&["-F", "OUTPUT"])
}

/// Begins to count what crosses the link, from zero.
pub fn count_bytes() -> Result<()> {
    iptables(&["-t", "mangle", "-F", "POSTROUTING"])?;
    iptables(&["-t", "mangle", "-A", "POSTROUTING", "-s", CLOUD])
}

/// Bytes (with their packets' headers) that came from the cloud since the counting began.
pub fn bytes_from_cloud() -> Result<u64> {
    let listed = quick("iptables", &["-w", "5", "-t", "mangle", "-nvxL", "POSTROUTING"])?;
    let row = listed.lines().find(|line| line.contains(CLOUD)).with_context(|| listed.clone())?;
    let bytes = row.split_whitespace().nth(1).with_context(|| listed.clone())?;
    bytes.parse().with_context(|| listed.clone())
}

fn iptables(args: &[&str]) -> Result<()> {
    let waiting: Vec<&str> = ["-w", "5"].iter().chain(args).copied().collect();
    quick("iptables", &waiting).map(drop)
}
