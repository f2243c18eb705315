//! Which of upstream's specs are run, which are left out and why, and how they are spread over processes. The texts
//! are regular expressions as ginkgo takes them, over a spec's whole name.

use std::sync::Mutex;

/// The group of all specs of `test/e2e/apimachinery`; the package brings others with it.
const GROUP: &str = r"\[sig-api-machinery\] ";

/// Specs that are left out, each with what it needs. All others are run.
const LEFT_OUT: [(&str, &str); 10] = [
    (
        "AdmissionWebhook|CustomResourceConversionWebhook|CustomResourceFieldSelectors",
        "a webhook server in a pod",
    ),
    (r"Aggregator|Aggregated APIServer|\[Feature:CBOR\]", "the sample apiserver in a pod"),
    ("all pods are removed when a namespace|delete pod first|should create pods, set the", "a pod that runs"),
    (r"Etcd failure|\[Feature:APIServerIdentity\]", "a shell on the control plane's machine"),
    (
        r"\[Feature:(CoordinatedLeaderElection|StorageVersionAPI|MutatingAdmissionPolicy)\]",
        "a gate that is off",
    ),
    ("compacted away", "five minutes, until etcd is compacted"),
    ("100 namespaces in 150 seconds", "minutes, for the speed of the namespace controller"),
    ("orphan deletion of custom resources", "two minutes, 90 s of them waiting that nothing happens"),
    (r"\[Flaky\]", "luck, as upstream says itself"),
    ("be drowned out", "nothing: upstream skips it at its beginning"),
];

/// Specs that one process runs, one after the other.
pub struct Lane {
    /// What its files are called.
    pub name: &'static str,
    /// Names of its specs; none for those that no other lane has.
    names: Option<&'static str>,
    /// Whose turn it is, when its specs use names that are the whole cluster's: the two sides follow each other.
    pub turn: Option<Mutex<()>>,
}

/// What waits most has a lane of its own.
pub static LANES: [Lane; 7] = [
    Lane::in_turns("crd-watch", "CustomResourceDefinition Watch"),
    Lane::in_turns("fixed-names", r"API priority and fairness|ResourceQuota \[Feature:PodPriority\]"),
    Lane::of("watchers", "Watchers"),
    Lane::of("quota", r"ResourceQuota (should|\[FeatureGate)"),
    Lane::of("collector", "Garbage collector"),
    Lane::of("openapi", "CustomResourcePublishOpenAPI"),
    Lane { name: "rest", names: None, turn: None },
];

impl Lane {
    const fn of(name: &'static str, names: &'static str) -> Lane {
        Lane { name, names: Some(names), turn: None }
    }

    const fn in_turns(name: &'static str, names: &'static str) -> Lane {
        Lane { name, names: Some(names), turn: Some(Mutex::new(())) }
    }

    /// Its flags for ginkgo.
    pub fn flags(&self) -> Vec<String> {
        match self.names {
            Some(names) => vec![focus(names), skip(left_out())],
            None => vec![focus(""), skip(left_out().chain(LANES.iter().filter_map(|lane| lane.names)))],
        }
    }
}

/// ginkgo's flags for all specs that there are.
pub fn offered() -> Vec<String> {
    vec![focus("")]
}

/// ginkgo's flags for all that are run, whatever their lane.
pub fn planned() -> Vec<String> {
    vec![focus(""), skip(left_out())]
}

fn left_out() -> impl Iterator<Item = &'static str> {
    LEFT_OUT.iter().map(|(names, _)| *names)
}

fn focus(names: &str) -> String {
    format!("--ginkgo.focus={GROUP}({names})")
}

fn skip(names: impl Iterator<Item = &'static str>) -> String {
    format!("--ginkgo.skip={GROUP}.*({})", names.collect::<Vec<_>>().join("|"))
}
