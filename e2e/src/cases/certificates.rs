//! Requests for certificates of the node's hub: the real signer signs what the controller approves, and the
//! controller approves nothing that the node asks for in another's name.

use super::controller::Controller;
use crate::client::{Client, Identity, Request};
use crate::cluster::PORT;
use crate::container::NODE_NAME;
use crate::wait::until;
use crate::world::World;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::{Value, json};
use std::time::Duration;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const LIMIT: Duration = Duration::from_secs(60);

/// A request: its name, the node that it speaks of, the signer, and why it is left for a human, if it is.
struct Asked {
    name: &'static str,
    node: &'static str,
    signer: &'static str,
    address: &'static str,
    left: Option<&'static str>,
}

/// What is asked with the identity of the node. A serving certificate in another's name is refused by the apiserver
/// itself (NodeRestriction), one with another's address is not.
const TABLE: [Asked; 4] = [
    Asked { name: "hub-client", node: NODE_NAME, signer: CLIENT, address: "", left: None },
    Asked { name: "hub-serving", node: NODE_NAME, signer: SERVING, address: "127.0.0.1", left: None },
    Asked { name: "foreign-client", node: "edge-2", signer: CLIENT, address: "", left: Some("edge-2") },
    Asked {
        name: "foreign-address",
        node: NODE_NAME,
        signer: SERVING,
        address: "10.9.9.9",
        left: Some("10.9.9.9"),
    },
];

/// Asks for each certificate of the table; leaves nothing behind.
pub fn run(world: &mut World) -> Result<()> {
    world.be_online()?;
    let mut controller = Controller::install(world, Duration::from_secs(40))?;
    controller.start()?;
    controller.wait_for_leader()?;
    let authority = world.cluster.pki.certificate("ca");
    let identity = Identity::certificate(&world.cluster.pki, "kubelet")?;
    let node = Client::new("127.0.0.1", PORT, &authority, &identity)?;
    for asked in &TABLE {
        node.json("POST", REQUESTS, &asked.object()?)?;
    }
    let outcome = TABLE.iter().try_for_each(|asked| {
        let outcome = match asked.left {
            None => signed(world, asked.name),
            Some(why) => left(world, asked.name, why),
        };
        outcome.context(asked.name)
    });
    for asked in &TABLE {
        let request = Request::new("DELETE", format!("{REQUESTS}/{}", asked.name));
        world.cluster.admin.send(&request)?.success()?;
    }
    outcome
}

/// An error unless the request gets its certificate.
fn signed(world: &World, name: &str) -> Result<()> {
    until("the certificate", LIMIT, || {
        let request = world.cluster.admin.object(&format!("{REQUESTS}/{name}"))?;
        match request["status"]["certificate"].as_str() {
            Some(_) => Ok(()),
            None => bail!("its status is {}", request["status"]),
        }
    })
}

/// An error unless an Event says that the request is left for a human, and nobody has approved it.
fn left(world: &World, name: &str, why: &str) -> Result<()> {
    let selector = format!("involvedObject.kind%3DCertificateSigningRequest,involvedObject.name%3D{name}");
    let events = format!("/api/v1/namespaces/default/events?fieldSelector={selector}");
    until("an Event that says why", LIMIT, || {
        let list = world.cluster.admin.object(&events)?;
        match list["items"][0]["message"].as_str() {
            Some(message) if message.contains(why) => Ok(()),
            other => bail!("there is {other:?}"),
        }
    })?;
    let request = world.cluster.admin.object(&format!("{REQUESTS}/{name}"))?;
    match &request["status"]["conditions"] {
        Value::Null => Ok(()),
        conditions => bail!("its conditions are {conditions}"),
    }
}

impl Asked {
    fn object(&self) -> Result<Value> {
        let purpose = if self.signer == CLIENT { "client auth" } else { "server auth" };
        Ok(json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": self.name},
            "spec": {
                "request": STANDARD.encode(self.pem()?), "signerName": self.signer,
                "usages": ["digital signature", purpose],
            },
        }))
    }

    fn pem(&self) -> Result<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node));
        params.distinguished_name.push(DnType::OrganizationName, NODES);
        if self.signer == CLIENT {
            // rcgen holds one value of a type: the same type by its number is another one for it.
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), "openyurt:yurthub");
        }
        if !self.address.is_empty() {
            params.subject_alt_names = vec![SanType::IpAddress(self.address.parse()?)];
        }
        Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
    }
}
