//! The row of a service.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::age::age;
use super::{Made, Metadata, nil, or_none};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    r#type: String,
    #[serde(rename = "clusterIPs", deserialize_with = "nil")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "nil")]
    external_ips: Vec<String>,
    external_name: String,
    #[serde(deserialize_with = "nil")]
    ports: Vec<Port>,
    #[serde(deserialize_with = "nil")]
    selector: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    port: i64,
    protocol: String,
    node_port: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nil")]
    ingress: Vec<Ingress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: String,
    hostname: String,
}

/// The cells of a service at `now`.
pub(super) fn made(service: &Service, now: i64) -> Made {
    let spec = &service.spec;
    let ports: Vec<String> = spec.ports.iter().map(Port::text).collect();
    let selector: Vec<String> = spec.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let texts = [
        service.metadata.name.clone(),
        spec.r#type.clone(),
        or_none(spec.cluster_ips.first().map_or("", String::as_str)),
        service.outside(),
        or_none(&ports.join(",")),
        age(service.metadata.created(), now),
        or_none(&selector.join(",")),
    ];
    Made::of(texts.into_iter().map(Value::from).collect())
}

impl Service {
    fn outside(&self) -> String {
        let external = self.spec.external_ips.join(",");
        match self.spec.r#type.as_str() {
            "ClusterIP" | "NodePort" => or_none(&external),
            "LoadBalancer" => self.balanced(),
            "ExternalName" => self.spec.external_name.clone(),
            _ => "<unknown>".to_owned(),
        }
    }

    fn balanced(&self) -> String {
        let ingress = self.status.load_balancer.ingress.iter();
        let given = ingress.map(|i| if i.ip.is_empty() { &i.hostname } else { &i.ip });
        let given: BTreeSet<&String> = given.filter(|g| !g.is_empty()).collect();
        let all: Vec<&str> = given.into_iter().chain(&self.spec.external_ips).map(String::as_str).collect();
        if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
    }
}

impl Port {
    fn text(&self) -> String {
        match self.node_port {
            1.. => format!("{}:{}/{}", self.port, self.node_port, self.protocol),
            _ => format!("{}/{}", self.port, self.protocol),
        }
    }
}
