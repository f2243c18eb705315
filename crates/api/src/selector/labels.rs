//! Label selectors, as in `k8s.io/apimachinery/pkg/labels`.

mod name;
mod parse;

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
        let mut requirements = parse::requirements(text)?;
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

    /// What kube-apiserver 1.34 answers, word for word.
    #[test]
    fn refusals_have_the_apiservers_words() {
        let name = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
            character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
            '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
            must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
            for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        let in_requirement = [
            ("a===b", "found '=', expected: identifier".to_owned()),
            ("a in b", "found 'b' expected: '('".into()),
            ("a in", "found '' expected: '('".into()),
            ("a in (b", "found '', expected: ',' or ')'".into()),
            ("a in (", "found '', expected: ',', ')' or identifier".into()),
            ("a in (b=c)", "found '=', expected: ',' or ')'".into()),
            ("a notin (b,,)", "found ')', expected: ',', or identifier".into()),
            ("!", "found '', expected: identifier".into()),
            ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt".into()),
            ("a!", "found '!', expected: in, notin, =, ==, !=, gt, lt".into()),
            ("a>b", "values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer".into()),
            ("a=-b", format!("values[0][a]: Invalid value: \"-b\": {value}")),
            ("a in (-x,-y)", format!("[values[0][a]: Invalid value: \"-x\": {value}, values[1][a]: Invalid value: \"-y\": {value}]")),
            ("-a=b", format!("<nil>: Invalid value: \"-a\": name part {name}")),
            ("/x", "<nil>: Invalid value: \"/x\": prefix part must be non-empty".into()),
            ("x/", format!("<nil>: Invalid value: \"x/\": name part must be non-empty; name part {name}")),
            ("x/y/z", format!("<nil>: Invalid value: \"x/y/z\": a qualified name {name} with an optional DNS subdomain \
                prefix and '/' (e.g. 'example.com/MyName')")),
            ("X_/x", "<nil>: Invalid value: \"X_/x\": prefix part a lowercase RFC 1123 subdomain must consist of lower \
                case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                'example.com', regex used for validation is \
                '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into()),
        ];
        for (text, expected) in in_requirement {
            let said = LabelSelector::parse(text).unwrap_err().message;
            assert_eq!(said, format!("unable to parse requirement: {expected}"), "{text}");
        }
        let between = [
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
        ];
        for (text, expected) in between {
            assert_eq!(LabelSelector::parse(text).unwrap_err().message, expected, "{text}");
        }
        let long = "a".repeat(64);
        let said = LabelSelector::parse(&format!("a={long}")).unwrap_err().message;
        assert!(said.ends_with(&format!("{long:?}: must be no more than 63 characters")), "{said}");
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
