//! Objects of five kinds in a namespace of their own, and rounds of changes to them in the cloud. What clients
//! are held to is not what was asked for here but what the cloud tells of it.

use crate::client::{Client, Request};
use crate::link;
use crate::record::{Made, Record};
use crate::wait::until;
use crate::world::World;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// The namespace of these objects.
pub const NAMESPACE: &str = "informers";
/// The kinds, as their resources are called.
pub const KINDS: [&str; 5] = ["pods", "services", "configmaps", "endpointslices", "widgets"];

const CREATED: Duration = Duration::from_secs(30);
const ROUND: &str = "e2e.yurt/round";
/// Objects that are there from the start and stay.
const STAYING: [&str; 3] = ["stays-0", "stays-1", "stays-2"];

/// The objects, and what the cloud told of them so far.
pub struct Changes {
    admin: Client,
    /// What the cloud tells of them, whoever changed them.
    pub record: Record,
    /// Writes of which nothing was heard yet.
    made: Vec<Made>,
    rounds: usize,
}

/// Lets a story have the objects, and removes them however it ends, with the link.
pub fn with(world: &mut World, story: fn(&mut World, &mut Changes) -> Result<()>) -> Result<()> {
    let mut changes = Changes::begin(&world.cluster.admin)?;
    let outcome = story(world, &mut changes);
    link::heal()?;
    let gone = changes.end();
    outcome.and(gone)
}

impl Changes {
    /// Makes the namespace, the custom kind and the objects that stay.
    fn begin(admin: &Client) -> Result<Changes> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        admin.json("POST", "/api/v1/namespaces", &namespace)?;
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        admin.json("POST", definitions, &definition())?;
        let authority = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/kube-root-ca.crt");
        until("the namespace to be complete", CREATED, || admin.object(&authority))?;
        let record = until("every kind to be served", CREATED, || Record::begin(admin, KINDS.map(served)))?;
        let mut changes = Changes { admin: admin.clone(), record, made: Vec::new(), rounds: 0 };
        for kind in KINDS {
            for name in STAYING {
                changes.create(kind, name)?;
            }
        }
        changes.record.hear(&std::mem::take(&mut changes.made))?;
        Ok(changes)
    }

    /// Makes so many widgets of that size in bytes, which then stay as they are. Of a kind that the kubelet follows, so
    /// many would push out of the apiserver's memory what its watches of single objects go on from.
    pub fn fill(&mut self, count: usize, size: usize) -> Result<()> {
        for index in 0..count {
            let mut filler = object("widgets", &format!("filler-{index}"));
            filler["spec"]["filler"] = json!("x".repeat(size));
            let made = self.admin.json("POST", &path("widgets"), &filler)?;
            self.note("widgets", &made, false)?;
        }
        self.record.hear(&std::mem::take(&mut self.made))
    }

    /// Of every kind: creates an object, changes two that stay, one of them twice, and deletes the object that
    /// the round before created.
    pub fn round(&mut self) -> Result<()> {
        self.rounds += 1;
        let (new, old) = (format!("round-{}", self.rounds), format!("round-{}", self.rounds - 1));
        for kind in KINDS {
            self.create(kind, &new)?;
            for (step, name) in [STAYING[0], STAYING[1], STAYING[0]].into_iter().enumerate() {
                self.touch(kind, name, step)?;
            }
            if self.rounds > 1 {
                self.delete(kind, &old)?;
            }
        }
        self.record.hear(&std::mem::take(&mut self.made))
    }

    /// Removes all of it, and waits until it is gone.
    fn end(self) -> Result<()> {
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        self.admin.json("DELETE", &namespace, &json!({}))?;
        let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.e2e.yurt";
        self.admin.json("DELETE", definition, &json!({}))?;
        until("the namespace to be gone", Duration::from_secs(60), || {
            match self.admin.get(&namespace)?.status {
                404 => Ok(()),
                status => bail!("it answers {status}"),
            }
        })
    }

    fn create(&mut self, kind: &'static str, name: &str) -> Result<()> {
        let made = self.admin.json("POST", &path(kind), &object(kind, name))?;
        self.note(kind, &made, false)
    }

    fn touch(&mut self, kind: &'static str, name: &str, step: usize) -> Result<()> {
        let value = format!("{}-{step}", self.rounds);
        let patch = json!({"metadata": {"annotations": {ROUND: value}}}).to_string();
        let request = Request::new("PATCH", format!("{}/{name}", path(kind)))
            .body("application/merge-patch+json", patch);
        let made = self.admin.send(&request)?.json().with_context(|| request.shown())?;
        self.note(kind, &made, false)
    }

    fn delete(&mut self, kind: &'static str, name: &str) -> Result<()> {
        let place = format!("{}/{name}", path(kind));
        let last = self.admin.object(&place)?;
        self.admin.json("DELETE", &place, &json!({"gracePeriodSeconds": 0}))?;
        self.note(kind, &last, true)
    }

    fn note(&mut self, kind: &'static str, object: &Value, deleted: bool) -> Result<()> {
        let metadata = &object["metadata"];
        let text = |name: &str| metadata[name].as_str().with_context(|| format!("no {name} in {object}"));
        let version = if deleted { None } else { Some(text("resourceVersion")?.to_string()) };
        self.made.push(Made { kind, uid: text("uid")?.to_string(), version });
        Ok(())
    }
}

fn served(kind: &'static str) -> (&'static str, String) {
    (kind, path(kind))
}

/// The collection of a kind in the namespace.
pub fn path(kind: &str) -> String {
    let group = match kind {
        "endpointslices" => "/apis/discovery.k8s.io/v1",
        "widgets" => "/apis/e2e.yurt/v1",
        _ => "/api/v1",
    };
    format!("{group}/namespaces/{NAMESPACE}/{kind}")
}

fn object(kind: &str, name: &str) -> Value {
    let (version, content) = match kind {
        // No scheduler looks for this name, so the pod waits for ever and nobody writes its status.
        "pods" => (
            "v1",
            json!({"kind": "Pod", "spec": {"schedulerName": "nobody", "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "web", "image": crate::image::WEB}]}}),
        ),
        "services" => ("v1", json!({"kind": "Service", "spec": {"ports": [{"port": 80}]}})),
        "configmaps" => ("v1", json!({"kind": "ConfigMap", "data": {"name": name}})),
        "endpointslices" => (
            "discovery.k8s.io/v1",
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
                "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}}]}),
        ),
        _ => ("e2e.yurt/v1", json!({"kind": "Widget", "spec": {"size": 3, "parts": [{"name": name}]}})),
    };
    let mut object = content;
    object["apiVersion"] = json!(version);
    object["metadata"] = json!({"name": name, "namespace": NAMESPACE, "labels": {"app": "informers"}});
    object
}

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "description": "A thing of which nobody but this cluster knows.",
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.e2e.yurt"},
        "spec": {
            "group": "e2e.yurt", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}
