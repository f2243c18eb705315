//! Which writes the node may make while the cloud is away, and what it gets for an answer (design,
//! "Writes while offline").

use bytes::Bytes;
use serde_json::{Value, json};
use yurt_api::collection::ObjectKey;
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{ResourceRequest, Verb};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_store::{Operation, StoreError};

use super::body::{apply, delete_options, is_trial, parse};
use super::new::new_object;
use super::object::{self, Mismatch};
use super::{LocalObject, Written, set_version, slices, uid_of, version_of};
use crate::cache::{Cache, FrontError, ObjectAnswer, Scope, ring};
use crate::respond::Reason;

/// The namespace of node leases (`k8s.io/api/core/v1.NamespaceNodeLease`).
const LEASES: &str = "kube-node-lease";
const JSON: Representation = Representation { encoding: Encoding::Json, metadata_only: false };

/// A write as it came.
pub struct LocalWrite<'a> {
    /// What it is about.
    pub request: &'a ResourceRequest,
    /// The `Content-Type`.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a Bytes,
}

/// The answer to a write that was kept.
pub struct Accepted {
    /// 200 or 201.
    pub code: u16,
    /// Kind and apiVersion of the object.
    pub kind: TypeMeta,
    /// The object as the node left it, in JSON.
    pub object: Value,
}

/// Why a write was not kept; nothing of it was.
#[derive(Debug)]
pub enum Refused {
    /// Only the cloud can take it, or nothing is held that it could change: try again later.
    Later(Reason, String),
    /// An answer that will not change: HTTP code, reason and words as the apiserver has them.
    Final(u16, &'static str, String),
}

impl From<FrontError> for Refused {
    fn from(error: FrontError) -> Self {
        let why = match &error {
            FrontError::Store(StoreError::DiskFull) => "the disk is full (507)".to_owned(),
            other => other.to_string(),
        };
        Refused::Later(Reason::StoreFailed, format!("the write cannot be kept: {why}"))
    }
}

impl From<Mismatch> for Refused {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Bad(why) => Refused::Final(400, "BadRequest", why),
            Mismatch::Conflict(why) => {
                Refused::Final(409, "Conflict", format!("the object has been modified: {why}"))
            }
            Mismatch::Forbidden(why) => Refused::Final(403, "Forbidden", why),
            Mismatch::Patch(code, why) => Refused::Final(code, reason_of(code), why),
        }
    }
}

/// The reason that the apiserver has for a patch that it does not take (`k8s.io/apimachinery/pkg/api/errors`).
fn reason_of(code: u16) -> &'static str {
    match code {
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        _ => "BadRequest",
    }
}

/// What the node may do to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Lease,
    Modify { status: bool },
    Create,
    CreateMirror,
    DeletePod,
    Event,
    WipeSlices,
    None,
}

impl Cache {
    /// Takes a write of the node, or says why not.
    pub async fn write(&self, write: LocalWrite<'_>) -> Result<Accepted, Refused> {
        let _one_at_a_time = self.overlay.gate.lock().await;
        if is_trial(&write)? {
            return Err(Refused::Later(Reason::CloudOnly, "only the cloud can try a write".to_owned()));
        }
        match right(write.request, &self.node_name) {
            Right::Lease => self.lease(&write).await,
            Right::Modify { status } => self.modify(&write, status).await,
            Right::Create => self.create(&write).await,
            Right::CreateMirror => self.create_mirror(&write).await,
            Right::DeletePod => self.delete_pod(&write).await,
            Right::Event => self.event(&write).await,
            Right::WipeSlices => self.wipe_slices(&write).await,
            Right::None => Err(Refused::Later(Reason::CloudOnly, "this write needs the cloud".to_owned())),
        }
    }

    async fn modify(&self, write: &LocalWrite<'_>, status: bool) -> Result<Accepted, Refused> {
        let request = write.request;
        let key = named(request)?;
        let (kind, current) = self.current(request).await?;
        self.check_owner(request, &current)?;
        let body = parse(write, &kind)?;
        let after = apply(write, &kind, &current, &body, status)?;
        self.store_change(&request.resource, &key, kind, current, after, 200).await
    }

    fn check_owner(&self, request: &ResourceRequest, object: &Value) -> Result<(), Refused> {
        let bound =
            request.resource.is("", "pods") || request.resource.is("resource.k8s.io", "resourceslices");
        if bound && !object::runs_on(object, &self.node_name) {
            return Err(Refused::Later(Reason::CloudOnly, "the object belongs to another node".to_owned()));
        }
        Ok(())
    }

    async fn store_change(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        kind: TypeMeta,
        current: Value,
        mut after: Value,
        code: u16,
    ) -> Result<Accepted, Refused> {
        if object::same_content(&current, &after) {
            return Ok(Accepted { code, kind, object: current });
        }
        let earlier = self.overlay.get(resource, key);
        let (operation, base) = match earlier {
            Some(local) => (local.operation, local.written.base),
            None => (Operation::Status, current),
        };
        let uid = uid_of(&after).to_owned();
        let written = Written { kind: (&kind).into(), base, object: after.clone(), patch: Value::Null };
        let version = self.journal(resource, key, &uid, operation, written).await?;
        set_version(&mut after, version);
        Ok(Accepted { code, kind, object: after })
    }

    /// The node's lease: its only writer is the node, and the next renewal says all that this one did.
    async fn lease(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let kind = TypeMeta::new("coordination.k8s.io/v1", "Lease");
        let body = parse(write, &kind)?;
        let held = match (write.request.verb, self.current(write.request).await) {
            (Verb::Create, _) => None,
            // A whole lease of its only writer says all that there is to know of it.
            (Verb::Update, Err(Refused::Later(Reason::NotHeld, _))) => None,
            (_, current) => Some(current?.1),
        };
        let key = ObjectKey::new(LEASES, &self.node_name);
        let mut object = match &held {
            Some(current) => apply(write, &kind, current, &body, false)?,
            None => new_object(&kind, &body, Some(LEASES))?,
        };
        if object.pointer("/metadata/name").and_then(Value::as_str) != Some(&self.node_name) {
            return Err(Refused::Later(Reason::CloudOnly, "the lease is another node's".to_owned()));
        }
        if let (None, Some(uid)) = (&held, body.pointer("/metadata/uid").filter(|u| u.is_string())) {
            object["metadata"]["uid"] = uid.clone();
        }
        let version = ring::LOCAL + self.front.write(|w| w.next_local_version()).await?;
        set_version(&mut object, version);
        let uid = uid_of(&object).to_owned();
        let written =
            Written { kind: (&kind).into(), base: Value::Null, object: object.clone(), patch: Value::Null };
        let local = LocalObject { version, uid, operation: Operation::Update, written, ephemeral: true };
        self.overlay.put(&write.request.resource, &key, local);
        let code = if write.request.verb == Verb::Create { 201 } else { 200 };
        Ok(Accepted { code, kind, object })
    }

    /// A node object or its like: when it is held it exists, and the kubelet adopts it.
    async fn create(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let resource = &write.request.resource;
        let kind = proto::kind_of(resource).unwrap_or_default();
        let body = parse(write, &kind)?;
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let slices = resource.is("resource.k8s.io", "resourceslices");
        let own = if slices { object::runs_on(&body, &self.node_name) } else { name == self.node_name };
        if !own {
            return Err(Refused::Later(
                Reason::CloudOnly,
                "only the node's own objects can be created offline".to_owned(),
            ));
        }
        let named = ResourceRequest { name: Some(name.to_owned()), verb: Verb::Get, ..write.request.clone() };
        match self.object(&named, &[JSON], Scope::Held).await? {
            ObjectAnswer::Held(_) => Err(exists(resource, name)),
            _ if resource.is("", "nodes") => Err(unknown(&named)),
            _ => self.store_new(resource, kind, &body, None).await,
        }
    }

    async fn create_mirror(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let kind = TypeMeta::new("v1", "Pod");
        let body = parse(write, &kind)?;
        if object::mirror_hash(&body).is_none() || !object::runs_on(&body, &self.node_name) {
            return Err(Refused::Later(
                Reason::CloudOnly,
                "only mirror pods can be created offline".to_owned(),
            ));
        }
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let named = ResourceRequest { name: Some(name.clone()), verb: Verb::Get, ..write.request.clone() };
        if let ObjectAnswer::Held(_) = self.object(&named, &[JSON], Scope::Held).await? {
            return Err(exists(&write.request.resource, &name));
        }
        self.store_new(&write.request.resource, kind, &body, write.request.namespace.as_deref()).await
    }

    async fn store_new(
        &self,
        resource: &Resource,
        kind: TypeMeta,
        body: &Value,
        namespace: Option<&str>,
    ) -> Result<Accepted, Refused> {
        let mut object = new_object(&kind, body, namespace)?;
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = ObjectKey::new(&text("/metadata/namespace"), &text("/metadata/name"));
        let written =
            Written { kind: (&kind).into(), base: Value::Null, object: object.clone(), patch: Value::Null };
        let version = self.journal(resource, &key, uid_of(&object), Operation::Create, written).await?;
        set_version(&mut object, version);
        Ok(Accepted { code: 201, kind, object })
    }

    async fn delete_pod(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let request = write.request;
        let key = named(request)?;
        let body = delete_options(write)?;
        let (kind, current) = self.current(request).await?;
        if !object::runs_on(&current, &self.node_name) || body.get("gracePeriodSeconds") != Some(&json!(0)) {
            let why = "only the node's own pods can be deleted offline, with no grace period";
            return Err(Refused::Later(Reason::CloudOnly, why.to_owned()));
        }
        object::preconditions(&body, &current).map_err(|why| Refused::Final(409, "Conflict", why))?;
        let uid = uid_of(&current).to_owned();
        let base =
            self.overlay.get(&request.resource, &key).map_or_else(|| current.clone(), |l| l.written.base);
        let written = Written { kind: (&kind).into(), base, object: Value::Null, patch: Value::Null };
        self.journal(&request.resource, &key, &uid, Operation::Delete, written).await?;
        Ok(Accepted { code: 200, kind, object: current })
    }

    /// Events are kept like everything else, but only the newest of them.
    async fn event(&self, write: &LocalWrite<'_>) -> Result<Accepted, Refused> {
        let resource = &write.request.resource;
        let kind = TypeMeta::new(&resource.api_version(), "Event");
        let body = parse(write, &kind)?;
        if write.request.verb == Verb::Create {
            let mut object = new_object(&kind, &body, write.request.namespace.as_deref())?;
            let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
            if self.overlay.get(resource, &key).is_some() {
                return Err(exists(resource, &key.name));
            }
            return self.keep_event(resource, kind, Value::Null, &mut object, 201).await;
        }
        let key = named(write.request)?;
        match self.overlay.get(resource, &key) {
            Some(held) => {
                let mut after = apply(write, &kind, &held.written.object, &body, false)?;
                self.keep_event(resource, kind, Value::Null, &mut after, 200).await
            }
            None => {
                let name = json!({"name": key.name, "namespace": key.namespace});
                let bare = json!({"apiVersion": kind.api_version, "kind": "Event", "metadata": name});
                let mut after = apply(write, &kind, &bare, &body, false)?;
                self.keep_event(resource, kind, body, &mut after, 200).await
            }
        }
    }

    pub(super) async fn keep_event(
        &self,
        resource: &Resource,
        kind: TypeMeta,
        patch: Value,
        object: &mut Value,
        code: u16,
    ) -> Result<Accepted, Refused> {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = ObjectKey::new(&text("/metadata/namespace"), &text("/metadata/name"));
        let written = Written { kind: (&kind).into(), base: Value::Null, object: object.clone(), patch };
        let version = self.journal(resource, &key, uid_of(object), Operation::Event, written).await?;
        set_version(object, version);
        Ok(Accepted { code, kind, object: object.clone() })
    }

    /// The object that a write is about, as the node sees it.
    async fn current(&self, request: &ResourceRequest) -> Result<(TypeMeta, Value), Refused> {
        let whole = ResourceRequest { subresource: None, verb: Verb::Get, ..request.clone() };
        match self.object(&whole, &[JSON], Scope::Held).await? {
            ObjectAnswer::Held(view) => {
                let object = serde_json::from_slice(&view.body)
                    .map_err(|e| Refused::Later(Reason::StoreFailed, e.to_string()))?;
                Ok((view.kind, object))
            }
            ObjectAnswer::Absent => {
                let (resource, name) = (&request.resource, request.name.as_deref().unwrap_or_default());
                Err(Refused::Final(404, "NotFound", format!("{} {name:?} not found", qualified(resource))))
            }
            ObjectAnswer::Unfit(_) | ObjectAnswer::Unknown => Err(unknown(request)),
        }
    }
}

fn right(request: &ResourceRequest, node_name: &str) -> Right {
    let own = request.name.as_deref() == Some(node_name);
    let subresource = request.subresource.as_deref();
    let change = matches!(request.verb, Verb::Update | Verb::Patch);
    let of = |group, resource| request.resource.is(group, resource);
    match (request.verb, subresource) {
        (verb, None)
            if of("coordination.k8s.io", "leases") && request.namespace.as_deref() == Some(LEASES) =>
        {
            if verb == Verb::Create || (change && own) { Right::Lease } else { Right::None }
        }
        (_, None | Some("status")) if of("", "nodes") && change && own => {
            Right::Modify { status: subresource.is_some() }
        }
        (_, Some("status")) if of("", "pods") && change => Right::Modify { status: true },
        (Verb::Delete, None) if of("", "pods") => Right::DeletePod,
        (Verb::Create, None) if of("", "pods") => Right::CreateMirror,
        (Verb::Create, None) if of("", "nodes") || is_nodes_own(request) => Right::Create,
        (_, None) if of("storage.k8s.io", "csinodes") && change && own => Right::Modify { status: false },
        (_, None) if of("resource.k8s.io", "resourceslices") && change => Right::Modify { status: false },
        (Verb::DeleteCollection, None)
            if of("resource.k8s.io", "resourceslices") && slices::are_of(request, node_name) =>
        {
            Right::WipeSlices
        }
        (Verb::Create | Verb::Patch, None) if of("", "events") || of("events.k8s.io", "events") => {
            Right::Event
        }
        _ => Right::None,
    }
}

fn is_nodes_own(request: &ResourceRequest) -> bool {
    request.resource.is("storage.k8s.io", "csinodes")
        || request.resource.is("resource.k8s.io", "resourceslices")
}

fn named(request: &ResourceRequest) -> Result<ObjectKey, Refused> {
    request
        .object_key()
        .ok_or_else(|| Refused::Final(400, "BadRequest", "the request names no object".to_owned()))
}

fn unknown(request: &ResourceRequest) -> Refused {
    let name = request.name.as_deref().unwrap_or_default();
    Refused::Later(
        Reason::NotHeld,
        format!("{} {name:?} is not held by this node", qualified(&request.resource)),
    )
}

fn exists(resource: &Resource, name: &str) -> Refused {
    Refused::Final(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(resource)))
}

fn qualified(resource: &Resource) -> String {
    match resource.group.as_str() {
        "" => resource.resource.clone(),
        group => format!("{}.{group}", resource.resource),
    }
}

/// The version of an accepted object, for the answer's log line.
impl Accepted {
    /// `metadata.resourceVersion` of the object, 0 when it has none.
    pub fn version(&self) -> u64 {
        version_of(&self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yurt_api::request::RequestInfo;

    #[test]
    fn the_node_writes_its_own_and_nothing_else() {
        let modify = |status| Right::Modify { status };
        let cases = [
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1", Right::Lease),
            ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", Right::Lease),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-2", Right::None),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/edge-1", Right::None),
            ("POST", "/api/v1/nodes", Right::Create),
            ("PATCH", "/api/v1/nodes/edge-1", modify(false)),
            ("PATCH", "/api/v1/nodes/edge-1/status", modify(true)),
            ("PATCH", "/api/v1/nodes/edge-2/status", Right::None),
            ("DELETE", "/api/v1/nodes/edge-1", Right::None),
            ("PATCH", "/api/v1/namespaces/d/pods/a/status", modify(true)),
            ("PATCH", "/api/v1/namespaces/d/pods/a", Right::None),
            ("DELETE", "/api/v1/namespaces/d/pods/a", Right::DeletePod),
            ("DELETE", "/api/v1/namespaces/d/pods", Right::None),
            ("POST", "/api/v1/namespaces/d/pods", Right::CreateMirror),
            ("POST", "/api/v1/namespaces/d/pods/a/eviction", Right::None),
            ("POST", "/api/v1/namespaces/d/events", Right::Event),
            ("PATCH", "/apis/events.k8s.io/v1/namespaces/d/events/e", Right::Event),
            ("POST", "/apis/storage.k8s.io/v1/csinodes", Right::Create),
            ("PUT", "/apis/storage.k8s.io/v1/csinodes/edge-1", modify(false)),
            ("PUT", "/apis/storage.k8s.io/v1/csinodes/edge-2", Right::None),
            ("POST", "/api/v1/namespaces/d/configmaps", Right::None),
            ("DELETE", "/apis/resource.k8s.io/v1/resourceslices", Right::None),
            (
                "DELETE",
                "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dedge-1",
                Right::WipeSlices,
            ),
            (
                "DELETE",
                "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dedge-2",
                Right::None,
            ),
        ];
        for (method, path, expected) in cases {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let info = RequestInfo::parse(method, path, query).unwrap();
            assert_eq!(right(info.resource().unwrap(), "edge-1"), expected, "{method} {path}");
        }
    }
}
