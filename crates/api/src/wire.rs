//! The protobuf wire format, read field by field and written into a `Vec`.
//!
//! Knows nothing of messages: who calls says which field number means what. Never panics, never allocates
//! for what it reads. Source: protobuf.dev/programming-guides/encoding.

use crate::error::DecodeError;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// Wire type 0: bool, int32, int64, enum.
    Varint(u64),
    /// Wire type 1: double, fixed64.
    Fixed64(u64),
    /// Wire type 2: string, bytes, message, packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5: float, fixed32.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The bytes of a length-delimited field; an error for any other wire type.
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(b) => Ok(b),
            _ => Err(DecodeError::NotProtobuf("a field has another wire type")),
        }
    }

    /// The text of a length-delimited field; an error when it is not UTF-8.
    pub(crate) fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::NotProtobuf("a string is not UTF-8"))
    }

    /// The number of a varint field; an error for any other wire type.
    pub(crate) fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Value::Varint(v) => Ok(v),
            _ => Err(DecodeError::NotProtobuf("a field has another wire type")),
        }
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// The field number, 1 to 2^29-1.
    pub(crate) number: u32,
    /// Its value.
    pub(crate) value: Value<'a>,
    /// Tag, length and value as they stand in the message.
    pub(crate) raw: &'a [u8],
}

/// Walks the fields of one message in order. After an error it ends.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over the bytes of one message.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Reader { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, DecodeError> {
        let start = self.rest;
        let tag = self.take_varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or(DecodeError::NotProtobuf("a field number is out of range"))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.take_varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length = self.take_varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| DecodeError::Truncated)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take_array()?)),
            _ => return Err(DecodeError::NotProtobuf("a group or an unknown wire type")),
        };
        let length = start.len() - self.rest.len();
        Ok(Field { number, value, raw: start.get(..length).unwrap_or_default() })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take_varint(&mut self) -> Result<u64, DecodeError> {
        let (value, length) = varint(self.rest)?;
        self.take(length)?;
        Ok(value)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The varint at the start of `bytes` and how many bytes it takes (1 to 10).
pub(crate) fn varint(bytes: &[u8]) -> Result<(u64, usize), DecodeError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && *byte > 1 {
            return Err(DecodeError::NotProtobuf("a varint is longer than 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((value, i + 1));
        }
    }
    Err(if bytes.len() < 10 {
        DecodeError::Truncated
    } else {
        DecodeError::NotProtobuf("a varint has no end")
    })
}

/// The last occurrence of field `number` in `message`, as protobuf wants it for a field that is not repeated.
pub(crate) fn find<'a>(message: &'a [u8], number: u32) -> Result<Option<Value<'a>>, DecodeError> {
    let mut found = None;
    for field in Reader::new(message) {
        let field = field?;
        if field.number == number {
            found = Some(field.value);
        }
    }
    Ok(found)
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag: field number and wire type (0, 1, 2 or 5).
pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type & 7));
}

/// Appends a whole length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a whole varint field.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 0);
    put_varint(out, value);
}

/// How many bytes [`put_bytes`] takes for a value of `length` bytes.
pub(crate) fn bytes_size(number: u32, length: usize) -> usize {
    varint_size(u64::from(number) << 3) + varint_size(length as u64) + length
}

/// How many bytes [`put_varint`] takes.
pub(crate) fn varint_size(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_specification_gives() {
        // the two examples of the encoding guide: field 1 = 150, field 2 = "testing"
        let message = [&[0x08, 0x96, 0x01][..], &[0x12, 0x07], b"testing"].concat();
        let fields: Vec<_> = Reader::new(&message).map(Result::unwrap).collect();
        assert_eq!(fields[0].value, Value::Varint(150));
        assert_eq!(fields[0].raw, &[0x08, 0x96, 0x01]);
        assert_eq!((fields[1].number, fields[1].value), (2, Value::Bytes(b"testing")));
        assert_eq!(fields[1].raw.len(), 9);
    }

    #[test]
    fn refuses_what_is_not_a_message() {
        let too_long = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let cases: [&[u8]; 8] = [
            &[0x0a],                                                             // no length
            &[0x0a, 5, 1],                                                       // short value
            &[0x80],                                                             // half a varint
            &[0x00, 0x00],                                                       // field number 0
            &[0x0b, 0x00],                                                       // a group
            &[0x09, 1, 2, 3],                                                    // half a fixed64
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
            &too_long, // a length that overflows an address
        ];
        for case in cases {
            assert!(Reader::new(case).any(|f| f.is_err()), "{case:x?}");
            assert!(Reader::new(case).count() <= case.len());
        }
    }

    #[test]
    fn last_occurrence_counts() {
        let mut m = Vec::new();
        put_bytes(&mut m, 3, b"a");
        put_bytes(&mut m, 3, b"b");
        assert_eq!(find(&m, 3).unwrap(), Some(Value::Bytes(b"b")));
        assert_eq!(find(&m, 4).unwrap(), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).count();
            let _ = find(&bytes, 1);
        }

        #[test]
        fn reads_what_it_wrote(number in 1u32..1 << 29, n: u64, b: Vec<u8>) {
            let mut m = Vec::new();
            put_number(&mut m, number, n);
            let first = m.len();
            put_bytes(&mut m, number, &b);
            prop_assert_eq!(m.len() - first, bytes_size(number, b.len()));
            let mut r = Reader::new(&m);
            prop_assert_eq!(r.next().unwrap().unwrap().value, Value::Varint(n));
            prop_assert_eq!(r.next().unwrap().unwrap().value, Value::Bytes(&b));
            prop_assert!(r.next().is_none());
        }
    }
}
