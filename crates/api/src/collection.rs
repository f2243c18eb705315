//! What identifies a held collection, and an object inside it.

use std::cmp::Ordering;
use std::fmt;

use crate::representation::Representation;
use crate::resource::Resource;

/// Which list of objects: everything that makes two list requests answer with different bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionKey {
    /// The resource.
    pub resource: Resource,
    /// The namespace; `None` = all of them, or a resource that has none.
    pub namespace: Option<String>,
    /// The label selector in canonical form; empty = everything.
    pub labels: String,
    /// The field selector in canonical form; empty = everything.
    pub fields: String,
    /// The form of the objects.
    pub representation: Representation,
}

impl fmt::Display for CollectionKey {
    /// One line for logs and status pages: `v1/pods in default (protobuf) fields spec.nodeName=edge-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resource)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        write!(f, " ({})", self.representation.as_str())?;
        if !self.labels.is_empty() {
            write!(f, " labels {}", self.labels)?;
        }
        if !self.fields.is_empty() {
            write!(f, " fields {}", self.fields)?;
        }
        Ok(())
    }
}

/// An object of one resource.
///
/// Ordered as the apiserver orders its lists, which is by the bytes of `namespace/name`: an object of
/// namespace `a-b` stands before one of `a`, because `-` sorts before `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// The namespace; empty for a resource that has none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key of this namespace (empty = none) and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    fn path(&self) -> impl Iterator<Item = u8> {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        self.namespace.bytes().chain(slash.bytes()).chain(self.name.bytes())
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.namespace == other.namespace {
            return self.name.cmp(&other.name);
        }
        // names with a slash do not exist, but what is not equal must not compare as equal
        self.path().cmp(other.path()).then_with(|| self.namespace.cmp(&other.namespace))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    /// `namespace/name`, or `name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::representation::Encoding;
    use proptest::prelude::*;

    #[test]
    fn ordered_as_the_keys_in_etcd() {
        let mut keys = [("a", "x"), ("a-b", "x"), ("a.b", "x"), ("ab", "a"), ("a", "b-c"), ("a", "b")]
            .map(|(ns, name)| ObjectKey::new(ns, name));
        keys.sort();
        let paths: Vec<String> = keys.iter().map(ObjectKey::to_string).collect();
        let mut sorted = paths.clone();
        sorted.sort();
        assert_eq!(paths, sorted);
        assert_eq!(paths[0], "a-b/x");
    }

    #[test]
    fn cluster_scoped_keys_have_no_slash() {
        assert_eq!(ObjectKey::new("", "edge-1").to_string(), "edge-1");
        assert!(ObjectKey::new("", "edge-1") < ObjectKey::new("", "edge-10"));
    }

    #[test]
    fn a_collection_reads_as_one_line() {
        let key = CollectionKey {
            resource: Resource::new("", "v1", "pods"),
            namespace: Some("default".into()),
            labels: "app=a".into(),
            fields: "spec.nodeName=edge-1".into(),
            representation: Representation { encoding: Encoding::Protobuf, metadata_only: false },
        };
        let line = "v1/pods in default (protobuf) labels app=a fields spec.nodeName=edge-1";
        assert_eq!(key.to_string(), line);
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_path(a in "[a-c.-]{0,3}", b in "[a-c.-]{1,3}", c in "[a-c.-]{0,3}", d in "[a-c.-]{1,3}") {
            let (x, y) = (ObjectKey::new(&a, &b), ObjectKey::new(&c, &d));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
            prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
        }
    }
}
