//! JSON by its members: where each value stands in the bytes, without reading into it.
//!
//! The whole text is checked to be JSON. Skipped values are walked without recursion (serde_json), so depth
//! costs no stack.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::DecodeError;

/// Reads the object that `text` is.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, DecodeError> {
    let Object(value) = serde_json::from_slice(text)?;
    Ok(value)
}

/// A value that is written as an object: serde alone takes a struct from an array, too.
#[derive(Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}

/// One member of an object.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// The name, unescaped.
    pub(crate) key: Cow<'a, str>,
    /// The value as written, without white space around it.
    pub(crate) value: &'a str,
    /// Where the value stands in the object's text.
    pub(crate) span: Range<usize>,
}

/// The members of the object that `text` is, in order.
pub(crate) fn members(text: &[u8]) -> Result<Vec<Member<'_>>, DecodeError> {
    let Pairs(pairs) = serde_json::from_slice(text)?;
    let members = pairs.into_iter().map(|(Key(key), raw)| {
        let value = raw.get();
        let start = offset(text, value);
        Member { key, value, span: start..start + value.len() }
    });
    Ok(members.collect())
}

/// The value of the member of that name; of several the last, as Go's decoder has it. `null` counts as none.
pub(crate) fn find<'m, 'a>(members: &'m [Member<'a>], key: &str) -> Option<&'m Member<'a>> {
    members.iter().rfind(|m| m.key == key).filter(|m| m.value != "null")
}

/// The scalar at `path`, as the text that a field selector compares; `None` when it is not there or no scalar.
pub(crate) fn scalar_at(text: &[u8], path: &[&str]) -> Result<Option<String>, DecodeError> {
    let Some((key, rest)) = path.split_first() else { return Ok(None) };
    match find(&members(text)?, key) {
        Some(member) if rest.is_empty() => Ok(scalar(member.value)),
        Some(member) if member.value.starts_with('{') => scalar_at(member.value.as_bytes(), rest),
        _ => Ok(None),
    }
}

fn scalar(text: &str) -> Option<String> {
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(text.to_owned()),
    }
}

/// Where `part`, which is a slice of `whole`, starts in it.
fn offset(whole: &[u8], part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// Appends `text` as a JSON string.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    // a string always has a JSON form, and a Vec takes every write
    let _ = serde_json::to_writer(out, text);
}

/// `text` with the bytes of `span` replaced.
pub(crate) fn replace(text: &[u8], span: Range<usize>, with: &[u8]) -> Vec<u8> {
    let (before, after) = (text.get(..span.start), text.get(span.end..));
    [before.unwrap_or_default(), with, after.unwrap_or_default()].concat()
}

struct Pairs<'a>(Vec<(Key<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name that is borrowed unless it is written with escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_and_where_they_stand() {
        let text = br#" { "a" : 1 , "b\u0063" :{"a":[2]}, "a":"x" } "#;
        let members = members(text).unwrap();
        let keys: Vec<&str> = members.iter().map(|m| &*m.key).collect();
        assert_eq!(keys, ["a", "bc", "a"]);
        for m in &members {
            assert_eq!(&text[m.span.clone()], m.value.as_bytes());
        }
        assert_eq!(find(&members, "a").unwrap().value, "\"x\"");
        assert!(find(&members, "c").is_none());
    }

    #[test]
    fn scalars_by_path() {
        let text = r#"{"spec":{"nodeName":"edge-1","hostNetwork":true,"n":5,"list":["a"],"none":null}}"#;
        let at = |path: &[&str]| scalar_at(text.as_bytes(), path).unwrap();
        assert_eq!(at(&["spec", "nodeName"]).as_deref(), Some("edge-1"));
        assert_eq!(at(&["spec", "hostNetwork"]).as_deref(), Some("true"));
        assert_eq!(at(&["spec", "n"]).as_deref(), Some("5"));
        for path in
            [&["spec", "list"][..], &["spec", "none"], &["spec"], &["status", "phase"], &["spec", "n", "x"]]
        {
            assert_eq!(at(path), None, "{path:?}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(members(deep.as_bytes()).unwrap().len(), 1);
        assert!(members(&deep.as_bytes()[..1_000_000]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, text in r#"[{}\[\]":,a0 \\]{0,30}"#) {
            let _ = members(&bytes);
            let _ = members(text.as_bytes());
        }
    }
}
