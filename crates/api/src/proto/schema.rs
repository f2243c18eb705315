//! The table of messages: what `schema.txt` says, packed by `build.rs`.

use crate::resource::{Resource, TypeMeta};

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// How a value looks on the wire and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// `[]byte`: base64 in JSON.
    Bytes,
    Message,
    /// meta/v1 Time: a Timestamp message, RFC 3339 in JSON.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// A message with the text in field 1.
    Quantity,
    /// A message of type, number and text.
    IntOrString,
    /// A message whose field 1 is JSON text: RawExtension, FieldsV1, apiextensions JSON.
    Raw,
    /// A message with repeated field 1, so that nil differs from empty: Verbs, ExtraValue.
    Strings,
    /// JSONSchemaPropsOrArray.
    SchemaOrArray,
    /// JSONSchemaPropsOrBool.
    SchemaOrBool,
    /// JSONSchemaPropsOrStringArray.
    SchemaOrStrings,
}

/// How often a value occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Always there; absent on the wire means the zero value.
    Value,
    /// There or nil.
    Pointer,
    List,
    /// String keys.
    Map,
    /// A message whose fields stand in the JSON object of its owner.
    Inline,
}

/// One field of a message.
pub(crate) struct Field {
    name: u32,
    merge_key: u32,
    message: u16,
    number: u8,
    slot: u8,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    flags: u8,
}

/// One message. Its fields are in the order of the JSON.
pub(crate) struct Message {
    first: u16,
    count: u8,
    slots: u8,
}

#[allow(clippy::too_many_arguments)] // one row of the generated table
const fn f(
    name: u32,
    merge_key: u32,
    message: u16,
    number: u8,
    slot: u8,
    kind: Kind,
    shape: Shape,
    flags: u8,
) -> Field {
    Field { name, merge_key, message, number, slot, kind, shape, flags }
}

impl Field {
    /// Name in JSON; `-` for an inline message.
    pub(crate) fn name(&self) -> &'static str {
        name(self.name)
    }

    /// Number on the wire.
    pub(crate) fn number(&self) -> u32 {
        self.number.into()
    }

    /// Where the field's value is kept while its message (and what is inline in it) is read.
    pub(crate) fn slot(&self) -> usize {
        self.slot.into()
    }

    /// The type of the value, for messages and schemas.
    pub(crate) fn message(&self) -> &'static Message {
        message(self.message)
    }

    /// Left out of the JSON when it has its zero value.
    pub(crate) fn omit_empty(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Left out when a struct has its zero value.
    pub(crate) fn omit_zero(&self) -> bool {
        self.flags & 2 != 0
    }

    /// `patchStrategy:"merge"`.
    pub(crate) fn merges(&self) -> bool {
        self.flags & 4 != 0
    }

    /// `patchStrategy:"replace"`.
    pub(crate) fn replaces(&self) -> bool {
        self.flags & 16 != 0
    }

    /// `patchMergeKey`, empty for a list of primitives.
    pub(crate) fn merge_key(&self) -> &'static str {
        name(self.merge_key)
    }
}

impl Message {
    /// The fields in the order of the JSON.
    pub(crate) fn fields(&self) -> &'static [Field] {
        let first = usize::from(self.first);
        FIELDS.get(first..first + usize::from(self.count)).unwrap_or_default()
    }

    /// The fields in the order of the wire.
    pub(crate) fn by_number(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let (first, fields) = (usize::from(self.first), self.fields());
        let order = ORDER.get(first..first + usize::from(self.count)).unwrap_or_default();
        order.iter().filter_map(|index| fields.get(usize::from(*index)))
    }

    /// The field with this number; `hint` is the index to look at first and moves on.
    pub(crate) fn numbered(&self, number: u32, hint: &mut usize) -> Option<(usize, &'static Field)> {
        let fields = self.fields();
        let at = |index: usize| {
            fields.get(index).filter(|field| field.number() == number).map(|field| (index, field))
        };
        let found = at(*hint).or_else(|| (0..fields.len()).find_map(at))?;
        *hint = found.0 + 1;
        Some(found)
    }

    /// The field with this JSON name, also in inline messages, and its slot.
    pub(crate) fn named(&self, name: &str, hint: &mut usize) -> Option<(usize, &'static Field)> {
        let fields = self.fields();
        if let Some(field) = fields.get(*hint).filter(|field| field.name() == name) {
            *hint += 1;
            return Some((field.slot(), field));
        }
        for (index, field) in fields.iter().enumerate() {
            if field.shape == Shape::Inline {
                let inner = field.message().named(name, &mut 0);
                if let Some((slot, inner)) = inner {
                    return Some((field.slot() + slot, inner));
                }
            } else if field.name() == name {
                *hint = index + 1;
                return Some((field.slot(), field));
            }
        }
        None
    }

    /// How many values the message has, with those of its inline messages.
    pub(crate) fn slots(&self) -> usize {
        self.slots.into()
    }
}

/// The message of an object's type.
pub(crate) fn of(tm: &TypeMeta) -> Option<&'static Message> {
    let find = |version: &str| {
        let key = (version, tm.kind.as_str());
        let index =
            KINDS.binary_search_by(|(version, kind, _)| (name(*version), name(*kind)).cmp(&key)).ok()?;
        KINDS.get(index).map(|(_, _, number)| message(*number))
    };
    find(&tm.api_version).or_else(|| find("*"))
}

/// The kind that a built-in resource holds.
pub(crate) fn kind_of(resource: &Resource) -> Option<TypeMeta> {
    let version = resource.api_version();
    let key = (version.as_str(), resource.resource.as_str());
    let index =
        RESOURCES.binary_search_by(|(version, plural, _)| (name(*version), name(*plural)).cmp(&key)).ok()?;
    let (_, _, kind) = RESOURCES.get(index)?;
    Some(TypeMeta::new(&version, name(*kind)))
}

fn message(number: u16) -> &'static Message {
    const NOTHING: Message = Message { first: 0, count: 0, slots: 0 };
    static EMPTY: Message = NOTHING;
    MESSAGES.get(usize::from(number)).unwrap_or(&EMPTY)
}

fn name(packed: u32) -> &'static str {
    let (offset, length) = ((packed >> 8) as usize, (packed & 0xff) as usize);
    NAMES.get(offset..offset + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_table_is_sane() {
        assert!(KINDS.len() > 300 && RESOURCES.len() > 100 && MESSAGES.len() > 1000);
        for message in &MESSAGES {
            assert!(message.slots() >= message.fields().len().saturating_sub(1));
            let numbers: Vec<u32> = message.by_number().map(Field::number).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
            for field in message.fields() {
                assert!(!field.name().is_empty());
                assert!(usize::from(field.message) < MESSAGES.len());
                assert!(field.shape != Shape::Inline || field.kind == Kind::Message);
            }
        }
        for (version, _, kind) in &RESOURCES {
            assert!(of(&TypeMeta::new(name(*version), name(*kind))).is_some());
        }
    }

    #[test]
    fn finds_fields_by_name_and_number() {
        let pod = of(&TypeMeta::new("v1", "Pod")).unwrap();
        let (_, spec) = pod.named("spec", &mut 0).unwrap();
        let (_, volumes) = spec.message().named("volumes", &mut 0).unwrap();
        assert_eq!((volumes.merge_key(), volumes.merges(), volumes.number()), ("name", true, 1));
        let (slot, secret) = volumes.message().named("secret", &mut 0).unwrap();
        assert!(slot > 1 && secret.shape == Shape::Pointer);
        assert!(pod.named("specs", &mut 0).is_none());
        assert_eq!(spec.message().numbered(10, &mut 0).unwrap().1.name(), "nodeName");
    }
}
