//! What the cluster knows about a request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::Request;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{Client, Error};
use serde::Deserialize;

use super::asked::Asked;
use super::decide::{Addresses, Facts, SERVING_SIGNER, node_of};

/// Nodes in one answer.
const PAGE: usize = 100;
const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
    ?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";

/// Who has which names and addresses, read once for as many requests as are looked at together.
#[derive(Debug, Default)]
pub struct Known {
    nodes: BTreeMap<String, Addresses>,
    /// Names and addresses with the nodes that have them; the apiserver is the one without a name.
    owners: BTreeMap<String, BTreeSet<String>>,
}

/// Everything that the decision needs; `known` is only looked at for serving certificates.
pub fn facts(request: &CertificateSigningRequest, known: &Known) -> Facts {
    let spec = &request.spec;
    let mut facts = Facts {
        signer: spec.signer_name.clone(),
        username: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.iter().flatten().cloned().collect(),
        usages: spec.usages.iter().flatten().cloned().collect(),
        asked: Asked::read(&spec.request.0),
        node: None,
        taken: BTreeSet::new(),
    };
    if let Ok(asked) = &facts.asked {
        let node = node_of(&asked.common_name).unwrap_or_default();
        facts.node = known.nodes.get(node).cloned();
        facts.taken = known.taken(asked, node);
    }
    facts
}

/// Whether the decision needs to know who has which names.
pub fn needs_names(request: &CertificateSigningRequest) -> bool {
    request.spec.signer_name == SERVING_SIGNER
}

/// Whether somebody has decided already.
pub fn is_decided(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref()).is_some_and(|c| !c.is_empty());
    conditions || status.is_some_and(|s| s.certificate.is_some())
}

impl Known {
    /// Reads it. Errors: the cluster could not be asked.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let mut known = Self::default();
        known.read_nodes(client).await?;
        known.read_apiserver(client).await?;
        Ok(known)
    }

    /// Of what is asked for, that which others than the node have.
    fn taken(&self, asked: &Asked, node: &str) -> BTreeSet<String> {
        let names = asked.dns.iter().cloned().chain(asked.ips.iter().map(ToString::to_string));
        let owners = |name: &String| self.owners.get(&canonical(name.clone()));
        names.filter(|name| owners(name).is_some_and(|all| all.iter().any(|owner| owner != node))).collect()
    }

    fn own(&mut self, owner: &str, names: impl Iterator<Item = String>) {
        for name in names {
            self.owners.entry(name).or_default().insert(owner.to_owned());
        }
    }

    /// The names of all nodes.
    async fn read_nodes(&mut self, client: &Client) -> Result<(), Error> {
        let mut from = String::new();
        loop {
            let path = format!("/api/v1/nodes?limit={PAGE}&continue={from}");
            let page: List<Node> = get(client, &path).await?;
            for Node { metadata: Named { name }, status } in page.items {
                self.nodes.insert(name.clone(), status.names());
                let addresses = status.addresses.into_iter().map(|a| canonical(a.address));
                self.own(&name, addresses.chain([name.clone()]));
            }
            // Continue tokens are base64url: safe in a query as they are.
            from = page.metadata.r#continue;
            if from.is_empty() {
                return Ok(());
            }
        }
    }

    /// Where the apiserver is: nobody else gets a certificate for that.
    async fn read_apiserver(&mut self, client: &Client) -> Result<(), Error> {
        let service: Service = get(client, SERVICE).await?;
        self.own("", service.spec.cluster_ips.into_iter().map(canonical));
        let slices: List<Slice> = get(client, SLICES).await?;
        let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints);
        self.own("", endpoints.flat_map(|endpoint| endpoint.addresses).map(canonical));
        Ok(())
    }
}

/// A name or address as it is compared: one text for each, however it was written. Case means nothing in names (RFC 4343).
fn canonical(name: String) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string())
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct Node {
    metadata: Named,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Deserialize)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    addresses: Vec<String>,
}

impl NodeStatus {
    fn names(&self) -> Addresses {
        let mut names = Addresses::default();
        for Address { r#type, address } in &self.addresses {
            match (r#type.as_str(), address.parse()) {
                ("InternalIP" | "ExternalIP", Ok(ip)) => {
                    names.ips.insert(ip);
                }
                ("Hostname" | "InternalDNS" | "ExternalDNS", Err(_)) => {
                    names.dns.insert(address.clone());
                }
                _ => {}
            }
        }
        names
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, Error> {
    let request = Request::get(path).body(Vec::new()).map_err(Error::HttpError)?;
    client.request(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_is_taken_however_it_is_written() {
        let mut known = Known::default();
        let names = |texts: &[&str]| texts.iter().map(|t| canonical((*t).to_owned())).collect::<Vec<_>>();
        known.own("a", names(&["a", "10.0.0.7", "shared"]).into_iter());
        known.own("b", names(&["b", "shared", "FD00:0::8"]).into_iter());
        known.own("", names(&["10.96.0.1"]).into_iter());
        let asked = Asked {
            dns: vec!["a".into(), "shared".into(), "nobodys".into(), "B".into()],
            ips: ["10.0.0.7", "fd00::8", "10.96.0.1"].map(|ip| ip.parse().unwrap()).to_vec(),
            ..Asked::default()
        };
        let taken: Vec<String> = known.taken(&asked, "a").into_iter().collect();
        assert_eq!(taken, ["10.96.0.1", "B", "fd00::8", "shared"]);
    }
}
