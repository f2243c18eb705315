//! Percent-encoding and query strings, read as Go's `net/url` reads them.

use std::borrow::Cow;

use crate::error::BadRequest;

/// Bytes behind percent-encoding: they need not be UTF-8.
type Decoded<'a> = Cow<'a, [u8]>;

/// A decoded query string.
pub(crate) struct Query<'a> {
    pairs: Vec<(Decoded<'a>, Decoded<'a>)>,
}

impl<'a> Query<'a> {
    /// Reads `a=b&c=d`. Like `url.Values`, it passes over pairs that are badly encoded or hold a `;`.
    pub(crate) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|p| !p.is_empty() && !p.contains(';')).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        });
        Query { pairs: pairs.collect() }
    }

    /// The first value of `key`, as `url.Values.Get` gives it; `None` when the key is not there.
    pub(crate) fn get(&self, key: &str) -> Result<Option<&str>, BadRequest> {
        let Some((_, value)) = self.pairs.iter().find(|(k, _)| &**k == key.as_bytes()) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value);
        text.map(Some).map_err(|_| BadRequest::new(format!("the query parameter {key} is not UTF-8")))
    }
}

/// The decoded path; an error when the encoding is bad, as Go's server answers 400 then.
pub(crate) fn decode_path(path: &str) -> Result<Cow<'_, str>, BadRequest> {
    let bad = || BadRequest::new("the path is badly encoded");
    match decode(path, false).ok_or_else(bad)? {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(path)),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| bad()),
    }
}

/// `%41` to `A`, in a query `+` to a space; `None` for a `%` without two hexadecimal digits.
fn decode(text: &str, plus_is_space: bool) -> Option<Decoded<'_>> {
    if !text.bytes().any(|b| b == b'%' || b == b'+' && plus_is_space) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    Some(Cow::Owned(out))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn read_as_go_reads_it() {
        let q = Query::parse("a=1&a=2&b=x+y%3Dz&c&%zz=1&d=1;e=2&=v&f=%ff&");
        assert_eq!(q.get("a").unwrap(), Some("1"));
        assert_eq!(q.get("b").unwrap(), Some("x y=z"));
        assert_eq!(q.get("c").unwrap(), Some(""));
        assert_eq!(q.get("d").unwrap(), None);
        assert_eq!(q.get("").unwrap(), Some("v"));
        assert!(q.get("f").is_err());
        assert_eq!(decode_path("/a%20b/+c").unwrap(), "/a b/+c");
        for bad in ["/%", "/%4", "/%4g", "/%ff"] {
            assert!(decode_path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = Query::parse(&text).get("a");
            let _ = decode_path(&text);
        }
    }
}
