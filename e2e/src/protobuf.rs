//! As much of the protobuf wire format as it takes to speak like a kubelet: fields of messages in, fields
//! of messages out, and the envelope that Kubernetes puts around an object.

use anyhow::{Context, Result, bail};

/// The first bytes of every Kubernetes protobuf body
/// (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
const MAGIC: &[u8] = b"k8s\0";

/// A message being written.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty message.
    pub fn new() -> Message {
        Message::default()
    }

    /// With a string or bytes field.
    #[must_use]
    pub fn text(mut self, field: u32, value: &str) -> Message {
        self.bytes(field, value.as_bytes());
        self
    }

    /// With a message field.
    #[must_use]
    pub fn message(mut self, field: u32, value: &Message) -> Message {
        self.bytes(field, &value.0);
        self
    }

    /// With an integer field.
    #[must_use]
    pub fn integer(mut self, field: u32, value: u64) -> Message {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// The body of a request: this message as an object of that version and kind.
    pub fn object(&self, version: &str, kind: &str) -> Vec<u8> {
        let kind = Message::new().text(1, version).text(2, kind);
        let unknown = Message::new().message(1, &kind).message(2, self);
        [MAGIC, &unknown.0].concat()
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

/// A message being read.
#[derive(Debug, Clone)]
pub struct Fields<'a>(Vec<(u32, Field<'a>)>);

impl<'a> Fields<'a> {
    /// The object inside the envelope of a response body.
    pub fn of_body(body: &'a [u8]) -> Result<Fields<'a>> {
        let unknown = body.strip_prefix(MAGIC).context("not a Kubernetes protobuf body")?;
        Fields::parse(unknown)?.child(2)
    }

    /// The message in that field; an empty one when the field is not there.
    pub fn child(&self, field: u32) -> Result<Fields<'a>> {
        self.children(field).next().unwrap_or_else(|| Ok(Fields(Vec::new())))
    }

    /// Every message in that repeated field.
    pub fn children(&self, field: u32) -> impl Iterator<Item = Result<Fields<'a>>> {
        self.values(field).filter_map(|value| match value {
            Field::Bytes(bytes) => Some(Fields::parse(bytes)),
            Field::Integer(_) => None,
        })
    }

    /// The text in that field; empty when it is not there.
    pub fn text(&self, field: u32) -> String {
        let text = self.values(field).find_map(|value| match value {
            Field::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Field::Integer(_) => None,
        });
        text.unwrap_or_default()
    }

    /// The integer or boolean in that field; 0 when it is not there.
    pub fn integer(&self, field: u32) -> u64 {
        let number = self.values(field).find_map(|value| match value {
            Field::Integer(number) => Some(number),
            Field::Bytes(_) => None,
        });
        number.unwrap_or_default()
    }

    /// Whether the field is there.
    pub fn has(&self, field: u32) -> bool {
        self.values(field).next().is_some()
    }

    fn values(&self, wanted: u32) -> impl Iterator<Item = Field<'a>> {
        self.0.clone().into_iter().filter(move |(field, _)| *field == wanted).map(|(_, value)| value)
    }

    fn parse(mut rest: &'a [u8]) -> Result<Fields<'a>> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let number = u32::try_from(key >> 3)?;
            let value = match key & 7 {
                0 => Field::Integer(varint(&mut rest)?),
                1 => Field::Bytes(take(&mut rest, 8)?),
                2 => {
                    let length = usize::try_from(varint(&mut rest)?)?;
                    Field::Bytes(take(&mut rest, length)?)
                }
                5 => Field::Bytes(take(&mut rest, 4)?),
                kind => bail!("wire type {kind}"),
            };
            fields.push((number, value));
        }
        Ok(Fields(fields))
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("a field is cut off")?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let inner = Message::new().text(1, "name").integer(3, 300);
        let body = Message::new().message(1, &inner).integer(9, 1).object("v1", "Pod");
        let fields = Fields::of_body(&body).unwrap();
        assert_eq!(fields.child(1).unwrap().text(1), "name");
        assert_eq!(fields.child(1).unwrap().integer(3), 300);
        assert!(fields.has(9) && !fields.has(8));
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let body = Message::new().text(1, "name").object("v1", "Pod");
        assert!(Fields::of_body(&body[..body.len() - 1]).is_err());
    }
}
