//! Label selectors, as in `k8s.io/apimachinery/pkg/labels`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::BadRequest;

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    // sorted, without duplicates
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    test: Test,
}

/// `=`, `==` and `in` are one test, `!=` and `notin` another: they differ only in how they are written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Test {
    Exists,
    Missing,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// The selector that every object matches.
    pub fn everything() -> Self {
        LabelSelector::default()
    }

    /// Reads `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`, `k>1` and `k<1`, joined by commas.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let mut tokens = Tokens { rest: text };
        let mut requirements = Vec::new();
        if tokens.peek() != Token::End {
            requirements.push(tokens.requirement()?);
            while tokens.next_token() == Token::Symbol(",") {
                requirements.push(tokens.requirement()?);
            }
        }
        requirements.sort();
        requirements.dedup();
        Ok(LabelSelector { requirements })
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The text that all selectors equal to this one have.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// Whether an object with these labels matches.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| r.test.holds(labels.get(&r.key)))
    }
}

impl Test {
    fn holds(&self, value: Option<&String>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Above(bound) => number().is_some_and(|n| n > *bound),
            Test::Below(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::Exists => write!(f, "{key}"),
            Test::Missing => write!(f, "!{key}"),
            Test::In(values) => write_values(f, key, ("=", " in "), values),
            Test::NotIn(values) => write_values(f, key, ("!=", " notin "), values),
            Test::Above(bound) => write!(f, "{key}>{bound}"),
            Test::Below(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

/// One value with the short operator, several with the long one.
fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    (short, long): (&str, &str),
    values: &BTreeSet<String>,
) -> fmt::Result {
    if let (1, Some(value)) = (values.len(), values.first()) {
        return write!(f, "{key}{short}{value}");
    }
    write!(f, "{key}{long}(")?;
    for (i, value) in values.iter().enumerate() {
        write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
    }
    f.write_str(")")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    End,
    Word(&'a str),
    Symbol(&'static str),
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::End => "",
            Token::Word(w) => w,
            Token::Symbol(s) => s,
        })
    }
}

/// The longer symbol stands before the one that it starts with.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next_token(&mut self) -> Token<'a> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if let Some(symbol) = SYMBOLS.into_iter().find(|s| text.starts_with(s)) {
            self.rest = text.strip_prefix(symbol).unwrap_or_default();
            return Token::Symbol(symbol);
        }
        let stop = |c: char| " \t\r\n=!(),<>".contains(c);
        let (word, rest) = text.split_at_checked(text.find(stop).unwrap_or(text.len())).unwrap_or_default();
        self.rest = rest;
        if word.is_empty() { Token::End } else { Token::Word(word) }
    }

    fn peek(&self) -> Token<'a> {
        Tokens { rest: self.rest }.next_token()
    }

    /// One requirement; what follows it is a comma or the end.
    fn requirement(&mut self) -> Result<Requirement, BadRequest> {
        let missing = self.peek() == Token::Symbol("!");
        if missing {
            self.next_token();
        }
        let key = match self.next_token() {
            Token::Word(word) => word,
            other => return Err(unexpected(other, "!, identifier")),
        };
        check_key(key)?;
        let test = if missing { Test::Missing } else { self.test()? };
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(Requirement { key: key.to_owned(), test }),
            other => Err(unexpected(other, "',' or 'end of string'")),
        }
    }

    fn test(&mut self) -> Result<Test, BadRequest> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Test::Exists);
        }
        Ok(match self.next_token() {
            Token::Symbol("=" | "==") => Test::In([self.value()?.to_owned()].into()),
            Token::Symbol("!=") => Test::NotIn([self.value()?.to_owned()].into()),
            Token::Symbol(">") => Test::Above(self.number()?),
            Token::Symbol("<") => Test::Below(self.number()?),
            Token::Word("in") => Test::In(self.values()?),
            Token::Word("notin") => Test::NotIn(self.values()?),
            other => return Err(unexpected(other, "in, notin, =, ==, !=, >, <")),
        })
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<&'a str, BadRequest> {
        let Token::Word(word) = self.peek() else { return Ok("") };
        self.next_token();
        check_value(word)?;
        Ok(word)
    }

    fn number(&mut self) -> Result<i64, BadRequest> {
        let value = self.value()?;
        let message = || BadRequest::new(format!("for 'Gt', 'Lt' operators, '{value}' must be an integer"));
        value.parse().map_err(|_| message())
    }

    /// `(a,b)`; values may be empty, so `()` holds one.
    fn values(&mut self) -> Result<BTreeSet<String>, BadRequest> {
        match self.next_token() {
            Token::Symbol("(") => {}
            other => return Err(unexpected(other, "'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?.to_owned());
            match self.next_token() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => {}
                other => return Err(unexpected(other, "',' or ')'")),
            }
        }
    }
}

fn unexpected(found: Token<'_>, expected: &str) -> BadRequest {
    BadRequest::new(format!("unable to parse requirement: found '{found}', expected: {expected}"))
}

/// A qualified name: an optional DNS subdomain and `/`, then a name
/// (`k8s.io/apimachinery/pkg/util/validation`).
fn check_key(key: &str) -> Result<(), BadRequest> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let good = prefix.is_none_or(is_subdomain) && !name.is_empty() && is_name(name);
    let message = || format!("unable to parse requirement: '{key}' is not a label key");
    if good { Ok(()) } else { Err(BadRequest::new(message())) }
}

fn check_value(value: &str) -> Result<(), BadRequest> {
    let message = || format!("unable to parse requirement: '{value}' is not a label value");
    if is_name(value) { Ok(()) } else { Err(BadRequest::new(message())) }
}

/// At most 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit; or empty.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63 && text.starts_with(edge) && text.ends_with(edge) && text.chars().all(inner)
}

/// At most 253 characters: labels of lower-case letters, digits and `-`, joined by dots.
fn is_subdomain(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |l: &str| l.starts_with(edge) && l.ends_with(edge) && l.chars().all(|c| edge(c) || c == '-');
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn canonical(s: &str) -> String {
        LabelSelector::parse(s).unwrap().canonical()
    }

    #[test]
    fn equal_selectors_have_one_text() {
        let cases = [
            ("", ""),
            ("  ", ""),
            ("app=web", "app=web"),
            ("app == web", "app=web"),
            ("app in (web)", "app=web"),
            ("tier notin (a)", "tier!=a"),
            ("b, a", "a,b"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z!="),
            ("app=web,app=web", "app=web"),
            ("!service.kubernetes.io/headless", "!service.kubernetes.io/headless"),
            ("!a , b>5,c < 7", "!a,b>5,c<7"),
            ("a=", "a="),
            ("a!=", "a!="),
            ("in in (notin,in)", "in in (in,notin)"),
            ("a=in,notin", "a=in,notin"),
            ("a in (b, c ,a)", "a in (a,b,c)"),
            (
                "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless",
                "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn unreadable_selectors_are_refused() {
        let long = "a".repeat(64);
        let cases = [
            ",",
            "a,",
            "a,,b",
            "a b",
            "a in b",
            "a in (b",
            "a in (b c)",
            "a in ((b))",
            "!",
            "!a=b",
            "!!a",
            "a==!b",
            "a>x",
            "a>",
            "-a",
            "a-",
            "a/b/c",
            "/a",
            "A.b/c!",
            "Up.er/c",
            "a=b c",
            "a=-",
            "=a",
            "(a)",
            "a=ä",
            "a\0b",
            "a>9223372036854775808",
            "a notin",
            &long,
        ];
        for text in cases {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn matches_as_kubernetes_does() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("n", "5"), ("e", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let cases = [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app=web", true),
            ("app!=web", false),
            ("other!=web", true), // a missing label is not equal
            ("other notin (web)", true),
            ("app in (db,web)", true),
            ("app notin (db,web)", false),
            ("e=", true),
            ("other=", false), // but neither is it the empty one
            ("n>4", true),
            ("n>5", false),
            ("n<6", true),
            ("app>1", false),
            ("other<1", false),
            ("app=web,n=6", false),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(text in "[ab0-2 !=<>(),]{0,24}|(a|b)( in | notin |=|!=)\\(?(a|b|,){0,5}\\)?") {
            if let Ok(s) = LabelSelector::parse(&text) {
                prop_assert_eq!(&LabelSelector::parse(&s.canonical()).unwrap(), &s);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = LabelSelector::parse(&text);
        }
    }
}
