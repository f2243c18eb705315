//! What a label's key and value may be, in the words of `k8s.io/apimachinery/pkg/util/validation`.

use std::collections::BTreeSet;

use crate::error::BadRequest;

const MAX: usize = 63;
const MAX_PREFIX: usize = 253;
const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
    character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
    is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A qualified name: an optional DNS subdomain and `/`, then a name.
pub(super) fn check_key(key: &str) -> Result<(), BadRequest> {
    let wrong = key_problems(key);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(BadRequest::new(format!("<nil>: Invalid value: {key:?}: {}", wrong.join("; "))))
}

fn key_problems(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(subdomain_problems(prefix).map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            let form = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {NAME} {form}")];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX {
        wrong.push(format!("name part must be no more than {MAX} characters"));
    }
    if !is_name(name) {
        wrong.push(format!("name part {NAME}"));
    }
    wrong
}

fn subdomain_problems(text: &str) -> impl Iterator<Item = String> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |l: &str| l.starts_with(edge) && l.ends_with(edge) && l.chars().all(|c| edge(c) || c == '-');
    let long = (text.len() > MAX_PREFIX).then(|| format!("must be no more than {MAX_PREFIX} characters"));
    let form = (!text.split('.').all(label)).then(|| SUBDOMAIN.to_owned());
    long.into_iter().chain(form)
}

/// The values of a requirement on this key, when each can be one.
pub(super) fn checked(key: &str, values: BTreeSet<String>) -> Result<BTreeSet<String>, BadRequest> {
    let wrong: Vec<String> = values
        .iter()
        .enumerate()
        .filter_map(|(at, value)| {
            let why = value_problems(value);
            (!why.is_empty()).then(|| format!("values[{at}][{key}]: Invalid value: {value:?}: {why}"))
        })
        .collect();
    match wrong.as_slice() {
        [] => Ok(values),
        [one] => Err(BadRequest::new(one.clone())),
        all => Err(BadRequest::new(format!("[{}]", all.join(", ")))),
    }
}

fn value_problems(value: &str) -> String {
    let long = (value.len() > MAX).then(|| format!("must be no more than {MAX} characters"));
    let form = (!value.is_empty() && !is_name(value)).then(|| VALUE.to_owned());
    long.into_iter().chain(form).collect::<Vec<_>>().join("; ")
}

/// Letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(inner)
}
