//! One value of a field: a scalar, a message, or one of the types whose JSON is written by hand in Go.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Body;
use super::encoder::{Encoder, begin, finish, int_or_string, zero_field};
use crate::proto::schema::{Field, Kind};
use crate::proto::value;
use crate::wire;

/// What a null stands for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Null {
    /// A field that is not set.
    Nothing,
    /// The zero value, in a list or a map.
    Zero,
}

/// One value as field `number`.
pub(super) struct Single<'e> {
    pub(super) encoder: &'e mut Encoder,
    pub(super) field: &'static Field,
    pub(super) number: u32,
    pub(super) null: Null,
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
