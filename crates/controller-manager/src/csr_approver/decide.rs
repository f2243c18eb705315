//! Whether a certificate request is approved: pure.
//!
//! Two kinds are: the client certificate of a node's yurthub, which speaks to the apiserver in the name of the node,
//! and a serving certificate of a node. Both only for who may speak for that node. Everything else that looks like one
//! of them is left for a human, with the reason. Sources: pkg/apis/certificates/helpers.go of Kubernetes for what a
//! node's requests look like, `kubernetes.io/kubelet-serving` in its documentation for what that signer signs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::asked::{Asked, Malformed};

/// Signs client certificates for the apiserver; never approved by Kubernetes itself.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Signs serving certificates of nodes; never approved by Kubernetes itself.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// The group of nodes.
const NODES: &str = "system:nodes";
/// The organization that tells a yurthub's client certificate from others.
const YURTHUB: &str = "openyurt:yurthub";
/// What user names of nodes begin with.
const NODE_PREFIX: &str = "system:node:";
/// The group that every bootstrap token is in, and what their user names begin with
/// (k8s.io/cluster-bootstrap/token/api).
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const BOOTSTRAP_PREFIX: &str = "system:bootstrap:";
/// Where a hub listens besides the node's own addresses: loopback, and the dummy address that OpenYurt's users know.
const HUB_ADDRESSES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(169, 254, 2, 1)),
];
const HUB_NAME: &str = "localhost";

/// A request with what the cluster knows about it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `spec.signerName`.
    pub signer: String,
    /// Who asks: `spec.username`, which the apiserver writes.
    pub username: String,
    /// Their groups, written by the apiserver too.
    pub groups: BTreeSet<String>,
    /// `spec.usages`.
    pub usages: BTreeSet<String>,
    /// What is asked for.
    pub asked: Result<Asked, Malformed>,
    /// The node that the common name speaks of; none when there is none.
    pub node: Option<Addresses>,
    /// What is asked for and belongs to others: names and addresses of other nodes, and of the apiserver.
    pub taken: BTreeSet<String>,
}

/// The names and addresses of a node, from its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Host names.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is approved, with this message.
    Approve(&'static str),
    /// It is none of the two kinds: somebody else's business.
    NotOurs,
    /// It looks like one of the two kinds, but a human has to look at it.
    Leave(Reason),
}

/// Why a request is left for a human.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It cannot be read.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The common name is not that of a node.
    #[error("its common name {0:?} is not that of a node")]
    CommonName(String),
    /// The organizations are not exactly those of its kind.
    #[error("its organizations are not exactly {0}")]
    Organizations(&'static str),
    /// The usages are not exactly those of its kind.
    #[error("its usages are not exactly digital signature, {0} and perhaps key encipherment")]
    Usages(&'static str),
    /// Who asks may not speak for the node.
    #[error("{0:?} may not speak for node {1:?}")]
    Requester(String, String),
    /// A client certificate needs no names.
    #[error("a client certificate with names of servers")]
    ClientNames,
    /// A serving certificate without names is good for nothing.
    #[error("a serving certificate without names")]
    NoNames,
    /// The node is not known.
    #[error("there is no node {0:?}")]
    UnknownNode(String),
    /// A name that is not the node's.
    #[error("{0:?} is not a name or address of the node")]
    ForeignName(String),
    /// A name that the node and somebody else claim.
    #[error("{0:?} is claimed by another node or is the apiserver's")]
    TakenName(String),
}

impl Reason {
    /// Whether the same request may be approved later, because of what the cluster says by then.
    pub fn may_change(&self) -> bool {
        matches!(self, Self::UnknownNode(_) | Self::ForeignName(_) | Self::TakenName(_))
    }

    /// A word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::CommonName(_) => "common-name",
            Self::Organizations(_) => "organizations",
            Self::Usages(_) => "usages",
            Self::Requester(..) => "requester",
            Self::ClientNames => "client-names",
            Self::NoNames => "no-names",
            Self::UnknownNode(_) => "unknown-node",
            Self::ForeignName(_) => "foreign-name",
            Self::TakenName(_) => "taken-name",
        }
    }
}

/// The node that a common name speaks of.
pub fn node_of(common_name: &str) -> Option<&str> {
    common_name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty())
}

/// What to do with a request that nobody has decided about yet.
pub fn decide(facts: &Facts) -> Decision {
    let judged = match (facts.signer.as_str(), &facts.asked) {
        (CLIENT_SIGNER, Ok(asked)) if asked.organizations.contains(YURTHUB) => client(facts, asked),
        (SERVING_SIGNER, Ok(asked)) => serving(facts, asked),
        (SERVING_SIGNER, Err(malformed)) => Err(Reason::from(*malformed)),
        // Client certificates of all sorts of users; what cannot be read is not taken for a yurthub's.
        _ => return Decision::NotOurs,
    };
    judged.map_or_else(Decision::Leave, Decision::Approve)
}

fn client(facts: &Facts, asked: &Asked) -> Result<&'static str, Reason> {
    let node = named_node(asked)?;
    organizations(asked, &[NODES, YURTHUB], "system:nodes and openyurt:yurthub")?;
    usages(facts, "client auth")?;
    if !asked.dns.is_empty() || !asked.ips.is_empty() {
        return Err(Reason::ClientNames);
    }
    if !is_node(facts, node) && !is_bootstrapper(facts) {
        return Err(requester(facts, node));
    }
    Ok("client certificate of a node's yurthub")
}

fn serving(facts: &Facts, asked: &Asked) -> Result<&'static str, Reason> {
    let node = named_node(asked)?;
    organizations(asked, &[NODES], "system:nodes")?;
    usages(facts, "server auth")?;
    if !is_node(facts, node) {
        return Err(requester(facts, node));
    }
    let known = facts.node.as_ref().ok_or_else(|| Reason::UnknownNode(node.to_owned()))?;
    if asked.dns.is_empty() && asked.ips.is_empty() {
        return Err(Reason::NoNames);
    }
    for name in &asked.dns {
        let own = name == node || name == HUB_NAME || known.dns.contains(name);
        // A node says itself how it is called.
        let own = own && !is_service(name) && !name.contains('*');
        whose(facts, name, own)?;
    }
    for ip in &asked.ips {
        let own = HUB_ADDRESSES.contains(ip) || known.ips.contains(ip);
        whose(facts, &ip.to_string(), own)?;
    }
    Ok("serving certificate of a node")
}

fn named_node(asked: &Asked) -> Result<&str, Reason> {
    node_of(&asked.common_name).ok_or_else(|| Reason::CommonName(asked.common_name.clone()))
}

fn organizations(asked: &Asked, wanted: &[&str], text: &'static str) -> Result<(), Reason> {
    let exact =
        asked.organizations.len() == wanted.len() && wanted.iter().all(|o| asked.organizations.contains(*o));
    if exact { Ok(()) } else { Err(Reason::Organizations(text)) }
}

/// `key encipherment` is asked for with RSA keys only.
fn usages(facts: &Facts, purpose: &'static str) -> Result<(), Reason> {
    let asked: BTreeSet<&str> =
        facts.usages.iter().map(String::as_str).filter(|usage| *usage != "key encipherment").collect();
    if asked == BTreeSet::from(["digital signature", purpose]) {
        Ok(())
    } else {
        Err(Reason::Usages(purpose))
    }
}

/// Who asks is the node itself, with a certificate that it has already.
fn is_node(facts: &Facts, node: &str) -> bool {
    facts.groups.contains(NODES) && node_of(&facts.username) == Some(node)
}

/// Who asks is a machine that joins, with a bootstrap token.
fn is_bootstrapper(facts: &Facts) -> bool {
    facts.groups.contains(BOOTSTRAPPERS) && facts.username.starts_with(BOOTSTRAP_PREFIX)
}

fn requester(facts: &Facts, node: &str) -> Reason {
    Reason::Requester(facts.username.clone(), node.to_owned())
}

/// A node writes its own addresses, so that those of others are looked at, too. Where hubs listen is everybody's.
fn whose(facts: &Facts, name: &str, own: bool) -> Result<(), Reason> {
    let everybodys = name == HUB_NAME || HUB_ADDRESSES.iter().any(|ip| ip.to_string() == name);
    match (own, facts.taken.contains(name)) {
        (false, _) => Err(Reason::ForeignName(name.to_owned())),
        (true, true) if !everybodys => Err(Reason::TakenName(name.to_owned())),
        (true, _) => Ok(()),
    }
}

/// Names of Services, whatever a node is called: `kubernetes`, `kubernetes.default`, `<service>.<namespace>.svc...`.
fn is_service(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "kubernetes" || name == "kubernetes.default" || name.split('.').any(|label| label == "svc")
}

#[cfg(test)]
mod tests;
