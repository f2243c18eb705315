//! One stored object with the encodings it has been asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::{Value, json};
use yurt_api::resource::TypeMeta;

use super::{protobuf, registry::Kind};

/// Where an object lies. The order is that of a list answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// "" for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// An immutable state of an object: its JSON without `kind` and `apiVersion`.
#[derive(Debug)]
pub struct Object {
    /// Where it lies.
    pub key: Key,
    /// Its resourceVersion.
    pub version: u64,
    value: Value,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Option<Bytes>>,
}

impl Object {
    /// Takes the object's JSON, drops its kind and stamps the version.
    pub fn new(key: Key, mut value: Value, version: u64) -> Arc<Self> {
        let map = value.as_object_mut().expect("an object");
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
        value["metadata"]["resourceVersion"] = version.to_string().into();
        Arc::new(Self { key, version, value, json: OnceLock::new(), protobuf: OnceLock::new() })
    }

    /// The same content under a later version: what a DELETED event carries.
    pub fn at_version(&self, version: u64) -> Arc<Self> {
        Self::new(self.key.clone(), self.value.clone(), version)
    }

    /// The JSON without kind and apiVersion.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The JSON with kind and apiVersion in front.
    pub fn typed(&self, kind: &Kind) -> Value {
        let mut typed = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
        let (Value::Object(to), Value::Object(from)) = (&mut typed, &self.value) else { unreachable!() };
        to.extend(from.iter().map(|(k, v)| (k.clone(), v.clone())));
        typed
    }

    /// Encoded as an item of a list of a built-in kind.
    pub fn json_item(&self) -> &Bytes {
        self.json.get_or_init(|| serde_json::to_vec(&self.value).unwrap().into())
    }

    /// Encoded as an object of its own.
    pub fn json_object(&self, kind: &Kind) -> Vec<u8> {
        let mut out =
            format!(r#"{{"kind":"{}","apiVersion":"{}","#, kind.kind, kind.api_version()).into_bytes();
        out.extend_from_slice(&self.json_item()[1..]);
        out
    }

    /// The bare protobuf message; nothing when the kind has none.
    pub fn protobuf_item(&self, kind: &Kind) -> Option<&Bytes> {
        let encoded = self.protobuf.get_or_init(|| {
            let tm = TypeMeta { api_version: kind.api_version(), kind: kind.kind.clone() };
            protobuf::message(&tm, &self.value).map(Bytes::from)
        });
        encoded.as_ref()
    }

    /// Its `PartialObjectMetadata`.
    pub fn metadata_only(&self) -> Value {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.value["metadata"]})
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let Some(labels) = self.value["metadata"]["labels"].as_object() else { return BTreeMap::new() };
        labels.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The text at a JSON pointer, "" when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
