//! From JSON to the wire, in one pass of serde_json: values are encoded as they come, and each message puts them in
//! the order of its field numbers when its object ends, with the zero values that Go's generated code writes.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::schema::{Field, Kind, Message, Shape};
use super::{MAX_NESTING, value};
use crate::error::DecodeError;
use crate::wire;

/// The bare message for the object `json`.
pub(super) fn message(schema: &'static Message, json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut encoder = Encoder { out: Vec::with_capacity(json.len()), ..Encoder::default() };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Body { encoder: &mut encoder, schema }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(encoder.out)
}

/// Bytes of one encoded field in `out`; empty = not there.
type Slot = (usize, usize);

#[derive(Default)]
struct Encoder {
    /// What is finished, then the fields of the objects that are being read.
    out: Vec<u8>,
    /// Where a message is put in order.
    sorted: Vec<u8>,
    slots: Vec<Slot>,
    /// Keys and encoded entries of the maps that are being read.
    entries: Vec<(Vec<u8>, Slot)>,
    depth: usize,
}

impl Encoder {
    fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > MAX_NESTING { Err(DecodeError::TooDeep) } else { Ok(()) }
    }

    /// Writes the fields of a message whose slots begin at `base` to `sorted`.
    fn arrange(&mut self, schema: &Message, base: usize) {
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
fn begin(out: &mut Vec<u8>, number: u32) -> usize {
    wire::put_tag(out, number, 2);
    out.push(0);
    out.len()
}

/// Sets the length of the field that began at `start`, making room for it when one byte is not enough.
fn finish(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    let mut prefix = Vec::new();
    let mut small = [0u8; 1];
    let bytes: &[u8] = if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        small[0] = short;
        &small
    } else {
        wire::put_varint(&mut prefix, length as u64);
        &prefix
    };
    out.splice(start - 1..start, bytes.iter().copied());
}

/// What Go writes for a field that is always there and was not set.
fn zero_field(out: &mut Vec<u8>, number: u32, field: &Field) {
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

fn int_or_string(out: &mut Vec<u8>, number: Option<i32>, text: &str) {
    wire::put_number(out, 1, number.is_none().into());
    wire::put_number(out, 2, i64::from(number.unwrap_or_default()) as u64);
    wire::put_bytes(out, 3, text.as_bytes());
}

/// The body of a message from a JSON object.
struct Body<'e> {
    encoder: &'e mut Encoder,
    schema: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Body { encoder, schema } = self;
        encoder.enter().map_err(A::Error::custom)?;
        let (base, start, begun) = (encoder.slots.len(), encoder.out.len(), encoder.sorted.len());
        encoder.slots.resize(base + schema.slots(), (0, 0));
        let mut hint = 0;
        while let Some(found) = map.next_key_seed(Key { schema, hint: &mut hint })? {
            let Some((slot, field)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let from = encoder.out.len();
            map.next_value_seed(Content { encoder, field })?;
            let to = encoder.out.len();
            if let Some(place) = encoder.slots.get_mut(base + slot) {
                *place = (from, to);
            }
        }
        encoder.arrange(schema, base);
        encoder.out.truncate(start);
        encoder.out.extend_from_slice(encoder.sorted.get(begun..).unwrap_or_default());
        encoder.sorted.truncate(begun);
        encoder.slots.truncate(base);
        encoder.depth -= 1;
        Ok(())
    }
}

/// Looks a key up in a message without copying it.
struct Key<'e> {
    schema: &'static Message,
    hint: &'e mut usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<(usize, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<(usize, &'static Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.schema.named(name, self.hint))
    }
}

/// The value of one field, with its tag: one occurrence, or all of a list or map. Null writes nothing.
struct Content<'e> {
    encoder: &'e mut Encoder,
    field: &'static Field,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.field.shape {
            Shape::List | Shape::Map => deserializer.deserialize_any(self),
            _ => Single {
                encoder: self.encoder,
                field: self.field,
                number: self.field.number(),
                null: Null::Nothing,
            }
            .deserialize(deserializer),
        }
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.field.shape == Shape::List { "an array" } else { "an object" })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Content { encoder, field } = self;
        if field.shape != Shape::List {
            return Err(A::Error::custom("an array where an object is expected"));
        }
        let number = field.number();
        while list.next_element_seed(Single { encoder, field, number, null: Null::Zero })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Content { encoder, field } = self;
        if field.shape != Shape::Map {
            return Err(A::Error::custom("an object where an array is expected"));
        }
        let (first, start, begun) = (encoder.entries.len(), encoder.out.len(), encoder.sorted.len());
        while let Some(key) = map.next_key::<String>()? {
            let from = encoder.out.len();
            let body = begin(&mut encoder.out, field.number());
            wire::put_bytes(&mut encoder.out, 1, key.as_bytes());
            map.next_value_seed(Single { encoder, field, number: 2, null: Null::Zero })?;
            finish(&mut encoder.out, body);
            let to = encoder.out.len();
            encoder.entries.push((key.into_bytes(), (from, to)));
        }
        let Encoder { entries, out, sorted, .. } = encoder;
        if let Some(entries) = entries.get_mut(first..) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            for (index, (key, (from, to))) in entries.iter().enumerate() {
                // Of equal keys the last one counts; the sort kept their order.
                if entries.get(index + 1).is_none_or(|(next, _)| next != key) {
                    sorted.extend_from_slice(out.get(*from..*to).unwrap_or_default());
                }
            }
        }
        entries.truncate(first);
        out.truncate(start);
        out.extend_from_slice(sorted.get(begun..).unwrap_or_default());
        sorted.truncate(begun);
        Ok(())
    }
}

/// What a null stands for.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    /// A field that is not set.
    Nothing,
    /// The zero value, in a list or a map.
    Zero,
}

/// One value as field `number`.
struct Single<'e> {
    encoder: &'e mut Encoder,
    field: &'static Field,
    number: u32,
    null: Null,
}

impl<'de> DeserializeSeed<'de> for Single<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.field.kind {
            Kind::Raw => {
                let raw = <&RawValue>::deserialize(deserializer)?;
                self.raw(raw.get());
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Single<'_> {
    fn raw(self, json: &str) {
        let out = &mut self.encoder.out;
        if json != "null" {
            let start = begin(out, self.number);
            wire::put_bytes(out, 1, json.as_bytes());
            finish(out, start);
        } else if self.null == Null::Zero {
            zero_field(out, self.number, self.field);
        }
    }

    fn body<E: Error>(self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = begin(&mut self.encoder.out, self.number);
        write(&mut self.encoder.out)?;
        finish(&mut self.encoder.out, start);
        Ok(())
    }

    fn mismatch<E: Error>(&self, found: &str) -> E {
        E::custom(format_args!("{}: {found} where {:?} is expected", self.field.name(), self.field.kind))
    }

    fn time<E: Error>(self, text: &str, micro: bool) -> Result<(), E> {
        let message = value::timestamp(text, micro).map_err(E::custom)?;
        wire::put_bytes(&mut self.encoder.out, self.number, &message);
        Ok(())
    }
}

impl<'de> Visitor<'de> for Single<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.field.kind)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.null == Null::Zero {
            zero_field(&mut self.encoder.out, self.number, self.field);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                wire::put_number(&mut self.encoder.out, self.number, value.into());
                Ok(())
            }
            Kind::SchemaOrBool => self.body(|out| {
                wire::put_number(out, 1, value.into());
                Ok(())
            }),
            _ => Err(self.mismatch("a boolean")),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let small = i32::try_from(value);
        match (self.field.kind, small) {
            (Kind::Int32, Ok(_)) | (Kind::Int64, _) => {
                wire::put_number(&mut self.encoder.out, self.number, value as u64);
                Ok(())
            }
            (Kind::IntOrString, Ok(small)) => self.body(|out| {
                int_or_string(out, Some(small), "");
                Ok(())
            }),
            (Kind::Quantity, _) => self.visit_str(&value.to_string()),
            (Kind::Double, _) => self.visit_f64(value as f64),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => {
                wire::put_tag(&mut self.encoder.out, self.number, 1);
                self.encoder.out.extend_from_slice(&value.to_bits().to_le_bytes());
                Ok(())
            }
            Kind::Quantity => self.visit_str(&value.to_string()),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::String => {
                wire::put_bytes(&mut self.encoder.out, self.number, text.as_bytes());
                Ok(())
            }
            Kind::Bytes => {
                let bytes = value::bytes_of(text).map_err(E::custom)?;
                wire::put_bytes(&mut self.encoder.out, self.number, &bytes);
                Ok(())
            }
            Kind::Time => self.time(text, false),
            Kind::MicroTime => self.time(text, true),
            Kind::Quantity => self.body(|out| {
                wire::put_bytes(out, 1, text.as_bytes());
                Ok(())
            }),
            Kind::IntOrString => self.body(|out| {
                int_or_string(out, None, text);
                Ok(())
            }),
            _ => Err(self.mismatch("a string")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Single { encoder, field, number, .. } = self;
        let start = begin(&mut encoder.out, number);
        match field.kind {
            Kind::Strings | Kind::SchemaOrStrings => {
                let inner = if field.kind == Kind::Strings { 1 } else { 2 };
                while let Some(text) = list.next_element::<std::borrow::Cow<'_, str>>()? {
                    wire::put_bytes(&mut encoder.out, inner, text.as_bytes());
                }
            }
            Kind::SchemaOrArray => {
                while list.next_element_seed(Schema { encoder, field, number: 2 })?.is_some() {}
            }
            _ => return Err(A::Error::custom(format_args!("{}: an array", field.name()))),
        }
        finish(&mut encoder.out, start);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let start = begin(&mut self.encoder.out, self.number);
        let map = serde::de::value::MapAccessDeserializer::new(map);
        let (encoder, field) = (&mut *self.encoder, self.field);
        match field.kind {
            Kind::Message => Body { encoder, schema: field.message() }.deserialize(map)?,
            Kind::SchemaOrBool => {
                wire::put_number(&mut encoder.out, 1, 1);
                Schema { encoder, field, number: 2 }.deserialize(map)?;
            }
            Kind::SchemaOrArray | Kind::SchemaOrStrings => {
                Schema { encoder, field, number: 1 }.deserialize(map)?
            }
            _ => return Err(self.mismatch("an object")),
        }
        finish(&mut self.encoder.out, start);
        Ok(())
    }
}

/// A JSONSchemaProps inside one of the unions.
struct Schema<'e> {
    encoder: &'e mut Encoder,
    field: &'static Field,
    number: u32,
}

impl<'de> DeserializeSeed<'de> for Schema<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let start = begin(&mut self.encoder.out, self.number);
        Body { encoder: self.encoder, schema: self.field.message() }.deserialize(deserializer)?;
        finish(&mut self.encoder.out, start);
        Ok(())
    }
}
