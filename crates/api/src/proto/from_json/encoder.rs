//! The bytes that are being made: fields as they come, messages in the order of their numbers.

use crate::error::DecodeError;
use crate::proto::MAX_NESTING;
use crate::proto::schema::{Field, Kind, Message, Shape};
use crate::wire;

/// Bytes of one encoded field in `out`; empty = not there.
pub(super) type Slot = (usize, usize);

#[derive(Default)]
pub(super) struct Encoder {
    /// What is finished, then the fields of the objects that are being read.
    pub(super) out: Vec<u8>,
    /// Where a message is put in order.
    pub(super) sorted: Vec<u8>,
    /// Of the messages that are being read.
    pub(super) slots: Vec<Slot>,
    /// Keys and encoded entries of the maps that are being read.
    pub(super) entries: Vec<(Vec<u8>, Slot)>,
    /// How many messages are being read.
    pub(super) depth: usize,
}

impl Encoder {
    /// One message deeper.
    pub(super) fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > MAX_NESTING { Err(DecodeError::TooDeep) } else { Ok(()) }
    }

    /// Writes the fields of a message whose slots begin at `base` to `sorted`.
    pub(super) fn arrange(&mut self, schema: &Message, base: usize) {
        for field in schema.by_number() {
            let (start, end) = self.slots.get(base + field.slot()).copied().unwrap_or_default();
            if field.shape == Shape::Inline {
                let start = begin(&mut self.sorted, field.number());
                self.arrange(field.message(), base + field.slot());
                finish(&mut self.sorted, start);
            } else if start < end {
                self.sorted.extend_from_slice(self.out.get(start..end).unwrap_or_default());
            } else if field.shape == Shape::Value {
                zero_field(&mut self.sorted, field.number(), field);
            }
        }
    }
}

/// Starts a length-delimited field whose length is not known yet.
pub(super) fn begin(out: &mut Vec<u8>, number: u32) -> usize {
    wire::put_tag(out, number, 2);
    out.push(0);
    out.len()
}

/// Sets the length of the field that began at `start`, making room for it when one byte is not enough.
pub(super) fn finish(out: &mut Vec<u8>, start: usize) {
    let length = out.len().saturating_sub(start);
    match (u8::try_from(length), out.get_mut(start.wrapping_sub(1))) {
        (Ok(short), Some(place)) if short < 0x80 => *place = short,
        _ => {
            let mut prefix = Vec::with_capacity(10);
            wire::put_varint(&mut prefix, length as u64);
            out.splice(start.saturating_sub(1)..start, prefix);
        }
    }
}

/// What Go writes for a field that is always there and was not set.
pub(super) fn zero_field(out: &mut Vec<u8>, number: u32, field: &Field) {
    match field.kind {
        Kind::Bytes | Kind::Strings => {}
        Kind::Bool | Kind::Int32 | Kind::Int64 => wire::put_number(out, number, 0),
        Kind::Double => {
            wire::put_tag(out, number, 1);
            out.extend_from_slice(&[0; 8]);
        }
        _ => {
            let start = begin(out, number);
            zero_body(out, field);
            finish(out, start);
        }
    }
}

fn zero_body(out: &mut Vec<u8>, field: &Field) {
    match field.kind {
        Kind::Message => zero_message(out, field.message()),
        Kind::Quantity => wire::put_bytes(out, 1, b"0"),
        Kind::IntOrString => int_or_string(out, Some(0), ""),
        Kind::SchemaOrBool => wire::put_number(out, 1, 0),
        _ => {}
    }
}

fn zero_message(out: &mut Vec<u8>, schema: &Message) {
    let always = schema.by_number().filter(|field| matches!(field.shape, Shape::Value | Shape::Inline));
    always.for_each(|field| zero_field(out, field.number(), field));
}

/// An IntOrString: a number, or else text.
pub(super) fn int_or_string(out: &mut Vec<u8>, number: Option<i32>, text: &str) {
    wire::put_number(out, 1, number.is_none().into());
    wire::put_number(out, 2, i64::from(number.unwrap_or_default()) as u64);
    wire::put_bytes(out, 3, text.as_bytes());
}
