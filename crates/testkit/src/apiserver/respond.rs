//! Answers in the form that the client takes, with the headers of a real server.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use yurt_api::resource::TypeMeta;

use super::{
    error::Refusal,
    media::{Encoding, JSON, Media, PLAIN_JSON, Shape},
    object::Object,
    protobuf,
    registry::Kind,
    table,
};

/// A whole list.
pub struct List {
    /// Kind of the items.
    pub kind: Arc<Kind>,
    /// resourceVersion of the list.
    pub version: u64,
    /// Token of the next page, "" for none.
    pub continue_token: String,
    /// How many objects are left, where the server can tell.
    pub remaining: Option<u64>,
    /// The items in order.
    pub objects: Vec<Arc<Object>>,
}

/// What a request has come to.
pub enum Reply {
    /// A stored object.
    Object(u16, Arc<Kind>, Arc<Object>),
    /// Anything else with kind and apiVersion.
    Value(u16, Value),
    /// A list.
    List(List),
    /// Bytes that are ready.
    Raw(Response<Body>),
}

impl Reply {
    /// Encodes the answer in the first of the forms in which it can be written.
    pub fn encode(self, accepted: &[Media]) -> Result<Response<Body>, Refusal> {
        let Self::Raw(response) = self else {
            let encoded = accepted.iter().find_map(|m| Some((*m, self.bytes(*m)?)));
            let (media, bytes) = encoded.ok_or_else(|| Refusal::not_acceptable(&[JSON]))?;
            return Ok(answer(self.code(), media, bytes));
        };
        Ok(response)
    }

    fn code(&self) -> u16 {
        match self {
            Self::Object(code, ..) | Self::Value(code, _) => *code,
            _ => 200,
        }
    }

    fn bytes(&self, media: Media) -> Option<Vec<u8>> {
        match self {
            Self::Object(_, kind, object) => object_bytes(media, kind, object).map(|b| ended(media, b)),
            Self::Value(_, value) => value_bytes(media.encoding, value).map(|b| ended(media, b)),
            Self::List(list) => list.bytes(media).map(|b| ended(media, b)),
            Self::Raw(_) => None,
        }
    }
}

/// One object in object form; nothing when the kind has no such encoding.
pub fn object_bytes(media: Media, kind: &Kind, object: &Object) -> Option<Vec<u8>> {
    match media {
        PLAIN_JSON => Some(object.json_object(kind)),
        Media { encoding, shape: Shape::Metadata } => value_bytes(encoding, &object.metadata_only()),
        Media { encoding, shape: Shape::Table } => {
            value_bytes(encoding, &table::table(kind, object.version, std::iter::once(object)))
        }
        Media { encoding: Encoding::Protobuf, .. } => {
            Some(protobuf::envelope(&type_meta(kind), object.protobuf_item(kind)?))
        }
    }
}

/// Any value with kind and apiVersion, in object form.
pub fn value_bytes(encoding: Encoding, value: &Value) -> Option<Vec<u8>> {
    if encoding == Encoding::Json {
        return Some(serde_json::to_vec(value).unwrap());
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let tm = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    Some(protobuf::envelope(&tm, &protobuf::message(&tm, value)?))
}

/// A `Status` of failure in the client's encoding.
pub fn refuse(refusal: &Refusal, accepted: &[Media]) -> Response<Body> {
    let status = refusal.status();
    let encoded = accepted.iter().find_map(|m| Some((*m, value_bytes(m.encoding, &status)?)));
    let (media, bytes) = encoded.unwrap_or_else(|| (PLAIN_JSON, serde_json::to_vec(&status).unwrap()));
    let mut response = answer(refusal.code, media, ended(media, bytes));
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A complete answer.
pub fn answer(code: u16, media: Media, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type(false)));
    response
}

/// Kind and version of an object.
pub fn type_meta(kind: &Kind) -> TypeMeta {
    TypeMeta { api_version: kind.api_version(), kind: kind.kind.clone() }
}

impl List {
    fn bytes(&self, media: Media) -> Option<Vec<u8>> {
        let metadata_only = media.shape == Shape::Metadata;
        match (media.encoding, media.shape) {
            (encoding, Shape::Table) => value_bytes(encoding, &self.table()),
            (Encoding::Json, _) => Some(self.json(metadata_only)),
            (Encoding::Protobuf, _) => self.protobuf(metadata_only),
        }
    }

    fn table(&self) -> Value {
        let mut table = table::table(&self.kind, self.version, self.objects.iter().map(Arc::as_ref));
        self.put_page(&mut table["metadata"]);
        table
    }

    fn type_meta(&self, metadata_only: bool) -> TypeMeta {
        let mut tm = type_meta(&self.kind);
        if metadata_only {
            tm = TypeMeta { api_version: "meta.k8s.io/v1".into(), kind: "PartialObjectMetadata".into() };
        }
        tm.kind.push_str("List");
        tm
    }

    fn put_page(&self, meta: &mut Value) {
        if !self.continue_token.is_empty() {
            meta["continue"] = self.continue_token.clone().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
    }

    fn json(&self, metadata_only: bool) -> Vec<u8> {
        let tm = self.type_meta(metadata_only);
        let mut meta = json!({"resourceVersion": self.version.to_string()});
        self.put_page(&mut meta);
        let head = format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{meta},"items":["#,
            tm.kind, tm.api_version
        );
        let mut out = head.into_bytes();
        for (i, object) in self.objects.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match (metadata_only, self.kind.custom) {
                (true, _) => serde_json::to_writer(&mut out, &object.metadata_only()).unwrap(),
                (false, true) => out.extend_from_slice(&object.json_object(&self.kind)),
                (false, false) => out.extend_from_slice(object.json_item()),
            }
        }
        out.extend_from_slice(b"]}");
        out
    }

    fn protobuf(&self, metadata_only: bool) -> Option<Vec<u8>> {
        let tm = self.type_meta(metadata_only);
        let item_tm =
            TypeMeta { api_version: tm.api_version.clone(), kind: tm.kind.trim_end_matches("List").into() };
        if !yurt_api::proto::knows(&item_tm) {
            return None;
        }
        let partial = |o: &Arc<Object>| protobuf::message(&item_tm, &o.metadata_only());
        let whole = |o: &Arc<Object>| o.protobuf_item(&self.kind).map(|b| b.to_vec());
        let items: Option<Vec<Vec<u8>>> =
            self.objects.iter().map(|o| if metadata_only { partial(o) } else { whole(o) }).collect();
        let items = items?;
        let message = protobuf::list(
            self.version,
            &self.continue_token,
            self.remaining,
            items.iter().map(Vec::as_slice),
        );
        Some(protobuf::envelope(&tm, &message))
    }
}

fn ended(media: Media, mut bytes: Vec<u8>) -> Vec<u8> {
    if media.encoding == Encoding::Json {
        bytes.push(b'\n');
    }
    bytes
}
