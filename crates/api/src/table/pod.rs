//! The row of a pod.

use serde::Deserialize;
use serde_json::Value;

use super::age::{age, ago, seconds};
use super::{Made, Metadata, Phase, nil, or_none};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "nil")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "nil")]
    init_containers: Vec<Container>,
    node_name: String,
    #[serde(deserialize_with = "nil")]
    readiness_gates: Vec<Gate>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gate {
    condition_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    #[serde(deserialize_with = "nil")]
    conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "nil")]
    pod_ips: Vec<Address>,
    nominated_node_name: String,
    #[serde(deserialize_with = "nil")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nil")]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    state: State,
    last_state: State,
    ready: bool,
    restart_count: i64,
    started: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
}

#[derive(Deserialize)]
struct Running {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i64,
    signal: i64,
    reason: String,
    finished_at: Option<String>,
}

/// The cells of a pod at `now`.
pub(super) fn made(pod: &Pod, now: i64) -> Made {
    let containers = pod.containers();
    let ready = format!("{}/{}", containers.ready, pod.counted());
    let restarts = containers.restarts.text(now);
    let status = &pod.status;
    let address = status.pod_ips.first().map_or(&status.pod_ip, |first| &first.ip);
    let texts = [
        pod.metadata.name.clone(),
        ready,
        pod.word(containers.word),
        restarts,
        age(pod.metadata.created(), now),
        or_none(address),
        or_none(&pod.spec.node_name),
        or_none(&status.nominated_node_name),
        pod.gates(),
    ];
    let completed = match status.phase.as_str() {
        "Succeeded" => Some(Phase::Succeeded),
        "Failed" => Some(Phase::Failed),
        _ => None,
    };
    Made { cells: texts.into_iter().map(Value::from).collect(), completed }
}

/// What the containers of a pod say of it.
struct Containers {
    ready: usize,
    restarts: Restarts,
    word: String,
}

/// How often containers were restarted, and when the last of them had ended.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count = self.count.saturating_add(status.restart_count);
        let ended = status.last_state.terminated.as_ref().and_then(|t| t.finished_at.as_deref());
        self.last = self.last.max(ended.and_then(seconds));
    }

    fn text(self, now: i64) -> String {
        match self.last.filter(|_| self.count != 0) {
            Some(last) => format!("{} ({} ago)", self.count, ago(Some(last), now)),
            None => self.count.to_string(),
        }
    }
}

/// How far the init containers have come.
#[derive(Default)]
struct Init {
    all: Restarts,
    sidecars: Restarts,
    ready: usize,
    /// Where they stopped; `None` = they are through.
    stopped: Option<String>,
}

impl Pod {
    /// The containers that should run: all but the init containers that end.
    fn counted(&self) -> usize {
        self.spec.containers.len() + self.spec.init_containers.iter().filter(|c| c.is_sidecar()).count()
    }

    fn containers(&self) -> Containers {
        let init = self.init();
        let through = init.stopped.is_none() || self.is_condition_true("Initialized");
        let word = init.stopped.unwrap_or_else(|| self.first_word());
        let begun = Containers { ready: init.ready, restarts: init.all, word };
        if through { self.main_containers(Containers { restarts: init.sidecars, ..begun }) } else { begun }
    }

    /// What the pod itself says.
    fn first_word(&self) -> String {
        let gated = self
            .status
            .conditions
            .iter()
            .any(|c| c.r#type == "PodScheduled" && c.reason == "SchedulingGated");
        let status = &self.status;
        let own = if status.reason.is_empty() { &status.phase } else { &status.reason };
        if gated { "SchedulingGated".to_owned() } else { own.clone() }
    }

    fn init(&self) -> Init {
        let mut init = Init::default();
        for (at, status) in self.status.init_container_statuses.iter().enumerate() {
            init.all.add(status);
            let sidecar = self.is_sidecar(&status.name);
            if sidecar {
                init.sidecars.add(status);
            }
            match &status.state.terminated {
                Some(ended) if ended.exit_code == 0 => {}
                _ if sidecar && status.started == Some(true) => init.ready += usize::from(status.ready),
                _ => {
                    init.stopped = Some(self.stopped_at(at, &status.state));
                    break;
                }
            }
        }
        init
    }

    fn is_sidecar(&self, name: &str) -> bool {
        self.spec.init_containers.iter().rfind(|c| c.name == name).is_some_and(Container::is_sidecar)
    }

    fn stopped_at(&self, at: usize, state: &State) -> String {
        let waiting = state.waiting.as_ref().map_or("", |w| &w.reason);
        match &state.terminated {
            Some(ended) => format!("Init:{}", ended.word()),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{at}/{}", self.spec.init_containers.len()),
        }
    }

    /// The first container that has something to say gives the word, which is why they are gone through backwards.
    fn main_containers(&self, mut so_far: Containers) -> Containers {
        let mut running = false;
        for status in self.status.container_statuses.iter().rev() {
            so_far.restarts.add(status);
            let state = &status.state;
            match (&state.waiting, &state.terminated) {
                (Some(waiting), _) if !waiting.reason.is_empty() => so_far.word.clone_from(&waiting.reason),
                (_, Some(ended)) => so_far.word = ended.word(),
                _ if status.ready && state.running.is_some() => {
                    running = true;
                    so_far.ready += 1;
                }
                _ => {}
            }
        }
        if running && so_far.word == "Completed" {
            let ready = self.is_condition_true("Ready");
            so_far.word = if ready { "Running" } else { "NotReady" }.to_owned();
        }
        so_far
    }

    /// The status as it is shown: what is being deleted says so first.
    fn word(&self, word: String) -> String {
        let over = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        match &self.metadata.deletion_timestamp {
            Some(_) if self.status.reason == "NodeLost" => "Unknown".to_owned(),
            Some(_) if !over => "Terminating".to_owned(),
            _ => word,
        }
    }

    fn is_condition_true(&self, name: &str) -> bool {
        let condition = self.status.conditions.iter().find(|c| c.r#type == name);
        condition.is_some_and(|c| c.status == "True")
    }

    fn gates(&self) -> String {
        let gates = &self.spec.readiness_gates;
        let open = gates.iter().filter(|g| self.is_condition_true(&g.condition_type)).count();
        if gates.is_empty() { or_none("") } else { format!("{open}/{}", gates.len()) }
    }
}

impl Container {
    /// Whether it is an init container that goes on beside the others.
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

impl Terminated {
    fn word(&self) -> String {
        match (self.reason.as_str(), self.signal) {
            ("", 0) => format!("ExitCode:{}", self.exit_code),
            ("", signal) => format!("Signal:{signal}"),
            (reason, _) => reason.to_owned(),
        }
    }
}
