//! The link between the node and the cloud. The hub reaches the apiserver at an address that nobody else
//! uses, so that dropping its packets cuts the node off and leaves the cloud whole. The rules live in the
//! run's own network namespace and end with it.

use crate::process::quick;
use anyhow::Result;

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

fn iptables(args: &[&str]) -> Result<()> {
    let waiting: Vec<&str> = ["-w", "5"].iter().chain(args).copied().collect();
    quick("iptables", &waiting).map(drop)
}
