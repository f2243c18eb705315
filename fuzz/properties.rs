//! What must hold of any bytes that reach the hub: it never panics, and what it took apart it can put together.
//!
//! One function a target. The first bytes of the data choose among the forms that the function knows; the rest
//! is what would have come over the network. Run by cargo-fuzz (`fuzz_targets`) and, on mutations of the seeds,
//! by `crates/api/tests/fuzz.rs`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use yurt_api::list;
use yurt_api::object::{self, Attributes, Meta};
use yurt_api::patch::{self, PatchType, strategic};
use yurt_api::proto;
use yurt_api::representation::{Encoding, Representation, Shape, negotiate};
use yurt_api::request::{RequestInfo, RequestKind};
use yurt_api::resource::{Resource, TypeMeta};
use yurt_api::selector::{FieldSelector, LabelSelector};
use yurt_api::status::Status;
use yurt_api::watch::{Decoder, Frame};

/// The kinds that the conversions are tried with; each has something that the others have not.
const KINDS: [(&str, &str); 12] = [
    ("v1", "Pod"),
    ("v1", "Node"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "Event"),
    ("coordination.k8s.io/v1", "Lease"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("apps/v1", "ControllerRevision"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("v1", "PodList"),
    ("authentication.k8s.io/v1", "TokenReview"),
];

/// `METHOD PATH QUERY`, each on a line: the parser of requests, with continue tokens and versions in the query.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let [method, path, query] = std::array::from_fn(|_| lines.next().unwrap_or(""));
    let Ok(info) = RequestInfo::parse(method, path, query) else { return };
    let RequestKind::Resource(request) = &info.kind else { return };
    let again = RequestInfo::parse(method, &info.path, &info.query);
    assert_eq!(again.as_ref(), Ok(&info), "a request reads the same twice");
    assert_eq!(request.object_key().is_some(), request.name.is_some());
    if let Some(key) = request.object_key() {
        assert!(!key.name.is_empty(), "an object without a name");
    }
    let _ = (request.authorization_name(), request.authorization_namespace());
    canonical(&request.options.label_selector, &request.options.field_selector);
}

/// A label selector and a field selector, one a line.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (labels, fields) = text.split_once('\n').unwrap_or((text, ""));
    let everything = (LabelSelector::everything(), FieldSelector::everything());
    let labels = LabelSelector::parse(labels).unwrap_or(everything.0);
    let fields = FieldSelector::parse(fields).unwrap_or(everything.1);
    canonical(&labels, &fields);
}

/// The canonical text means the same as the selector that it was made of.
fn canonical(labels: &LabelSelector, fields: &FieldSelector) {
    assert_eq!(LabelSelector::parse(&labels.canonical()).as_ref(), Ok(labels), "{}", labels.canonical());
    assert_eq!(FieldSelector::parse(&fields.canonical()).as_ref(), Ok(fields), "{}", fields.canonical());
    let held = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("n".to_owned(), "7".to_owned())]);
    let _ = labels.matches(&held);
    let _ = fields.matches(&|path| (path == "metadata.name").then(|| "web".to_owned()));
}

fn encoding(choice: u8) -> Encoding {
    if choice & 1 == 0 { Encoding::Json } else { Encoding::Protobuf }
}

/// An object: encoding, resource, then its bytes. What is said about it is the same in both of its forms.
pub fn metadata(data: &[u8]) {
    let [choice, what, bytes @ ..] = data else { return };
    let enc = encoding(*choice);
    let resource = match what % 4 {
        0 => Resource::new("", "v1", "pods"),
        1 => Resource::new("", "v1", "events"),
        2 => Resource::new("", "v1", "services"),
        _ => Resource::new("example.com", "v1", "widgets"),
    };
    let whole = Bytes::copy_from_slice(bytes);
    let _ = (object::labels(enc, bytes), Attributes::read(&resource, enc, bytes));
    let as_item = object::meta(enc, bytes);
    let spliced = object::splice_resource_version(enc, bytes, 4_611_686_018_427_387_905);
    if let (Ok(before), Ok(spliced)) = (&as_item, spliced) {
        let meta = object::meta(enc, &spliced).expect("what was spliced can be read");
        assert_eq!(meta, Meta { resource_version: 4_611_686_018_427_387_905, ..before.clone() });
    }
    let (Ok(type_meta), Ok(item)) = (object::type_meta(enc, bytes), object::to_item(enc, &whole)) else {
        return;
    };
    let object = object::to_object(enc, &item, &type_meta);
    assert_eq!(object::type_meta(enc, &object).as_ref(), Ok(&type_meta), "the type comes back");
    // White space around JSON is not the object's.
    let again = object::to_item(enc, &object).expect("our own object");
    match enc {
        Encoding::Json => assert_eq!(again.trim_ascii(), item.trim_ascii(), "the item comes back"),
        Encoding::Protobuf => assert_eq!(again, item, "the item comes back"),
    }
}

fn kind(choice: u8) -> TypeMeta {
    let (api_version, kind) = KINDS[usize::from(choice) % KINDS.len()];
    TypeMeta::new(api_version, kind)
}

/// A kind and a bare message of it. The JSON of it is JSON, and says the same when it has gone both ways.
pub fn to_json(data: &[u8]) {
    let [choice, message @ ..] = data else { return };
    let kind = kind(*choice);
    for path in ["metadata.name", "spec.nodeName", "status.phase", "reportingComponent", "type"] {
        let _ = proto::scalar_at(&kind, path, message);
    }
    let first = proto::to_json(&kind, message);
    let item = proto::to_json_item(&kind, message);
    assert_eq!(first.is_ok(), item.is_ok(), "both forms or none");
    let (Ok(first), Ok(item)) = (first, item) else { return };
    let stripped = object::to_item(Encoding::Json, &Bytes::from(first.clone())).expect("an object");
    assert_eq!(stripped, item, "an item is an object without its type");
    let first_read: Value = serde_json::from_slice(&first).expect("JSON");
    let Ok(back) = proto::from_json(&kind, &first) else { return };
    let second = proto::to_json(&kind, &back).expect("our own message");
    let mut second_read: Value = serde_json::from_slice(&second).expect("JSON");
    assert_eq!(without_nulls(first_read), without_nulls(second_read.take()), "both ways");
    let back = proto::from_json(&kind, &second).expect("our own JSON");
    assert_eq!(proto::to_json(&kind, &back).expect("our own message"), second, "both ways again");
}

/// A pointer to nothing is null the first time and not there after that, as in Go.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

/// A kind and JSON of it. The message that is made of it can be read, and says the same when it has gone both ways.
pub fn from_json(data: &[u8]) {
    let [choice, json @ ..] = data else { return };
    let kind = kind(*choice);
    let Ok(message) = proto::from_json(&kind, json) else { return };
    let Ok(first) = proto::to_json(&kind, &message) else { panic!("our own message cannot be read") };
    let again = proto::from_json(&kind, &first).expect("our own JSON");
    assert_eq!(proto::to_json(&kind, &again).expect("our own message"), first, "both ways");
}

/// A stream of watch frames: encoding, size of the chunks, then its bytes. However it is cut, the frames are the same.
pub fn watch(data: &[u8]) {
    let [choice, size, stream @ ..] = data else { return };
    let enc = encoding(*choice);
    let (whole, ended) = frames(enc, stream, stream.len().max(1));
    let (cut, cut_ended) = frames(enc, stream, usize::from(*size).max(1));
    assert_eq!(whole, cut, "frames depend on chunks");
    assert_eq!(ended, cut_ended, "the end depends on chunks");
    let mut rest = stream;
    for frame in &whole {
        let at =
            rest.windows(frame.raw.len()).position(|part| part == frame.raw).expect("bytes of the stream");
        rest = &rest[at + frame.raw.len()..];
        let again = yurt_api::watch::encode(enc, frame.kind, &frame.object);
        let (decoded, _) = frames(enc, &again, again.len());
        assert_eq!(decoded.len(), 1, "what we write is one frame");
        assert_eq!(
            (decoded[0].kind, in_one_line(enc, &decoded[0].object)),
            (frame.kind, in_one_line(enc, &frame.object)),
            "the event comes back"
        );
    }
}

/// A frame of JSON is a line: breaks between tokens are left out.
fn in_one_line(enc: Encoding, object: &[u8]) -> Vec<u8> {
    object.iter().copied().filter(|b| enc == Encoding::Protobuf || !matches!(b, b'\n' | b'\r')).collect()
}

const LARGEST: usize = 1 << 16;

fn frames(enc: Encoding, stream: &[u8], size: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut found) = (Decoder::new(enc, LARGEST), Vec::new());
    for chunk in stream.chunks(size) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

/// A list: encoding, then its body. Taken apart and put together it is the same list.
pub fn list(data: &[u8]) {
    let [choice, body @ ..] = data else { return };
    let enc = encoding(*choice);
    let Ok(list) = list::split(enc, &Bytes::copy_from_slice(body)) else { return };
    let joined = list::assemble(enc, &list.header, &list.items).concat();
    let again = list::split(enc, &joined.into()).expect("our own list");
    assert_eq!(again.items, list.items, "the items come back");
    assert_eq!(again.header, list.header, "the header comes back");
    for item in &list.items {
        let _ = object::meta(enc, item);
    }
}

/// A type of patch, a kind, then an object and a patch on a line each.
pub fn patch(data: &[u8]) {
    let [choice, what, text @ ..] = data else { return };
    let kind = kind(*what);
    let mut lines = text.splitn(2, |byte| *byte == b'\n');
    let mut json = || serde_json::from_slice::<Value>(lines.next().unwrap_or_default());
    let (Ok(target), Ok(patch)) = (json(), json()) else { return };
    let types = [PatchType::Json, PatchType::Merge, PatchType::StrategicMerge, PatchType::Apply];
    let patched = patch::apply(types[usize::from(*choice) % types.len()], &kind, &target, &patch);
    let Ok(patched) = patched else { return };
    assert!(patched.is_object());
    // What the replay sends is a difference like this one. It may say less than a whole object (nulls, sets),
    // but what it says is a patch.
    let difference = strategic::diff(&kind, &target, &patched);
    let _ = strategic::apply(&kind, &target, &difference);
}

/// A `Status`, and headers that choose representations.
pub fn status(data: &[u8]) {
    for enc in [Encoding::Json, Encoding::Protobuf] {
        if let Some(status) = Status::parse(enc, data) {
            assert_eq!(
                Status::parse(enc, &status.encode(enc)).as_ref(),
                Some(&status),
                "the status comes back"
            );
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (
        negotiate(Some(text), Some(Shape::List)),
        Representation::of_content_type(text),
        PatchType::of_content_type(text),
    );
}
