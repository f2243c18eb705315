//! What the pods of a node need from the API to start, read from their specs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A list of pods, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub struct PodList {
    #[serde(default)]
    items: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
    annotations: BTreeMap<String, String>,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: String,
    volumes: Vec<Volume>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    image_pull_secrets: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<Claim>,
    ephemeral: Option<IgnoredAny>,
    csi: Option<CsiVolume>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Claim {
    claim_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CsiVolume {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecretVolume {
    secret_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    secret: Option<Named>,
    config_map: Option<Named>,
    service_account_token: Option<TokenSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenSource {
    audience: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    env: Vec<Env>,
    env_from: Vec<EnvFrom>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EnvFrom {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

/// One thing that some pod needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A core resource, namespace (empty where there is none), name.
    Object(&'static str, String, String),
    /// A token.
    Token {
        /// The ServiceAccount's namespace.
        namespace: String,
        /// Its name.
        account: String,
        /// Empty = the apiserver's own.
        audience: String,
        /// The pod's.
        uid: String,
    },
}

impl PodList {
    /// The uids of all of them.
    pub fn uids(&self) -> BTreeSet<String> {
        self.items.iter().map(|pod| pod.metadata.uid.clone()).collect()
    }

    /// Everything that those of the pods need that are not over (`pkg/kubelet/util/manager`: what a kubelet
    /// registers for a pod; `pkg/volume/projected`; `pkg/kubelet/volumemanager`). A mirror pod, which a node makes
    /// itself, needs nothing and opens nothing to the node
    /// (`plugin/pkg/auth/authorizer/node/graph.go`, `AddPod`).
    pub fn needs(&self) -> BTreeSet<Need> {
        let counts = |pod: &&Pod| {
            !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
                && !pod.metadata.annotations.contains_key("kubernetes.io/config.mirror")
        };
        self.items.iter().filter(counts).flat_map(Pod::needs).collect()
    }
}

impl Pod {
    fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        let mut object = |resource, named: Option<&str>| {
            let named = named.filter(|name| !name.is_empty());
            needs.extend(
                named.map(|name| Need::Object(resource, self.metadata.namespace.clone(), name.to_owned())),
            );
        };
        let name = |named: &Option<Named>| named.as_ref().map(|n| n.name.clone());
        let (mut secrets, mut maps) = (Vec::new(), Vec::new());
        for volume in &self.spec.volumes {
            object("persistentvolumeclaims", self.claim(volume).as_deref());
        }
        secrets.extend(self.spec.image_pull_secrets.iter().map(|s| Some(s.name.clone())));
        for volume in &self.spec.volumes {
            secrets.push(volume.secret.as_ref().map(|s| s.secret_name.clone()));
            maps.push(name(&volume.config_map));
            secrets.push(volume.csi.as_ref().and_then(|csi| name(&csi.node_publish_secret_ref)));
        }
        for source in self.sources() {
            secrets.push(name(&source.secret));
            maps.push(name(&source.config_map));
        }
        for container in self.spec.containers.iter().chain(&self.spec.init_containers) {
            for from in &container.env_from {
                secrets.push(name(&from.secret_ref));
                maps.push(name(&from.config_map_ref));
            }
            for from in container.env.iter().filter_map(|env| env.value_from.as_ref()) {
                secrets.push(name(&from.secret_key_ref));
                maps.push(name(&from.config_map_key_ref));
            }
        }
        secrets.iter().for_each(|s| object("secrets", s.as_deref()));
        maps.iter().for_each(|m| object("configmaps", m.as_deref()));
        let tokens = self.sources().filter_map(|s| s.service_account_token.as_ref());
        let tokens: Vec<Need> = tokens.map(|token| self.token(token)).collect();
        needs.extend(tokens);
        needs
    }

    /// The claim behind a volume; that of a generic ephemeral one is made for it
    /// (`k8s.io/component-helpers/storage/ephemeral`, `VolumeClaimName`).
    fn claim(&self, volume: &Volume) -> Option<String> {
        let made = volume.ephemeral.as_ref().map(|_| format!("{}-{}", self.metadata.name, volume.name));
        volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()).or(made)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.spec.volumes.iter().filter_map(|v| v.projected.as_ref()).flat_map(|p| &p.sources)
    }

    fn token(&self, source: &TokenSource) -> Need {
        let account = match self.spec.service_account_name.as_str() {
            "" => "default",
            named => named,
        };
        Need::Token {
            namespace: self.metadata.namespace.clone(),
            account: account.to_owned(),
            audience: source.audience.clone(),
            uid: self.metadata.uid.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_needs_what_it_mounts_and_what_its_environment_names() {
        let pod = json!({
            "metadata": {"namespace": "d", "name": "p", "uid": "u"},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "vs"}}, {"name": "b", "configMap": {"name": "vc"}},
                    {"name": "c", "projected": {"sources": [
                        {"secret": {"name": "ps"}}, {"configMap": {"name": "pc"}}, {"downwardAPI": {}},
                        {"serviceAccountToken": {"audience": "x", "path": "t"}}
                    ]}},
                    {"name": "d", "emptyDir": {}},
                    {"name": "e", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                    {"name": "f", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "cs"}}}
                ],
                "containers": [{"name": "c", "env": [{"name": "e", "valueFrom": {"secretKeyRef": {"name": "es", "key": "k"}}}]}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "ec"}}]}]
            }
        });
        let mut over = pod.clone();
        over["spec"]["imagePullSecrets"] = json!([{"name": "of-a-pod-that-is-over"}]);
        over["status"] = json!({"phase": "Succeeded"});
        let mut mirror = pod.clone();
        mirror["spec"]["imagePullSecrets"] = json!([{"name": "what-only-others-may-read"}]);
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        let list: PodList = serde_json::from_value(json!({"items": [pod, over, mirror]})).unwrap();
        let object = |resource, name: &str| Need::Object(resource, "d".into(), name.into());
        let token = Need::Token {
            namespace: "d".into(),
            account: "default".into(),
            audience: "x".into(),
            uid: "u".into(),
        };
        let mut expected: BTreeSet<Need> = ["ec", "pc", "vc"].map(|n| object("configmaps", n)).into();
        expected.extend(["cs", "es", "ps", "pull", "vs"].map(|n| object("secrets", n)));
        expected.extend(["data", "p-scratch"].map(|n| object("persistentvolumeclaims", n)));
        expected.insert(token);
        assert_eq!(list.needs(), expected);
    }
}
