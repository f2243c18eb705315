//! The frames of a watch stream: one event each.
//!
//! JSON has one object a line. Protobuf has four bytes of length (big endian) and `meta.v1.WatchEvent`, whose
//! object stands in its own envelope (`k8s.io/apimachinery/pkg/util/framer`, `pkg/runtime/serializer/protobuf`).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::envelope;
use crate::error::DecodeError;
use crate::json::{self, put_string};
use crate::representation::Encoding;
use crate::resource::TypeMeta;
use crate::wire::{bytes_size, find, put_bytes};

/// The annotation of the bookmark that ends the initial events (KEP-3157).
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The object is new, or new to the selector.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone, or gone from the selector; the event carries its last state.
    Deleted,
    /// Nothing: the stream is complete up to the version of the object.
    Bookmark,
    /// The stream failed; the object is a `Status`.
    Error,
}

impl EventType {
    const ALL: [EventType; 5] =
        [EventType::Added, EventType::Modified, EventType::Deleted, EventType::Bookmark, EventType::Error];

    /// The name in frames.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
            EventType::Bookmark => "BOOKMARK",
            EventType::Error => "ERROR",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What happened.
    pub kind: EventType,
    /// The frame as received, with length or newline.
    pub raw: Bytes,
    /// The object in object form; a slice of `raw`.
    pub object: Bytes,
}

/// Cuts a stream into frames, however it was cut into chunks.
#[derive(Debug)]
pub struct Decoder {
    enc: Encoding,
    max_frame: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the next frame starts.
    start: usize,
    /// Up to where no newline was found.
    searched: usize,
    /// What ended the stream.
    failure: Option<DecodeError>,
}

/// More capacity than this is given back when the buffer is empty: an idle stream holds little memory.
const KEEP: usize = 16 * 1024;

impl Decoder {
    /// A decoder that refuses frames of more than `max_frame` bytes.
    pub fn new(enc: Encoding, max_frame: usize) -> Self {
        Decoder { enc, max_frame, buffer: Vec::new(), start: 0, searched: 0, failure: None }
    }

    /// Takes the next bytes of the stream. Call [`Self::next`] until it gives `None` before the next push: only
    /// then the buffer stays within `max_frame` and one chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(&chunk);
    }

    /// The next whole frame; `None` when more bytes are needed. An error is final: it comes again on every call.
    ///
    /// A frame is a copy of its bytes, so that keeping one keeps no more than itself alive.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let next = self.next_frame();
        self.failure = next.as_ref().err().cloned();
        next
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        loop {
            let Some(length) = self.frame_length()? else { return Ok(None) };
            let raw = self.buffer.get(self.start..self.start + length).unwrap_or_default();
            let blank = self.enc == Encoding::Json && raw.trim_ascii().is_empty();
            let frame = if blank { None } else { Some(frame(self.enc, Bytes::copy_from_slice(raw))?) };
            self.take(length);
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// Whether bytes of an unfinished frame wait: a stream that ends now was cut.
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.buffer.len()
    }

    fn take(&mut self, length: usize) {
        self.start += length;
        self.searched = self.start;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEEP);
            (self.start, self.searched) = (0, 0);
        }
    }

    /// The length of the frame at the start, with its length bytes or newline, when it is there as a whole.
    fn frame_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let (length, whole) = match self.enc {
            Encoding::Json => {
                let fresh = self.buffer.get(self.searched..).unwrap_or_default();
                let newline = fresh.iter().position(|b| *b == b'\n');
                let searched = self.searched - self.start;
                self.searched = self.buffer.len();
                (newline.map_or(rest.len(), |at| searched + at + 1), newline.is_some())
            }
            Encoding::Protobuf => {
                let Some((prefix, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
                let length = (u32::from_be_bytes(*prefix) as usize).saturating_add(4);
                (length, rest.len() >= length)
            }
        };
        if length > self.max_frame {
            return Err(DecodeError::TooLarge { limit: self.max_frame });
        }
        Ok(whole.then_some(length))
    }
}

#[derive(Deserialize)]
struct JsonEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn frame(enc: Encoding, raw: Bytes) -> Result<Frame, DecodeError> {
    let (kind, object) = match enc {
        Encoding::Json => {
            let event: JsonEvent<'_> = json::read(&raw)?;
            let unknown = || DecodeError::NotJson("an unknown type of event".into());
            let kind = EventType::parse(&event.r#type).ok_or_else(unknown)?;
            (kind, raw.slice_ref(event.object.get().as_bytes()))
        }
        Encoding::Protobuf => {
            let (kind, object) = protobuf_event(raw.get(4..).unwrap_or_default())?;
            (kind, raw.slice_ref(object))
        }
    };
    Ok(Frame { kind, raw, object })
}

fn protobuf_event(message: &[u8]) -> Result<(EventType, &[u8]), DecodeError> {
    let kind = find(message, 1)?.ok_or(DecodeError::Missing("type"))?.text()?;
    let kind = EventType::parse(kind).ok_or(DecodeError::NotProtobuf("an unknown type of event"))?;
    let extension = find(message, 2)?.ok_or(DecodeError::Missing("object"))?.bytes()?;
    Ok((kind, find(extension, 1)?.ok_or(DecodeError::Missing("object"))?.bytes()?))
}

/// The frame of an event; `object` is in object form.
pub fn encode(enc: Encoding, kind: EventType, object: &[u8]) -> Bytes {
    match enc {
        Encoding::Json => {
            let mut out = Vec::with_capacity(object.len() + 40);
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_str().as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            // JSON has line breaks only between its tokens, and a frame is one line
            out.extend(object.iter().filter(|b| !matches!(b, b'\n' | b'\r')));
            out.extend_from_slice(b"}\n");
            out.into()
        }
        Encoding::Protobuf => {
            let extension = bytes_size(1, object.len());
            let length = bytes_size(1, kind.as_str().len()) + bytes_size(2, extension);
            let mut out = Vec::with_capacity(4 + length);
            // an object of 4 GiB does not exist: limits on frames and bodies are far below
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            put_bytes(&mut out, 1, kind.as_str().as_bytes());
            crate::wire::put_tag(&mut out, 2, 2);
            crate::wire::put_varint(&mut out, extension as u64);
            put_bytes(&mut out, 1, object);
            out.into()
        }
    }
}

/// The frame of a bookmark: an object of type `tm` with nothing but the version `rv`, and with the annotation
/// that says that the initial events are over, if they are.
pub fn bookmark(enc: Encoding, tm: &TypeMeta, rv: u64, initial_events_end: bool) -> Bytes {
    let object = match enc {
        Encoding::Json => json_bookmark(Some(tm), rv, initial_events_end),
        Encoding::Protobuf => protobuf_bookmark(tm, rv, initial_events_end),
    };
    encode(enc, EventType::Bookmark, &object)
}

/// A bookmark in object form, or in item form when no type is given.
pub(crate) fn json_bookmark(tm: Option<&TypeMeta>, rv: u64, initial_events_end: bool) -> Vec<u8> {
    let mut out = b"{".to_vec();
    if let Some(tm) = tm {
        out.extend_from_slice(b"\"kind\":");
        put_string(&mut out, &tm.kind);
        out.extend_from_slice(b",\"apiVersion\":");
        put_string(&mut out, &tm.api_version);
        out.push(b',');
    }
    out.extend_from_slice(format!("\"metadata\":{{\"resourceVersion\":\"{rv}\"").as_bytes());
    if initial_events_end {
        out.extend_from_slice(format!(",\"annotations\":{{\"{INITIAL_EVENTS_END}\":\"true\"}}").as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

fn protobuf_bookmark(tm: &TypeMeta, rv: u64, initial_events_end: bool) -> Vec<u8> {
    let mut metadata = Vec::new();
    put_bytes(&mut metadata, 6, rv.to_string().as_bytes());
    if initial_events_end {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, INITIAL_EVENTS_END.as_bytes());
        put_bytes(&mut entry, 2, b"true");
        put_bytes(&mut metadata, 12, &entry);
    }
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &metadata);
    envelope::seal(tm, &message)
}

#[cfg(test)]
mod tests;
