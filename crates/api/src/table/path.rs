//! The paths by which the columns of custom resources find their values: a part of JSONPath as
//! `k8s.io/client-go/util/jsonpath` reads it, without slices, recursion and unions.

use serde_json::Value;

/// Steps of a path; a longer one is not read.
const MAX_STEPS: usize = 32;

/// Where in an object a value stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A member of an object.
    Member(String),
    /// An entry of a list; negative counts from its end.
    Entry(i64),
    /// Every entry of a list.
    Every,
    /// The entries of a list in which the value at the path is, or is not, this one.
    Where { path: Vec<Step>, is: bool, value: Value },
}

impl Path {
    /// Reads a path (`.spec.size`); `None` for one that is not understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.starts_with('.').then(|| steps(text)).flatten().map(Path)
    }

    /// The first value that it leads to.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        follow(&self.0, object).into_iter().next()
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let step;
        (step, rest) = match rest.strip_prefix('[') {
            Some(inside) => {
                let end = closing(inside)?;
                (in_brackets(inside.get(..end)?)?, inside.get(end + 1..)?)
            }
            None => member(rest.strip_prefix('.')?)?,
        };
        steps.push(step);
        if steps.len() > MAX_STEPS {
            return None;
        }
    }
    Some(steps)
}

/// A name up to the next step; a backslash takes what follows it as it is.
fn member(text: &str) -> Option<(Step, &str)> {
    let (mut name, mut chars) = (String::new(), text.char_indices());
    let end = loop {
        match chars.next() {
            Some((_, '\\')) => name.push(chars.next()?.1),
            Some((at, '.' | '[')) => break at,
            Some((_, c)) if c.is_alphanumeric() || "_-/$".contains(c) => name.push(c),
            Some(_) => return None,
            None => break text.len(),
        }
    };
    (!name.is_empty()).then_some((Step::Member(name), text.get(end..)?))
}

/// Where the bracket is closed that is open; what is quoted does not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ']') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn in_brackets(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::Every);
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return condition_of(condition);
    }
    match quoted(text) {
        Some(name) => Some(Step::Member(name.replace('\\', ""))),
        None => text.parse().ok().map(Step::Entry),
    }
}

fn condition_of(text: &str) -> Option<Step> {
    let at = text.find(['=', '!'])?;
    let (path, rest) = text.split_at_checked(at)?;
    let (is, value) = match rest.strip_prefix("==") {
        Some(value) => (true, value),
        None => (false, rest.strip_prefix("!=")?),
    };
    let value = match quoted(value.trim()) {
        Some(text) => Value::from(text),
        None => {
            serde_json::from_str(value.trim()).ok().filter(|v: &Value| v.is_number() || v.is_boolean())?
        }
    };
    let path = steps(path.trim().strip_prefix('@')?)?;
    let plain = path.iter().all(|s| matches!(s, Step::Member(_)));
    (plain && !path.is_empty()).then_some(Step::Where { path, is, value })
}

fn quoted(text: &str) -> Option<&str> {
    let within = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    within('\'').or_else(|| within('"'))
}

fn follow<'a>(steps: &[Step], object: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in steps {
        found = found.into_iter().flat_map(|value| step.of(value)).collect();
    }
    found
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let entries = || value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Step::Member(name) => value.get(name).into_iter().collect(),
            Step::Every => entries().iter().collect(),
            Step::Entry(at) => {
                let length = i64::try_from(entries().len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at.saturating_add(length) } else { *at };
                usize::try_from(at).ok().and_then(|at| entries().get(at)).into_iter().collect()
            }
            Step::Where { path, is, value } => {
                let kept = |entry: &&Value| follow(path, entry).first().is_some_and(|v| (*v == value) == *is);
                entries().iter().filter(kept).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, tail in r#"[.a\\\[\]?(@=!)'"*0-9-]{0,20}"#) {
            let object = serde_json::json!({"a": [{"a": 1}, {"a": "ü"}], "ü": null});
            for path in [text.clone(), format!(".{text}"), format!(".{tail}"), format!(".a[{tail}]")] {
                let _ = Path::parse(&path).map(|p| p.first(&object).cloned());
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_no_path() {
        for text in [
            "",
            "spec",
            ".",
            "..a",
            ".a..b",
            ".a[",
            ".a[]",
            ".a[x]",
            ".a[0:2]",
            ".a[0,1]",
            ".a[?(@.b>1)]",
            ".a[?(@.b==)]",
            ".a[?(@==1)]",
            ".a[?(.b==1)]",
            ".a b",
            ".a{b}",
            ".a\\",
        ] {
            assert_eq!(Path::parse(text), None, "{text}");
        }
        assert_eq!(Path::parse(&".a".repeat(MAX_STEPS + 1)), None);
        assert!(Path::parse(&".a".repeat(MAX_STEPS)).is_some());
    }
}
