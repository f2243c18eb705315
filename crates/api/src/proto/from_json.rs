//! From JSON to the wire, in one pass of serde_json: values are encoded as they come, and each message puts them in
//! the order of its field numbers when its object ends, with the zero values that Go's generated code writes.

mod encoder;
mod single;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{Field, Message, Shape};
use crate::error::DecodeError;
use crate::wire;
use encoder::{Encoder, begin, finish};
use single::{Null, Single};

/// The bare message for the object `json`.
pub(super) fn message(schema: &'static Message, json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut encoder = Encoder { out: Vec::with_capacity(json.len()), ..Encoder::default() };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Body { encoder: &mut encoder, schema }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(encoder.out)
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
