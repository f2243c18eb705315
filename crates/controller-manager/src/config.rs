//! The flags. Those that kube-controller-manager has are called as there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::duration::positive;

/// The cloud half of Yurt: a disconnected node keeps its pods, a dead one does not.
#[derive(Clone, Debug, Parser)]
#[command(name = "yurt-controller-manager", version, max_term_width = 100)]
pub struct Config {
    /// Kubeconfig of the cluster; without it the ServiceAccount of the pod.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of this program: of its leader lease, and of its Deployment.
    #[arg(long, default_value = "kube-system")]
    pub namespace: String,
    /// Addresses of /healthz, /readyz and /metrics.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// Their port; 0 takes a free one, which is logged.
    #[arg(long, default_value_t = 10271)]
    pub port: u16,
    /// Controllers to run: names, "*" for all, "-name" for all but one.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    /// What is logged: error, warn, info, debug, or such with targets.
    #[arg(long, default_value = "info")]
    pub log: String,
    /// The election of the one that works.
    #[command(flatten)]
    pub lead: Lead,
    /// When a node counts as silent.
    #[command(flatten)]
    pub nodes: Nodes,
    /// When a pool counts as cut.
    #[command(flatten)]
    pub guard: Guard,
    /// Writes a second that are made at the most, on average.
    #[arg(long, default_value_t = 50)]
    pub kube_api_qps: u32,
    /// Writes that may be made at once after a pause.
    #[arg(long, default_value_t = 100)]
    pub kube_api_burst: u32,
}

/// Leader election, as client-go's `leaderelection` has it.
#[derive(Clone, Debug, clap::Args)]
pub struct Lead {
    /// Work only while holding the leader lease.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long others wait after a renewal that they saw before they take the lease.
    #[arg(long, default_value = "15s", value_parser = positive)]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    #[arg(long, default_value = "10s", value_parser = positive)]
    pub leader_elect_renew_deadline: Duration,
    /// Time between tries.
    #[arg(long, default_value = "2s", value_parser = positive)]
    pub leader_elect_retry_period: Duration,
    /// Name of the leader lease.
    #[arg(long, default_value = "yurt-controller-manager")]
    pub leader_elect_resource_name: String,
}

/// How nodes are watched.
#[derive(Clone, Debug, clap::Args)]
pub struct Nodes {
    /// A node whose lease did not change for so long counts as disconnected. Shorter than that of
    /// kube-controller-manager (50s), so that its pods are protected before it acts.
    #[arg(long, default_value = "40s", value_parser = positive)]
    pub node_monitor_grace_period: Duration,
    /// Time between looks at the leases.
    #[arg(long, default_value = "5s", value_parser = positive)]
    pub node_monitor_period: Duration,
}

/// Defaults of the pool guard; a NodePool can have its own.
#[derive(Clone, Debug, clap::Args)]
pub struct Guard {
    /// A pool counts as cut when less than this percentage of its nodes answers; 0 switches the guard off.
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub pool_guard_threshold: u8,
    /// Nodes that fell silent within so long of each other fell together.
    #[arg(long, default_value = "5m", value_parser = positive)]
    pub pool_guard_window: Duration,
    /// How long nodes of a cut pool are protected at the most.
    #[arg(long, default_value = "168h", value_parser = positive)]
    pub pool_guard_max_duration: Duration,
}

impl Config {
    /// Reads and checks the flags. Errors: a text for stderr (of clap, also for `--help` and `--version`).
    pub fn read(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        let config = Self::try_parse_from(args)?;
        match config.contradiction() {
            None => Ok(config),
            Some(text) => Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n"))),
        }
    }

    /// Where health and metrics are served.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.port)
    }

    /// Whether a controller is to run. "-name" goes before everything else.
    pub fn runs(&self, controller: &str) -> bool {
        let says = |text: &str| self.controllers.iter().any(|c| c == text);
        !says(&format!("-{controller}")) && (says("*") || says(controller))
    }

    fn contradiction(&self) -> Option<String> {
        let lead = &self.lead;
        let known = |name: &str| name == "*" || crate::controllers::exists(name.trim_start_matches('-'));
        if let Some(unknown) = self.controllers.iter().find(|name| !known(name)) {
            return Some(format!("--controllers: there is no {unknown}"));
        }
        if lead.leader_elect_lease_duration <= lead.leader_elect_renew_deadline {
            return Some("--leader-elect-lease-duration must be longer than the renew deadline".to_owned());
        }
        if lead.leader_elect_renew_deadline <= lead.leader_elect_retry_period {
            return Some("--leader-elect-renew-deadline must be longer than the retry period".to_owned());
        }
        if self.nodes.node_monitor_grace_period <= self.nodes.node_monitor_period {
            return Some("--node-monitor-grace-period must be longer than the monitor period".to_owned());
        }
        if self.kube_api_qps == 0 || self.kube_api_burst == 0 {
            return Some("--kube-api-qps and --kube-api-burst must be at least 1".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Config, clap::Error> {
        Config::read(std::iter::once("x").chain(line.split_whitespace()).map(Into::into))
    }

    #[test]
    fn defaults_and_names_are_those_of_kube_controller_manager() {
        let config = read("").unwrap();
        assert!(config.lead.leader_elect);
        assert_eq!(config.nodes.node_monitor_grace_period, Duration::from_secs(40));
        let config =
            read("--leader-elect=false --port=0 --node-monitor-grace-period=4s --node-monitor-period 500ms");
        let config = config.unwrap();
        assert!(!config.lead.leader_elect);
        assert_eq!(config.nodes.node_monitor_period, Duration::from_millis(500));
    }

    #[test]
    fn controllers_are_chosen_by_name() {
        let all_but = read("--controllers=*,-node-pool").unwrap();
        assert!(all_but.runs("node-autonomy") && !all_but.runs("node-pool"));
        let one = read("--controllers=node-autonomy").unwrap();
        assert!(one.runs("node-autonomy") && !one.runs("node-pool"));
    }

    #[test]
    fn bad_settings_are_refused() {
        for line in [
            "--node-monitor-grace-period=soon",
            "--node-monitor-grace-period=5s --node-monitor-period=5s",
            "--leader-elect-lease-duration=5s",
            "--leader-elect-retry-period=10s",
            "--controllers=nobody",
            "--kube-api-qps=0",
            "--pool-guard-threshold=101",
            "--unknown",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
