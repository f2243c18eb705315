//! From the wire to JSON: one pass over a message finds where its fields are, a second one writes them in the order
//! of the Go struct, as encoding/json does.

use std::borrow::Cow;
use std::io::Write;

use super::schema::{Field, Kind, Message, Shape};
use super::{MAX_NESTING, fields_and_rest, value};
use crate::error::DecodeError;
use crate::resource::TypeMeta;
use crate::wire::{self, Reader, Value};

/// Where the occurrences of one field are.
#[derive(Clone, Copy, Default)]
struct Slot<'a> {
    /// The last occurrence: what counts for a field that is not repeated.
    last: Option<Value<'a>>,
    /// The first one, for lists and maps, and what follows it.
    first: Option<(Value<'a>, &'a [u8])>,
    count: u32,
}

struct Writer<'a> {
    out: Vec<u8>,
    slots: Vec<Slot<'a>>,
    depth: usize,
}

/// A whole object, `kind` and `apiVersion` first.
pub(super) fn object(tm: &TypeMeta, schema: &Message, message: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut writer = Writer::for_message(message);
    writer.out.extend_from_slice(b"{\"kind\":");
    value::put_text(&mut writer.out, &tm.kind)?;
    writer.out.extend_from_slice(b",\"apiVersion\":");
    value::put_text(&mut writer.out, &tm.api_version)?;
    writer.fields(schema, message)?;
    writer.out.push(b'}');
    Ok(writer.out)
}

/// An object as it stands in a list.
pub(super) fn item(schema: &Message, message: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut writer = Writer::for_message(message);
    writer.object(schema, message)?;
    Ok(writer.out)
}

impl<'a> Writer<'a> {
    fn for_message(message: &[u8]) -> Self {
        Writer { out: Vec::with_capacity(message.len() * 3 / 2 + 64), slots: Vec::new(), depth: 0 }
    }

    fn object(&mut self, schema: &Message, message: &'a [u8]) -> Result<(), DecodeError> {
        self.out.push(b'{');
        self.fields(schema, message)?;
        self.out.push(b'}');
        Ok(())
    }

    fn fields(&mut self, schema: &Message, message: &'a [u8]) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(DecodeError::TooDeep);
        }
        let base = self.slots.len();
        self.locate(schema, message, base)?;
        for (index, field) in schema.fields().iter().enumerate() {
            let slot = self.slots.get(base + index).copied().unwrap_or_default();
            self.field(field, slot)?;
        }
        self.slots.truncate(base);
        self.depth -= 1;
        Ok(())
    }

    fn locate(&mut self, schema: &Message, message: &'a [u8], base: usize) -> Result<(), DecodeError> {
        self.slots.resize(base + schema.fields().len(), Slot::default());
        let mut hint = 0usize;
        for field in fields_and_rest(message) {
            let (number, value, rest) = field?;
            // The usual neighbour of a field is the same one again: an element of a list.
            let again = hint.saturating_sub(1);
            let same = schema.fields().get(again).is_some_and(|field| field.number() == number);
            let index =
                if same { Some(again) } else { schema.numbered(number, &mut hint).map(|(index, _)| index) };
            if let Some(slot) = index.and_then(|index| self.slots.get_mut(base + index)) {
                slot.first = slot.first.or(Some((value, rest)));
                slot.last = Some(value);
                slot.count += 1;
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, slot: Slot<'a>) -> Result<(), DecodeError> {
        match field.shape {
            Shape::Inline => self.inline(field, slot),
            Shape::List if self.starts(field, slot.count > 0)? => self.list(field, slot),
            Shape::Map if self.starts(field, slot.count > 0)? => self.map(field, slot),
            Shape::Pointer if self.starts(field, slot.count > 0)? => self.single(field, slot),
            Shape::Value if self.starts(field, !is_empty(slot))? => self.single(field, slot),
            _ => Ok(()),
        }
    }

    /// Writes the key; false when the field is left out or was written as null.
    fn starts(&mut self, field: &Field, filled: bool) -> Result<bool, DecodeError> {
        let go_struct = field.shape == Shape::Value && !has_zero(field.kind);
        let left_out = if go_struct { field.omit_zero() } else { field.omit_empty() };
        if !filled && left_out {
            return Ok(false);
        }
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(field.name().as_bytes());
        self.out.extend_from_slice(b"\":");
        let nil = !filled && field.shape != Shape::Value;
        if nil {
            self.out.extend_from_slice(b"null");
        }
        Ok(!nil)
    }

    fn inline(&mut self, field: &Field, slot: Slot<'a>) -> Result<(), DecodeError> {
        match whole(field, slot)? {
            Cow::Borrowed(inner) => self.fields(field.message(), inner),
            Cow::Owned(inner) => self.merged(&inner, |writer, inner| writer.fields(field.message(), inner)),
        }
    }

    fn single(&mut self, field: &Field, slot: Slot<'a>) -> Result<(), DecodeError> {
        if field.kind == Kind::Message
            && let Cow::Owned(inner) = whole(field, slot)?
        {
            return self.merged(&inner, |writer, inner| writer.object(field.message(), inner));
        }
        self.value(field, slot.last)
    }

    /// Writes bytes that were put together here and live only as long as the call.
    fn merged(
        &mut self,
        bytes: &[u8],
        write: impl for<'b> FnOnce(&mut Writer<'b>, &'b [u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut inner = Writer { out: std::mem::take(&mut self.out), slots: Vec::new(), depth: self.depth };
        let written = write(&mut inner, bytes);
        self.out = inner.out;
        written
    }

    fn list(&mut self, field: &Field, slot: Slot<'a>) -> Result<(), DecodeError> {
        self.out.push(b'[');
        for value in occurrences(field, slot) {
            match value? {
                Value::Bytes(packed) if matches!(field.kind, Kind::Int32 | Kind::Int64) => {
                    self.packed(field, packed)?
                }
                value => {
                    self.value(field, Some(value))?;
                    self.out.push(b',');
                }
            }
        }
        self.close(b']');
        Ok(())
    }

    fn packed(&mut self, field: &Field, mut numbers: &[u8]) -> Result<(), DecodeError> {
        while !numbers.is_empty() {
            let (number, length) = wire::varint(numbers)?;
            self.value(field, Some(Value::Varint(number)))?;
            self.out.push(b',');
            numbers = numbers.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn map(&mut self, field: &Field, slot: Slot<'a>) -> Result<(), DecodeError> {
        self.out.push(b'{');
        for entry in occurrences(field, slot) {
            // In a map Go makes empty bytes, not nil, of a value that is not there.
            let absent = (field.kind == Kind::Bytes).then_some(Value::Bytes(&[]));
            let (mut key, mut content) = ("", absent);
            for part in Reader::new(entry?.bytes()?) {
                let part = part?;
                match part.number {
                    1 => key = part.value.text()?,
                    2 => content = Some(part.value),
                    _ => {}
                }
            }
            value::put_text(&mut self.out, key)?;
            self.out.push(b':');
            self.value(field, content)?;
            self.out.push(b',');
        }
        self.close(b'}');
        Ok(())
    }

    /// Replaces the comma after the last element.
    fn close(&mut self, end: u8) {
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
        self.out.push(end);
    }

    /// One value, `None` meaning the zero value of its kind.
    fn value(&mut self, field: &Field, value: Option<Value<'a>>) -> Result<(), DecodeError> {
        let bytes = || value.map_or(Ok(&[][..]), Value::bytes);
        let number = || value.map_or(Ok(0), Value::varint);
        match field.kind {
            Kind::String => value::put_text(&mut self.out, value.map_or(Ok(""), Value::text)?),
            Kind::Bool => self.literal(if number()? != 0 { "true" } else { "false" }),
            Kind::Int32 => self.number(i64::from(number()? as i32)),
            Kind::Int64 => self.number(number()? as i64),
            Kind::Double => self.double(value),
            Kind::Bytes if value.is_none() => self.literal("null"),
            Kind::Bytes => {
                value::put_base64(&mut self.out, bytes()?);
                Ok(())
            }
            Kind::Message => self.object(field.message(), bytes()?),
            Kind::Time => value::put_time(&mut self.out, bytes()?, false),
            Kind::MicroTime => value::put_time(&mut self.out, bytes()?, true),
            Kind::Quantity => {
                let text = wire::find(bytes()?, 1)?.map_or(Ok("0"), Value::text)?;
                value::put_text(&mut self.out, text)
            }
            Kind::IntOrString => self.int_or_string(bytes()?),
            Kind::Raw => self.raw(bytes()?),
            Kind::Strings if value.is_none() => self.literal("null"),
            Kind::Strings => self.strings(bytes()?, 1),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => self.schema(field, bytes()?),
        }
    }

    fn literal(&mut self, text: &str) -> Result<(), DecodeError> {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn number(&mut self, number: i64) -> Result<(), DecodeError> {
        // Writing into a Vec cannot fail.
        let _ = write!(self.out, "{number}");
        Ok(())
    }

    fn double(&mut self, value: Option<Value<'a>>) -> Result<(), DecodeError> {
        let number = match value {
            Some(Value::Fixed64(bits)) => f64::from_bits(bits),
            None => 0.0,
            Some(_) => return Err(DecodeError::NotProtobuf("a field has another wire type")),
        };
        match number.is_finite() {
            // Go writes a whole number without a point.
            true if number.fract() == 0.0 && number.abs() < 1e15 => self.number(number as i64),
            true => Ok(serde_json::to_writer(&mut self.out, &number)?),
            false => Err(DecodeError::NotProtobuf("a number is not finite")),
        }
    }

    fn int_or_string(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let number = |number| wire::find(message, number)?.map_or(Ok(0), Value::varint);
        match number(1)? {
            0 => self.number(i64::from(number(2)? as i32)),
            1 => value::put_text(&mut self.out, wire::find(message, 3)?.map_or(Ok(""), Value::text)?),
            _ => Err(DecodeError::NotProtobuf("neither a number nor a string")),
        }
    }

    fn raw(&mut self, message: &'a [u8]) -> Result<(), DecodeError> {
        let text = wire::find(message, 1)?.map_or(Ok("null"), Value::text)?;
        let text = if text.is_empty() { "null" } else { text };
        // What is embedded must be one JSON value, else the whole would be none.
        serde_json::from_str::<serde::de::IgnoredAny>(text)?;
        self.literal(text)
    }

    fn strings(&mut self, message: &'a [u8], number: u32) -> Result<(), DecodeError> {
        self.out.push(b'[');
        for field in Reader::new(message) {
            let field = field?;
            if field.number == number {
                value::put_text(&mut self.out, field.value.text()?)?;
                self.out.push(b',');
            }
        }
        self.close(b']');
        Ok(())
    }

    /// The three unions of a CRD's schema (apiextensions, v1/marshal.go).
    fn schema(&mut self, field: &Field, message: &'a [u8]) -> Result<(), DecodeError> {
        let (first, second) = (wire::find(message, 1)?, wire::find(message, 2)?);
        match (field.kind, first, second) {
            (Kind::SchemaOrArray, _, Some(_)) => {
                self.out.push(b'[');
                for part in Reader::new(message) {
                    let part = part?;
                    if part.number == 2 {
                        self.object(field.message(), part.value.bytes()?)?;
                        self.out.push(b',');
                    }
                }
                self.close(b']');
                Ok(())
            }
            (Kind::SchemaOrBool, _, Some(schema)) => self.object(field.message(), schema.bytes()?),
            (Kind::SchemaOrBool, allows, None) => {
                self.literal(if allows.map_or(Ok(0), Value::varint)? != 0 { "true" } else { "false" })
            }
            (Kind::SchemaOrStrings, _, Some(_)) => self.strings(message, 2),
            (_, Some(schema), _) => self.object(field.message(), schema.bytes()?),
            (_, None, _) => self.literal("null"),
        }
    }
}

/// Whether the kind has a value that Go's `omitempty` leaves out; a struct has none.
fn has_zero(kind: Kind) -> bool {
    use Kind::{Bool, Bytes, Double, Int32, Int64, String, Strings};
    matches!(kind, String | Bool | Int32 | Int64 | Double | Bytes | Strings)
}

/// Whether a field that is always there has its zero value.
fn is_empty(slot: Slot<'_>) -> bool {
    match slot.last {
        None => true,
        Some(Value::Varint(number)) => number == 0,
        Some(Value::Fixed64(bits)) => bits == 0,
        Some(Value::Fixed32(bits)) => bits == 0,
        Some(Value::Bytes(bytes)) => bytes.is_empty(),
    }
}

/// The occurrences of a repeated field in order.
fn occurrences<'a>(
    field: &Field,
    slot: Slot<'a>,
) -> impl Iterator<Item = Result<Value<'a>, DecodeError>> + use<'a> {
    let number = field.number();
    let (first, rest) = slot.first.map_or((None, &[][..]), |(value, rest)| (Some(value), rest));
    let others = Reader::new(rest).filter_map(move |other| match other {
        Ok(other) => (other.number == number).then_some(Ok(other.value)),
        Err(error) => Some(Err(error)),
    });
    first.map(Ok).into_iter().chain(others).take(slot.count as usize)
}

/// A message field's bytes. When it occurs more than once its parts add up, which is what joining their bytes does.
fn whole<'a>(field: &Field, slot: Slot<'a>) -> Result<Cow<'a, [u8]>, DecodeError> {
    if slot.count < 2 {
        return Ok(Cow::Borrowed(slot.last.map_or(Ok(&[][..]), Value::bytes)?));
    }
    let mut joined = Vec::new();
    for part in occurrences(field, slot) {
        joined.extend_from_slice(part?.bytes()?);
    }
    Ok(Cow::Owned(joined))
}
