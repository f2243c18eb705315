//! What an entry is to the cloud: the requests that deliver it, and what their answers mean.

use http::{Method, StatusCode};
use serde_json::Value;
use yurt_store::{Entry, Operation};

use super::ask::{Halt, is_not_found, text};
use super::{Replay, plan};
use crate::cache::write::{CloudObject, Written, is_wipe};

/// How an entry ended.
pub(super) enum Outcome {
    /// The cloud has it.
    Delivered(CloudObject),
    /// What it was about is gone from the cloud: there is nothing left to say.
    Dropped(&'static str, CloudObject),
    /// The cloud does not take it; its words, and what it holds.
    Conflict(String, Option<Value>),
}

impl Replay {
    pub(super) async fn deliver(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let Ok(written) = serde_json::from_slice::<Written>(&entry.body) else {
            return Ok(Outcome::Conflict("the journal entry cannot be read".to_owned(), None));
        };
        match entry.operation {
            Operation::Status | Operation::Update => self.deliver_change(entry, &written).await,
            Operation::Delete if is_wipe(entry) => self.deliver_wipe(entry).await,
            Operation::Delete => self.deliver_deletion(entry).await,
            Operation::Create => self.deliver_creation(entry, &written).await,
            Operation::Event => self.deliver_event(entry, &written).await,
        }
    }

    async fn deliver_change(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let path = object_path(entry);
        let Some((code, cloud)) = self.current(entry).await? else {
            return Ok(Outcome::Dropped("the object is gone from the cloud", CloudObject::Gone));
        };
        if !code.is_success() {
            return Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(cloud)));
        }
        let uid = text(&cloud, "/metadata/uid");
        if uid != entry.uid {
            let newer = CloudObject::Is(Box::new(cloud));
            return Ok(Outcome::Dropped("the cloud has a newer object of this name", newer));
        }
        let kind = written.kind.type_meta();
        let status = plan::status_patch(&kind, &written.base, &written.object, &cloud);
        let main = plan::main_patch(&kind, &written.base, &written.object);
        let mut now = cloud.clone();
        let of_status = format!("{path}/status");
        // What a node says of its pods beside their status it says there, too: it may not patch a pod.
        let path = if entry.resource.is("", "pods") { of_status.clone() } else { path };
        for (path, patch) in [(of_status, status), (path, main)] {
            let Some(patch) = patch else { continue };
            // A patch carries the uid: it never reaches a newer object of the same name.
            let patch = plan::for_uid(patch, &entry.uid);
            let (code, answer) = self.push_one(Method::PATCH, &path, Some(&patch)).await?;
            match code {
                _ if code.is_success() => now = answer,
                // The object has changed or gone since it was read: the next look says which.
                StatusCode::CONFLICT | StatusCode::NOT_FOUND => {
                    return Err(Halt::Busy(format!("{code}: {}", text(&answer, "/message"))));
                }
                _ => {
                    return Ok(Outcome::Conflict(
                        format!("the cloud answers {code}: {}", text(&answer, "/message")),
                        Some(cloud),
                    ));
                }
            }
        }
        Ok(Outcome::Delivered(CloudObject::Is(Box::new(now))))
    }

    /// The cloud's object of an entry, or its refusal; `None` when the object is gone. A pod is asked for as a list: to a
    /// GET of a pod that is gone the node authorizer says 403
    /// (`plugin/pkg/auth/authorizer/node/node_authorizer.go`), as to one of another node.
    async fn current(&self, entry: &Entry) -> Result<Option<(StatusCode, Value)>, Halt> {
        if !entry.resource.is("", "pods") {
            let (code, object) = self.push_kept(Method::GET, &object_path(entry), None).await?;
            return Ok((!is_not_found(code, &object)).then_some((code, object)));
        }
        let node = self.cache.node_name();
        let path = format!(
            "{}?fieldSelector=metadata.name%3D{},spec.nodeName%3D{node}",
            list_path(entry),
            entry.key.name
        );
        let (code, mut list) = self.push_kept(Method::GET, &path, None).await?;
        if !code.is_success() {
            return Ok((!is_not_found(code, &list)).then_some((code, list)));
        }
        match list.get_mut("items").and_then(Value::as_array_mut) {
            Some(pods) => Ok(pods.first_mut().map(|pod| (code, pod.take()))),
            None => Err(Halt::Busy(format!("{code}, but no list"))),
        }
    }

    /// One request for an entry that is lost if the cloud has not what it is about: only the cloud's word counts for that.
    async fn push_kept(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Halt> {
        match self.push_one(method, path, body).await? {
            (code @ StatusCode::NOT_FOUND, answer) if !is_not_found(code, &answer) => {
                Err(Halt::Busy(format!("{code}, but not from the cloud")))
            }
            answer => Ok(answer),
        }
    }

    async fn deliver_deletion(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let options = plan::deletion(&entry.uid);
        let (code, answer) = self.push_kept(Method::DELETE, &object_path(entry), Some(&options)).await?;
        match code {
            // Gone already, or a newer object of that name that is not to be touched: done either way.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(Outcome::Delivered(CloudObject::Gone)),
            _ if code.is_success() => Ok(Outcome::Delivered(CloudObject::Gone)),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer))),
        }
    }

    /// Every slice of this node in the cloud is older than this process of the kubelet.
    async fn deliver_wipe(&self, entry: &Entry) -> Result<Outcome, Halt> {
        let path = format!("{}?fieldSelector=spec.nodeName%3D{}", list_path(entry), self.cache.node_name());
        let (code, answer) = self.push_one(Method::DELETE, &path, None).await?;
        match code {
            // A cloud that does not serve them has none.
            StatusCode::NOT_FOUND => Ok(Outcome::Delivered(CloudObject::Unknown)),
            _ if code.is_success() => Ok(Outcome::Delivered(CloudObject::Unknown)),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer))),
        }
    }

    async fn deliver_creation(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let (code, mut answer) =
            self.push_kept(Method::POST, &list_path(entry), Some(&plan::creation(&written.object))).await?;
        if is_not_found(code, &answer) && is_of_namespace(entry, &answer) {
            return Ok(Outcome::Dropped("its namespace is gone from the cloud", CloudObject::Gone));
        }
        if code == StatusCode::CONFLICT {
            let (found, held) = self.push_one(Method::GET, &object_path(entry), None).await?;
            let Some(ours) = self.made_ours(entry, written, found, &held).await? else {
                let why = "the cloud has another object of this name".to_owned();
                return Ok(Outcome::Conflict(why, Some(held)));
            };
            answer = ours;
        } else if !code.is_success() {
            return Ok(Outcome::Conflict(format!("the cloud answers {code}"), Some(answer)));
        }
        let kind = written.kind.type_meta();
        if let Some(patch) = plan::status_patch(&kind, &Value::Null, &written.object, &answer) {
            let uid = text(&answer, "/metadata/uid").to_owned();
            let path = format!("{}/status", object_path(entry));
            let (code, patched) =
                self.push_one(Method::PATCH, &path, Some(&plan::for_uid(patch, &uid))).await?;
            if code.is_success() {
                answer = patched;
            }
        }
        Ok(Outcome::Delivered(CloudObject::Is(Box::new(answer))))
    }

    /// The cloud has an object of the name that the node made: the same mirror pod, or one of the node's own objects
    /// (CSINode, ResourceSlice), which becomes what the node has. `None` when it is another's.
    async fn made_ours(
        &self,
        entry: &Entry,
        written: &Written,
        found: StatusCode,
        held: &Value,
    ) -> Result<Option<Value>, Halt> {
        if !found.is_success() {
            return Ok(None);
        }
        if entry.resource.is("", "pods") {
            let mirror = "/metadata/annotations/kubernetes.io~1config.mirror";
            let same = text(held, mirror) == text(&written.object, mirror);
            return Ok(same.then(|| held.clone()));
        }
        let (theirs, ours) = (plan::creation(held), plan::creation(&written.object));
        let Some(patch) = plan::main_patch(&written.kind.type_meta(), &theirs, &ours) else {
            return Ok(Some(held.clone()));
        };
        let patch = plan::for_uid(patch, text(held, "/metadata/uid"));
        let (code, patched) = self.push_one(Method::PATCH, &object_path(entry), Some(&patch)).await?;
        Ok(code.is_success().then_some(patched))
    }

    async fn deliver_event(&self, entry: &Entry, written: &Written) -> Result<Outcome, Halt> {
        let (code, answer) = match written.patch.is_object() {
            true => self.ask(Method::PATCH, &object_path(entry), Some(&written.patch)).await?,
            false => {
                self.ask(Method::POST, &list_path(entry), Some(&plan::creation(&written.object))).await?
            }
        };
        match code {
            // The event was sent before the answer was lost, or has ended its life in the cloud.
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(Outcome::Delivered(CloudObject::Unknown)),
            _ if code.is_success() => Ok(Outcome::Delivered(CloudObject::Is(Box::new(answer)))),
            _ => Ok(Outcome::Conflict(format!("the cloud answers {code}"), None)),
        }
    }
}

/// Whether a refusal is about the entry's namespace (`k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`).
fn is_of_namespace(entry: &Entry, refusal: &Value) -> bool {
    text(refusal, "/details/kind") == "namespaces" && text(refusal, "/details/name") == entry.key.namespace
}

fn list_path(entry: &Entry) -> String {
    let resource = &entry.resource;
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let namespace = match entry.key.namespace.as_str() {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    format!("{root}/{}{namespace}/{}", resource.api_version(), resource.resource)
}

fn object_path(entry: &Entry) -> String {
    format!("{}/{}", list_path(entry), entry.key.name)
}
