//! What the story is played on: the cloud, the link, the hub, the kubelet.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use yurt_testkit::{
    client::{Answer, Client, Protocol},
    cluster::{Cloud, Hub, HubOptions},
    kubeconfig::Target,
    kubelet::{Kubelet, KubeletOptions},
    objects,
    pki::Identity,
    relay::Relay,
};

use crate::wait::until;

/// The node's name.
pub const NODE: &str = "edge-1";
/// Its pods.
pub const PODS: usize = 10;

/// The node, its cloud and the link between them.
pub struct Stage {
    /// The real yurthub.
    pub hub: Hub,
    /// The node's kubelet, which talks to the hub only.
    pub kubelet: Kubelet,
    /// The link between hub and cloud.
    pub link: Relay,
    /// The cloud.
    pub cloud: Cloud,
    /// The cloud's administrator, not over the link.
    pub admin: Client,
    /// The node as a client of its hub.
    pub local: Client,
    /// A person with a bearer token as a client of the hub.
    pub operator: Client,
    node: Identity,
    folder: PathBuf,
}

impl Stage {
    /// Starts cloud and hub, with all their files in `folder`; the kubelet is still off.
    pub async fn set(folder: &Path) -> Result<Self> {
        let binary = std::env::current_exe().context("the path of this program")?;
        let pods = (0..PODS).flat_map(|n| objects::pod_with_volumes("default", &format!("web-{n}"), NODE));
        let cloud = Cloud::start(&binary, &folder.join("cloud"), NODE, pods.collect()).await?;
        let link = Relay::start(cloud.addr()).await;
        let node = cloud.node();
        let options = HubOptions::with_binary(binary, NODE, &link.url(), &cloud.ca_file(), &node, folder);
        let mut hub = Hub::new(options);
        hub.spawn();
        hub.until_ready().await?;
        let kubelet = Kubelet::new(kubelet_options(&hub, &node)?);
        let local = hub.client(Some(&node), Protocol::Http2);
        let operator = hub.client(None, Protocol::Http2).token(cloud.admin_token());
        Ok(Self {
            admin: cloud.admin(),
            hub,
            kubelet,
            link,
            cloud,
            local,
            operator,
            node,
            folder: folder.into(),
        })
    }

    /// The node as a client of the cloud itself: what it would see without a hub.
    pub fn direct(&self) -> Client {
        self.cloud.client(&self.node)
    }

    /// The power of the node fails: the hub is killed, the kubelet forgets everything.
    pub async fn cut_power(&mut self) {
        self.kubelet.power_cut();
        self.hub.kill().await;
    }

    /// The power is back: hub and kubelet start at once. The moment it came.
    pub fn power_on(&mut self) -> Instant {
        let now = Instant::now();
        self.hub.spawn();
        self.kubelet.boot();
        now
    }

    /// What the hub says of itself (`/v1/status`).
    pub async fn status(&self) -> Result<Value> {
        Ok(self.hub.admin("/v1/status").await?.json())
    }

    /// Waits until the hub calls its link `wanted`.
    pub async fn until_link(&self, wanted: &str, bound: Duration) -> Result<()> {
        until(bound, async || {
            let status = self.status().await?;
            let state = &status["connectivity"]["state"];
            ensure!(state == wanted, "the hub says {state}");
            Ok(())
        })
        .await
    }

    /// Writes a kubeconfig that leads through the hub.
    pub fn write_kubeconfig(&self) -> Result<PathBuf> {
        let ca_file = self.hub.ca_file();
        let ca_pem = std::fs::read_to_string(&ca_file).with_context(|| ca_file.display().to_string())?;
        let target =
            Target { base: self.hub.url(), ca_pem, identity: None, token: self.cloud.admin_token().into() };
        let path = self.folder.join("kubeconfig");
        target.write(&path)?;
        Ok(path)
    }

    /// Ends all processes.
    pub async fn clear(mut self) {
        self.cut_power().await;
        self.cloud.kill().await;
    }
}

/// Back-off and lease at a pace that suits a story of seconds.
fn kubelet_options(hub: &Hub, node: &Identity) -> Result<KubeletOptions> {
    let ca_pem = std::fs::read_to_string(hub.ca_file()).context("the hub's CA")?;
    let mut options = KubeletOptions::new(NODE, &hub.url(), &ca_pem, node);
    options.backoff = Duration::from_millis(20);
    options.backoff_max = Duration::from_millis(200);
    options.lease_interval = Duration::from_millis(500);
    Ok(options)
}

/// GET of an object or a list. Errors: no answer, or one that is no success.
pub async fn read(client: &Client, path: &str) -> Result<Value> {
    Ok(succeeded(client.get(path).await?)?.json())
}

/// The answer, when it is a success. Errors: what the server said.
pub fn succeeded(answer: Answer) -> Result<Answer> {
    ensure!(answer.status.is_success(), "{}: {}", answer.code(), answer.json()["message"]);
    Ok(answer)
}
