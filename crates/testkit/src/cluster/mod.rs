//! A node on one machine: a simulated apiserver, a relay as its link, and the real yurthub as a process.
//!
//! Everything lies in one folder that is removed when the test has passed and kept, with the logs, when it
//! panicked or `YURT_KEEP` is set; then its path is printed.

mod binary;
mod cloud;
mod folder;
mod hub;

pub use binary::{manager, yurthub};
pub use cloud::Cloud;
pub use folder::Folder;
pub use hub::{Hub, HubOptions, Ports};

use crate::{
    apiserver::{Apiserver, Options},
    client::{Client, Protocol},
    objects,
    pki::Identity,
    relay::Relay,
};

/// Apiserver, link and hub of one node.
pub struct Cluster {
    /// The real hub. First, so that it ends first.
    pub hub: Hub,
    /// The link between the two.
    pub relay: Relay,
    /// The cloud.
    pub api: Apiserver,
    /// The kubelet's client certificate.
    pub node: Identity,
    /// The node's name.
    pub node_name: String,
    folder: Folder,
}

impl Cluster {
    /// A cluster whose cloud holds the node object; the hub is ready when this returns.
    pub async fn start(node: &str) -> Self {
        let cluster = Self::prepare(node, Options::default()).await;
        let mut cluster = cluster;
        cluster.hub.start().await;
        cluster
    }

    /// The same with the hub not started yet.
    pub async fn prepare(node: &str, options: Options) -> Self {
        let folder = Folder::new("cluster");
        let api = Apiserver::start_in(&folder.path().join("cloud"), options);
        api.create(objects::node(node));
        let relay = Relay::start(api.addr()).await;
        let identity = api.pki().node(node);
        let hub =
            Hub::new(HubOptions::new(node, &relay.url(), &api.pki().ca_file(), &identity, folder.path()));
        Self { hub, relay, api, node: identity, node_name: node.into(), folder }
    }

    /// A client of the hub as the node.
    pub fn node_client(&self, protocol: Protocol) -> Client {
        self.hub.client(Some(&self.node), protocol)
    }

    /// A client of the hub without a certificate.
    pub fn client(&self, protocol: Protocol) -> Client {
        self.hub.client(None, protocol)
    }

    /// A client of the apiserver itself that may do everything; not through the relay.
    pub fn admin(&self) -> Client {
        Client::new(&self.api.url(), self.api.pki().ca_pem(), Some(&self.api.pki().admin()), Protocol::Http2)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}
