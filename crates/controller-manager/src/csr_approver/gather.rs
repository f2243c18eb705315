//! What the cluster knows about a request.

use std::collections::BTreeSet;

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

/// Everything that the decision needs; nothing when somebody has decided already.
/// Errors: the cluster could not be asked.
pub async fn facts(client: &Client, request: &CertificateSigningRequest) -> Result<Option<Facts>, Error> {
    if is_decided(request) {
        return Ok(None);
    }
    let spec = &request.spec;
    let asked = Asked::read(&spec.request.0);
    let mut facts = Facts {
        signer: spec.signer_name.clone(),
        username: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.iter().flatten().cloned().collect(),
        usages: spec.usages.iter().flatten().cloned().collect(),
        asked,
        node: None,
        taken: BTreeSet::new(),
    };
    if facts.signer == SERVING_SIGNER {
        let name = facts.asked.as_ref().ok().and_then(|asked| node_of(&asked.common_name)).map(str::to_owned);
        addresses(client, name.as_deref(), &mut facts).await?;
        apiserver(client, &mut facts.taken).await?;
    }
    Ok(Some(facts))
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref()).is_some_and(|c| !c.is_empty());
    conditions || status.is_some_and(|s| s.certificate.is_some())
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

/// The node's own names, and those of all others.
async fn addresses(client: &Client, name: Option<&str>, facts: &mut Facts) -> Result<(), Error> {
    let mut from = String::new();
    loop {
        let path = format!("/api/v1/nodes?limit={PAGE}&continue={from}");
        let page: List<Node> = get(client, &path).await?;
        for node in page.items {
            if Some(node.metadata.name.as_str()) == name {
                facts.node = Some(node.status.names());
            } else {
                facts.taken.insert(node.metadata.name);
                facts.taken.extend(node.status.addresses.into_iter().map(|a| a.address));
            }
        }
        // Continue tokens are base64url: safe in a query as they are.
        from = page.metadata.r#continue;
        if from.is_empty() {
            return Ok(());
        }
    }
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

/// Where the apiserver is: nobody else gets a certificate for that.
async fn apiserver(client: &Client, taken: &mut BTreeSet<String>) -> Result<(), Error> {
    let service: Service = get(client, SERVICE).await?;
    taken.extend(service.spec.cluster_ips);
    let slices: List<Slice> = get(client, SLICES).await?;
    let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints);
    taken.extend(endpoints.flat_map(|endpoint| endpoint.addresses));
    Ok(())
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, Error> {
    let request = Request::get(path).body(Vec::new()).map_err(Error::HttpError)?;
    client.request(request).await
}
