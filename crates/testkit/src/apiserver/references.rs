//! Which other objects a pod names, found by walking its whole JSON.

use serde_json::Value;

/// (name of the enclosing field, name of the field with the object's name).
pub type Fields = &'static [(&'static str, &'static str)];

/// Every name that `pod` refers to through one of the fields.
pub fn names(pod: &Value, fields: Fields) -> impl Iterator<Item = &str> {
    let mut found = Vec::new();
    walk(pod, "", fields, &mut found);
    found.into_iter()
}

fn walk<'a>(value: &'a Value, parent: &str, fields: Fields, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, parent, fields, found)),
        Value::Object(map) => {
            for (name, child) in map {
                match child.as_str() {
                    Some(text) if fields.contains(&(parent, name)) => found.push(text),
                    _ => walk(child, name, fields, found),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_at_any_depth() {
        let pod = json!({"spec": {
            "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"secret": {"name": "b"}}]}}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}}], "name": "no"}],
        }});
        let fields: Fields = &[("secret", "secretName"), ("secret", "name"), ("secretKeyRef", "name")];
        assert_eq!(names(&pod, fields).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
