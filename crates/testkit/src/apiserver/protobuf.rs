//! The outer shell of protobuf answers; messages themselves are converted by `yurt_api::proto`.
//! Source of the envelope: k8s.io/apimachinery/pkg/runtime/serializer/protobuf.

use serde_json::Value;
use yurt_api::resource::TypeMeta;

const MAGIC: &[u8; 4] = b"k8s\0";

/// The bare message of an object; nothing when the kind has no protobuf form.
pub fn message(tm: &TypeMeta, object: &Value) -> Option<Vec<u8>> {
    if !yurt_api::proto::knows(tm) {
        return None;
    }
    let json = serde_json::to_vec(object).unwrap();
    match yurt_api::proto::from_json(tm, &json) {
        Ok(message) => Some(message),
        Err(e) => {
            tracing::warn!(kind = tm.kind, "no protobuf: {e}");
            None
        }
    }
}

/// Puts a message in its envelope.
pub fn envelope(tm: &TypeMeta, message: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, tm.api_version.as_bytes());
    field(&mut type_meta, 2, tm.kind.as_bytes());
    let mut out = MAGIC.to_vec();
    field(&mut out, 1, &type_meta);
    field(&mut out, 2, message);
    field(&mut out, 3, b"");
    field(&mut out, 4, b"");
    out
}

/// Reads an enveloped object as JSON with its kind.
pub fn decode(body: &[u8]) -> Option<Value> {
    let mut type_meta = (String::new(), String::new());
    let mut raw: &[u8] = &[];
    for (number, bytes) in fields(body.strip_prefix(MAGIC)?)? {
        match number {
            1 => {
                for (number, bytes) in fields(bytes)? {
                    let text = String::from_utf8(bytes.to_vec()).ok()?;
                    if number == 1 { type_meta.0 = text } else { type_meta.1 = text }
                }
            }
            2 => raw = bytes,
            _ => {}
        }
    }
    let tm = TypeMeta { api_version: type_meta.0, kind: type_meta.1 };
    let json = yurt_api::proto::to_json(&tm, raw).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A list message: metadata, then items, the same field numbers for every kind.
pub fn list<'a>(
    version: u64,
    continue_token: &str,
    remaining: Option<u64>,
    items: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut meta = Vec::new();
    field(&mut meta, 1, b"");
    field(&mut meta, 2, version.to_string().as_bytes());
    field(&mut meta, 3, continue_token.as_bytes());
    if let Some(remaining) = remaining {
        varint(&mut meta, 4 << 3);
        varint(&mut meta, remaining);
    }
    let mut out = Vec::new();
    field(&mut out, 1, &meta);
    for item in items {
        field(&mut out, 2, item);
    }
    out
}

/// A watch frame: length, then `WatchEvent{type, object{raw}}`.
pub fn frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    field(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    field(&mut event, 1, kind.as_bytes());
    field(&mut event, 2, &raw);
    let mut out = u32::try_from(event.len()).expect("a frame below 4 GiB").to_be_bytes().to_vec();
    out.extend_from_slice(&event);
    out
}

/// Reads a watch frame without its length: the event's type and its enveloped object.
pub fn read_frame(frame: &[u8]) -> Option<(String, &[u8])> {
    let (mut kind, mut object) = (String::new(), &[][..]);
    for (number, bytes) in fields(frame)? {
        match number {
            1 => kind = String::from_utf8(bytes.to_vec()).ok()?,
            2 => object = fields(bytes)?.into_iter().find(|(n, _)| *n == 1)?.1,
            _ => {}
        }
    }
    Some((kind, object))
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        if tag & 7 != 2 {
            return None;
        }
        let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
        let (field, rest) = bytes.split_at_checked(length)?;
        out.push((tag >> 3, field));
        bytes = rest;
    }
    Some(out)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
