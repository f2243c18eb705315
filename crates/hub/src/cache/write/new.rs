//! What the apiserver would add to a new object: its name when only a prefix is given, uid, time of creation.

use ::ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use yurt_api::resource::TypeMeta;

use super::accept::Refused;
use super::body::bad;
use super::object::shaped;
use crate::clock;

/// The longest prefix that is kept of `generateName`, how many characters follow it, and which ones
/// (`k8s.io/apiserver/pkg/storage/names`, `k8s.io/apimachinery/pkg/util/rand`).
const PREFIX: usize = 58;
const SUFFIX: usize = 5;
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A new object of `kind` from the body of a POST. Errors: a body that is no object or names nothing.
pub(super) fn new_object(kind: &TypeMeta, body: &Value, namespace: Option<&str>) -> Result<Value, Refused> {
    let mut object = body.clone();
    let fields = object.as_object_mut().ok_or_else(|| bad("not an object"))?;
    fields.insert("apiVersion".to_owned(), json!(kind.api_version));
    fields.insert("kind".to_owned(), json!(kind.kind));
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().ok_or_else(|| bad("metadata is not an object"))?;
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    let name = match (text("name"), text("generateName")) {
        ("", "") => return Err(bad("metadata.name and metadata.generateName are missing")),
        ("", prefix) => generated(prefix),
        (name, _) => name.to_owned(),
    };
    if matches!(name.as_str(), "." | "..") || name.contains(['/', '%']) {
        return Err(Refused::Final(422, "Invalid", format!("metadata.name: Invalid value: {name:?}")));
    }
    // The journal carries the final name, so that a push that is repeated creates nothing twice.
    metadata.insert("name".to_owned(), json!(name));
    if let Some(namespace) = namespace {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("uid".to_owned(), json!(new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(clock::rfc3339(clock::unix())));
    shaped(kind, &object)?;
    Ok(object)
}

fn generated(prefix: &str) -> String {
    let suffix =
        random::<SUFFIX>().map(|b| ALPHABET.get(usize::from(b) % ALPHABET.len()).copied().unwrap_or(b'b'));
    prefix.chars().take(PREFIX).chain(suffix.map(char::from)).collect()
}

/// A random UUID (RFC 9562, version 4).
fn new_uid() -> String {
    let bytes = u128::from_be_bytes(random());
    let value = bytes & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{value:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids() {
        let (a, b) = (new_uid(), new_uid());
        assert_ne!(a, b);
        let bytes = a.as_bytes();
        assert_eq!((a.len(), bytes[14]), (36, b'4'), "{a}");
        assert!(matches!(bytes[19], b'8' | b'9' | b'a' | b'b'), "{a}");
    }

    #[test]
    fn a_new_object_has_a_name_of_its_own() {
        let kind = TypeMeta::new("v1", "Event");
        let named = |metadata: Value| {
            let object = new_object(&kind, &json!({"metadata": metadata}), Some("d"));
            object.map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
        };
        assert_eq!(named(json!({"name": "a", "generateName": "b."})).unwrap(), "a");
        let (first, second) =
            (named(json!({"generateName": "a."})).unwrap(), named(json!({"generateName": "a."})).unwrap());
        assert_ne!(first, second);
        let suffix = first.strip_prefix("a.").unwrap();
        assert!(suffix.len() == SUFFIX && suffix.bytes().all(|b| ALPHABET.contains(&b)), "{first}");
        assert_eq!(named(json!({"generateName": "x".repeat(80)})).unwrap().len(), PREFIX + SUFFIX);
        assert!(matches!(named(json!({})), Err(Refused::Final(400, ..))));
    }
}
