//! create and update: checks, preconditions, what a subresource may change.
//! Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go and registry/rest/{create,update}.go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    certificate, defaults,
    error::Refusal,
    object::{Key, Object},
    registry::Kind,
    request::Target,
    storage::Storage,
};

/// A write as the request states it.
pub struct Write<'a> {
    /// Kind of the object.
    pub kind: &'a Kind,
    /// Where the request points.
    pub target: &'a Target,
    /// `dryRun=All`.
    pub dry_run: bool,
}

impl Write<'_> {
    /// Stores a new object.
    pub fn create(&self, storage: &mut Storage, mut object: Value) -> Result<Arc<Object>, Refusal> {
        self.check_type(&object)?;
        let key = self.new_key(&mut object)?;
        self.check_namespace(storage, &key)?;
        if storage.get(&self.kind.group_resource(), &key).is_some() {
            return Err(Refusal::already_exists(self.kind, &key.name));
        }
        if !matches!(object["metadata"]["resourceVersion"].as_str(), None | Some("" | "0")) {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "", text));
        }
        self.stamp(&mut object);
        defaults::on_create(self.kind, &mut object, storage.version());
        defaults::on_write(self.kind, &mut object);
        Ok(self.store(storage, key, object))
    }

    /// Replaces an object, or only its status.
    pub fn update(&self, storage: &mut Storage, object: Value) -> Result<(u16, Arc<Object>), Refusal> {
        self.check_type(&object)?;
        let key = self.key();
        let named = object["metadata"]["name"].as_str().unwrap_or_default();
        if !named.is_empty() && named != key.name {
            let text =
                format!("the name of the object ({named}) does not match the name on the URL ({})", key.name);
            return Err(Refusal::bad_request(text));
        }
        match storage.get(&self.kind.group_resource(), &key).cloned() {
            Some(old) => self.replace(storage, &old, object).map(|o| (200, o)),
            None if matches!(self.kind.plural.as_str(), "leases" | "events") => {
                self.create(storage, object).map(|o| (201, o))
            }
            None => Err(Refusal::not_found(self.kind, &key.name)),
        }
    }

    /// Replaces `old` by `new` when the preconditions in `new` hold.
    pub fn replace(
        &self,
        storage: &mut Storage,
        old: &Arc<Object>,
        new: Value,
    ) -> Result<Arc<Object>, Refusal> {
        self.check_preconditions(old, &new)?;
        let mut merged = self.merge(old, new);
        defaults::on_write(self.kind, &mut merged);
        if self.kind.generation && merged["spec"] != old.value()["spec"] {
            merged["metadata"]["generation"] =
                (old.value()["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
        }
        if is_finished(&merged) && !self.dry_run {
            let gone = storage.remove(&self.kind.group_resource(), &old.key);
            return Ok(gone.unwrap_or_else(|| old.clone()));
        }
        merged["metadata"]["resourceVersion"] = old.version.to_string().into();
        if merged == *old.value() {
            return Ok(old.clone());
        }
        Ok(self.store(storage, old.key.clone(), merged))
    }

    /// The key that the path names.
    pub fn key(&self) -> Key {
        let namespace = self.target.namespace.as_deref().unwrap_or_default();
        Key::new(namespace, self.target.name.as_deref().unwrap_or_default())
    }

    fn store(&self, storage: &mut Storage, key: Key, object: Value) -> Arc<Object> {
        if self.dry_run {
            return Object::new(key, object, storage.version());
        }
        storage.put(&self.kind.group_resource(), key, object)
    }

    fn check_type(&self, object: &Value) -> Result<(), Refusal> {
        if !object.is_object() {
            return Err(Refusal::bad_request(
                "the object provided is unrecognized (must be of type Status): couldn't get version/kind",
            ));
        }
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let expected = (self.kind.api_version(), &self.kind.kind);
        if (version.is_empty() || version == expected.0) && (kind.is_empty() || kind == expected.1) {
            return Ok(());
        }
        let text = format!(
            "{kind} in version {version:?} cannot be handled as a {}: no kind {kind:?} is registered for version {version:?}",
            self.kind.kind
        );
        Err(Refusal::bad_request(text))
    }

    fn new_key(&self, object: &mut Value) -> Result<Key, Refusal> {
        let mut namespace = String::new();
        if self.kind.namespaced {
            namespace = self.target.namespace.clone().unwrap_or_default();
            let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
            if !own.is_empty() && own != namespace {
                let text =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Refusal::bad_request(text));
            }
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (mut name, prefix) = (text("name"), text("generateName"));
        if name.is_empty() && !prefix.is_empty() {
            name = format!("{prefix}{}", &super::uid()[..5]);
        }
        if name.is_empty() {
            let problem = "Required value: name or generateName is required";
            return Err(Refusal::invalid(self.kind, "", "metadata.name", problem));
        }
        object["metadata"]["name"] = name.clone().into();
        Ok(Key { namespace, name })
    }

    fn check_namespace(&self, storage: &Storage, key: &Key) -> Result<(), Refusal> {
        if key.namespace.is_empty() || storage.get("namespaces", &Key::new("", &key.namespace)).is_some() {
            return Ok(());
        }
        let mut refusal = Refusal::new(404, "NotFound", format!("namespaces {:?} not found", key.namespace));
        *refusal.details = json!({"name": key.namespace, "kind": "namespaces"});
        Err(refusal)
    }

    fn stamp(&self, object: &mut Value) {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.shift_remove("deletionTimestamp");
        metadata.shift_remove("deletionGracePeriodSeconds");
        metadata.insert("uid".into(), super::uid().into());
        metadata.insert("creationTimestamp".into(), super::timestamp(0).into());
        if self.kind.generation {
            metadata.insert("generation".into(), 1.into());
        }
    }

    fn check_preconditions(&self, old: &Object, new: &Value) -> Result<(), Refusal> {
        let text = |name: &str| new["metadata"][name].as_str().unwrap_or_default();
        match text("resourceVersion") {
            "" | "0" if matches!(self.kind.plural.as_str(), "leases") || self.kind.custom => {
                let problem = "Invalid value: 0x0: must be specified for an update";
                return Err(Refusal::invalid(self.kind, &old.key.name, "metadata.resourceVersion", problem));
            }
            "" | "0" => {}
            version if version == old.version.to_string() => {}
            _ => return Err(Refusal::stale(self.kind, &old.key.name)),
        }
        match text("uid") {
            "" => Ok(()),
            uid if uid == old.uid() => Ok(()),
            uid => {
                let why = format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                    old.uid()
                );
                Err(Refusal::conflict(self.kind, &old.key.name, &why))
            }
        }
    }

    /// The new state: what this path may change from `new`, the rest from `old`.
    fn merge(&self, old: &Object, mut new: Value) -> Value {
        let previous = old.value();
        for field in ["kind", "apiVersion"] {
            new.as_object_mut().expect("an object").shift_remove(field);
        }
        let mut merged = match self.target.subresource.as_deref() {
            Some(certificate::APPROVAL) => certificate::approved(previous, &new),
            Some("status") => self.with_status(previous, &new),
            _ => {
                if self.kind.status {
                    take(&mut new, previous, "status");
                }
                new
            }
        };
        for field in KEPT {
            take(&mut merged["metadata"], &previous["metadata"], field);
        }
        merged
    }
}

impl Write<'_> {
    fn with_status(&self, previous: &Value, new: &Value) -> Value {
        let mut merged = previous.clone();
        take(&mut merged, new, "status");
        if !self.kind.custom {
            take(&mut merged["metadata"], &new["metadata"], "labels");
            take(&mut merged["metadata"], &new["metadata"], "annotations");
        }
        merged
    }
}

/// What no update changes.
const KEPT: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
];

/// `to.field` becomes `from.field`, also when that is missing.
fn take(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => drop(to.as_object_mut().and_then(|t| t.shift_remove(field))),
    }
}

/// A deletion was waiting for finalizers, and the last one is gone.
fn is_finished(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].is_string()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}
