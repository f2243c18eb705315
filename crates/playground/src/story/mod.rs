//! The story, chapter by chapter. Each check is one sentence that is either true or ends the story.

mod home;
mod offline;
mod online;
mod outage;

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    report::{Broken, Report},
    stage::Stage,
};

/// How many chapters there are.
pub const CHAPTERS: u64 = 8;

/// What is said before the first.
pub const OPENING: &str = "\
A Kubernetes node, its cloud, and a link that fails, all on this machine.
The cloud is a simulated kube-apiserver; the kubelet is a client that asks what a real one asks, in its
order, and starts no containers. yurthub is the real one, in a process of its own between the two.";

/// For what should take a moment: far more than a slow machine needs.
const SOON: Duration = Duration::from_secs(15);

/// All pods of the node, as its kubelet asks for them.
const PODS_OF_NODE: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1";
/// The node itself.
const NODE_OBJECT: &str = "/api/v1/nodes/edge-1";
/// Where the pods and what they mount are.
const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Tells all of it. The error is that a check has failed and was reported.
pub async fn tell(stage: &mut Stage, report: &mut Report) -> Result<(), Broken> {
    online::work_online(stage, report).await?;
    let before = stage.kubelet.pods();
    outage::cut_the_link(stage, report).await?;
    outage::cut_the_power(stage, report).await?;
    outage::boot_with_no_cloud(stage, report, &before).await?;
    offline::write_offline(stage, report).await?;
    let during = stage.kubelet.pods();
    offline::meanwhile_in_the_cloud(stage, report).await?;
    home::heal(stage, report).await?;
    home::converge(stage, report, &during).await
}

/// What is said when everything stays at the end.
pub fn left_running(stage: &Stage, kubeconfig: &Path) -> String {
    format!(
        "\nStill running, until Ctrl-C. On a terminal, Enter cuts the link and heals it again.\n\
         kubectl reaches the cluster through yurthub:\n\n  \
         kubectl --kubeconfig {0} get nodes\n  \
         kubectl --kubeconfig {0} get pods -A\n\n\
         yurthub says of itself:  curl http://127.0.0.1:{1}/v1/status\n\
         logs and stores are in   {2}",
        kubeconfig.display(),
        stage.hub.ports().admin,
        kubeconfig.parent().unwrap_or(kubeconfig).display(),
    )
}

/// The condition `Ready` of a node or pod: "True", "False", "Unknown", "" for none.
fn ready(object: &Value) -> &str {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|c| c["type"] == "Ready").and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// The items of a list.
fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}
