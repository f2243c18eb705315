//! Field selectors, as in `k8s.io/apimachinery/pkg/fields`.

use std::fmt::{self, Write};

use crate::error::BadRequest;

/// A conjunction of comparisons of field paths with texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    // sorted, without duplicates
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    path: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// The selector that every object matches.
    pub fn everything() -> Self {
        FieldSelector::default()
    }

    /// Reads `path=value`, `path==value` and `path!=value`, joined by commas. In a value `\`, `,` and `=` are
    /// written with a backslash before them.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if let Some(term) = parse_term(part, text)? {
                terms.push(term);
            }
        }
        terms.sort();
        terms.dedup();
        Ok(FieldSelector { terms })
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The text that all selectors equal to this one have.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// Whether an object matches whose fields `field` gives; a field that it does not have is the empty text.
    pub fn matches(&self, field: &dyn Fn(&str) -> Option<String>) -> bool {
        self.terms.iter().all(|t| (field(&t.path).unwrap_or_default() == t.value) == t.equal)
    }

    /// The value that the field at `path` must have, when the selector asks for one.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.path == path).map(|t| t.value.as_str())
    }

    /// The paths that it looks at, one for each comparison.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|t| t.path.as_str())
    }

    /// The comparisons: path, whether it must be equal, value.
    pub fn terms(&self) -> impl Iterator<Item = (&str, bool, &str)> {
        self.terms.iter().map(|t| (t.path.as_str(), t.equal, t.value.as_str()))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}{}", term.path, if term.equal { "=" } else { "!=" })?;
            for c in term.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Cuts at the commas that have no backslash before them.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let cut = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        cut
    })
}

/// One comparison; `None` for one that asks nothing.
fn parse_term(part: &str, whole: &str) -> Result<Option<Term>, BadRequest> {
    if part.is_empty() {
        return Ok(None);
    }
    let unreadable = || BadRequest::new(format!("invalid selector: '{whole}'; can't understand '{part}'"));
    let at = operator(part).ok_or_else(unreadable)?;
    let (path, rest) = part.split_at_checked(at).ok_or_else(unreadable)?;
    let equal = !rest.starts_with('!');
    let value = rest.strip_prefix("!=").or(rest.strip_prefix("==")).or(rest.strip_prefix('='));
    let value = unescape(value.ok_or_else(unreadable)?)?;
    if path.is_empty() && value.is_empty() {
        return Ok(None);
    }
    Ok(Some(Term { path: path.to_owned(), equal, value }))
}

/// Where the first operator stands: `=`, or `!` with a `=` behind it.
fn operator(part: &str) -> Option<usize> {
    let equals = part.find('=')?;
    Some(if part[..equals].ends_with('!') { equals - 1 } else { equals })
}

fn unescape(value: &str) -> Result<String, BadRequest> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    let message = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(BadRequest::new(message));
                }
            },
            ',' | '=' => {
                // The server shows the character's number.
                let message =
                    format!("invalid field selector: unescaped character in value: {}", u32::from(c));
                return Err(BadRequest::new(message));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn canonical(s: &str) -> String {
        FieldSelector::parse(s).unwrap().canonical()
    }

    #[test]
    fn equal_selectors_have_one_text() {
        let cases = [
            ("", ""),
            ("spec.nodeName=edge-1", "spec.nodeName=edge-1"),
            ("spec.nodeName==edge-1", "spec.nodeName=edge-1"),
            ("spec.clusterIP!=None", "spec.clusterIP!=None"),
            ("b=2,a=1", "a=1,b=2"),
            ("a=1,a=1,", "a=1"),
            ("a=", "a="),
            (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
            ("=", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn unreadable_selectors_are_refused() {
        for text in ["a", "a,b=1", "a=b=c", r"a=\x", r"a=b\", "metadata.name", "a===b"] {
            assert!(FieldSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_field_is_the_empty_text() {
        let get = |path: &str| (path == "spec.nodeName").then(|| "edge-1".to_owned());
        let cases = [
            ("", true),
            ("spec.nodeName=edge-1", true),
            ("spec.nodeName!=edge-1", false),
            ("spec.nodeName=edge-1,status.phase=", true),
            ("status.phase!=Failed", true),
            ("spec.nodeName=edge-1,status.phase=Running", false),
        ];
        for (text, expected) in cases {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(&get), expected, "{text}");
        }
    }

    #[test]
    fn exact_values_and_paths() {
        let s = FieldSelector::parse("metadata.name=a,spec.nodeName!=b").unwrap();
        assert_eq!(s.exact("metadata.name"), Some("a"));
        assert_eq!(s.exact("spec.nodeName"), None);
        assert_eq!(s.paths().collect::<Vec<_>>(), ["metadata.name", "spec.nodeName"]);
        assert!(FieldSelector::everything().is_empty() && !s.is_empty());
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(text in r"[a-c.!=,\\]{0,20}") {
            if let Ok(s) = FieldSelector::parse(&text) {
                prop_assert_eq!(&FieldSelector::parse(&s.canonical()).unwrap(), &s);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = FieldSelector::parse(&text);
        }

        #[test]
        fn any_value_survives(value: String) {
            let s = FieldSelector { terms: vec![Term { path: "a".into(), equal: true, value }] };
            prop_assert_eq!(FieldSelector::parse(&s.canonical()).unwrap(), s);
        }
    }
}
