//! In which form a client wants its answer, and in which form a body is.
//!
//! The rules are those of `k8s.io/apiserver/pkg/endpoints/handlers/negotiation`.

use std::fmt;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// The form of the objects of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Representation {
    /// How they are written.
    pub encoding: Encoding,
    /// Whether they are `PartialObjectMetadata` instead of the whole objects.
    pub metadata_only: bool,
}

/// The version of `meta.k8s.io` that a table is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableVersion {
    /// `meta.k8s.io/v1`
    V1,
    /// `meta.k8s.io/v1beta1`
    V1beta1,
}

impl TableVersion {
    /// As objects carry it.
    pub fn api_version(self) -> &'static str {
        match self {
            TableVersion::V1 => "meta.k8s.io/v1",
            TableVersion::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What an answer consists of: it decides what can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One object.
    One,
    /// A list.
    List,
    /// The events of a watch, each with an object.
    Stream,
}

/// One thing that a client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A form in which objects are held.
    Held(Representation),
    /// A table for people (`as=Table`), in JSON.
    Table(TableVersion),
    /// Metadata alone in the types of `meta.k8s.io/v1beta1`, in JSON.
    OldMetadata,
    /// What the apiserver takes up and cannot make of such an answer, in its words; it looks no further.
    Misfit(&'static str),
    /// Anything else, as the client wrote it.
    Other(String),
}

impl Encoding {
    /// The media type without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => JSON,
            Encoding::Protobuf => PROTOBUF,
        }
    }
}

impl Representation {
    /// Whole objects in JSON.
    pub const JSON: Representation = Representation { encoding: Encoding::Json, metadata_only: false };
    /// Whole objects in protobuf.
    pub const PROTOBUF: Representation =
        Representation { encoding: Encoding::Protobuf, metadata_only: false };

    /// The name of this form in the store, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match (self.encoding, self.metadata_only) {
            (Encoding::Json, false) => "json",
            (Encoding::Protobuf, false) => "protobuf",
            (Encoding::Json, true) => "json-metadata",
            (Encoding::Protobuf, true) => "protobuf-metadata",
        }
    }

    /// The form of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Encoding::Json, Encoding::Protobuf]
            .into_iter()
            .flat_map(|encoding| {
                [false, true].map(|metadata_only| Representation { encoding, metadata_only })
            })
            .find(|r| r.as_str() == name)
    }

    /// The `Content-Type` with which the apiserver answers in this form.
    ///
    /// It does not tell metadata from whole objects, and names the stream only for protobuf
    /// (`k8s.io/apiserver/pkg/endpoints/handlers/watch.go`).
    pub fn content_type(self, stream_watch: bool) -> &'static str {
        match (self.encoding, stream_watch) {
            (Encoding::Json, _) => JSON,
            (Encoding::Protobuf, false) => PROTOBUF,
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// The form of a body with that `Content-Type`; `None` for what is not held.
    ///
    /// As an answer's type does not say it, `metadata_only` is set only where the type has an `as` parameter.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match Clause::parse(content_type)?.accepted(None) {
            Some(Accepted::Held(r)) if !content_type.contains('*') => Some(r),
            _ => None,
        }
    }

    /// The `Accept` value that asks upstream for exactly this form; `list` = of a list (not a watch).
    pub fn accept(self, list: bool) -> &'static str {
        match (self.encoding, self.metadata_only, list) {
            (Encoding::Json, false, _) => JSON,
            (Encoding::Protobuf, false, _) => PROTOBUF,
            (Encoding::Json, true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            (Encoding::Json, true, true) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
            (Encoding::Protobuf, true, false) => {
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
            }
            (Encoding::Protobuf, true, true) => {
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
        }
    }
}

impl fmt::Display for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an `Accept` header allows, in the order of the client's preference: by `q`, then the exact before
/// the wildcard, then as written. A missing or empty header, `*/*` and `application/*` mean JSON; what has
/// `q=0` or is no media type is left out.
///
/// `shape` is that of the answer, when it is one of a resource.
pub fn negotiate(accept: Option<&str>, shape: Option<Shape>) -> Vec<Accepted> {
    let accept = accept.unwrap_or("");
    if accept.trim().is_empty() {
        return vec![Accepted::Held(Representation::JSON)];
    }
    let mut clauses: Vec<Clause> =
        accept.split(',').filter_map(Clause::parse).filter(|c| c.q > 0.0).collect();
    clauses.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.wildcards().cmp(&b.wildcards())));
    clauses.iter().filter_map(|clause| clause.accepted(shape)).collect()
}

/// One element of an `Accept` header.
struct Clause<'a> {
    text: &'a str,
    kind: &'a str,
    subtype: &'a str,
    q: f32,
    convert: Option<&'a str>,
    group: &'a str,
    version: &'a str,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let mut parts = text.split(';');
        let media = parts.next()?.trim();
        let (kind, subtype) = if media == "*" { ("*", "*") } else { media.split_once('/')? };
        if subtype.contains('/') {
            return None;
        }
        let mut clause = Clause {
            text,
            kind: kind.trim(),
            subtype: subtype.trim(),
            q: 1.0,
            convert: None,
            group: "",
            version: "",
        };
        parts.filter_map(|p| p.split_once('=')).for_each(|(k, v)| clause.parameter(k.trim(), v.trim()));
        Some(clause)
    }

    fn parameter(&mut self, key: &str, value: &'a str) {
        let value = value.trim_matches('"');
        match key {
            "q" => self.q = value.parse().unwrap_or(0.0),
            "as" => self.convert = Some(value),
            "g" => self.group = value,
            "v" => self.version = value,
            _ => {}
        }
    }

    fn wildcards(&self) -> u8 {
        u8::from(self.kind == "*") + u8::from(self.subtype == "*")
    }

    fn encoding(&self) -> Option<Encoding> {
        let is = |kind: &str, subtype: &str| {
            self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
        };
        if is("application", "vnd.kubernetes.protobuf") {
            return Some(Encoding::Protobuf);
        }
        (is("application", "json") || is("application", "*") || is("*", "*")).then_some(Encoding::Json)
    }

    fn accepted(&self, shape: Option<Shape>) -> Option<Accepted> {
        let Some(encoding) = self.encoding() else { return Some(Accepted::Other(self.text.to_owned())) };
        let held = |metadata_only| Some(Accepted::Held(Representation { encoding, metadata_only }));
        match (self.convert, self.group, self.version) {
            (None | Some(""), ..) => held(false),
            (
                Some(kind @ ("PartialObjectMetadata" | "PartialObjectMetadataList")),
                "meta.k8s.io",
                version,
            ) if matches!(version, "v1" | "v1beta1") && misfit(kind, shape).is_some() => {
                misfit(kind, shape).map(Accepted::Misfit)
            }
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), "meta.k8s.io", "v1") => held(true),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), "meta.k8s.io", "v1beta1")
                if encoding == Encoding::Json =>
            {
                Some(Accepted::OldMetadata)
            }
            // only JSON has tables (`RequestScope.AllowsMediaTypeTransform`)
            (Some("Table"), "meta.k8s.io", "v1") if encoding == Encoding::Json => {
                Some(Accepted::Table(TableVersion::V1))
            }
            (Some("Table"), "meta.k8s.io", "v1beta1") if encoding == Encoding::Json => {
                Some(Accepted::Table(TableVersion::V1beta1))
            }
            _ => Some(Accepted::Other(self.text.to_owned())),
        }
    }
}

/// Why an answer cannot be of this kind (`asPartialObjectMetadata` and `asPartialObjectMetadataList` of
/// `k8s.io/apiserver/pkg/endpoints/handlers/response.go`). A watch that asks for lists gets a stream from the apiserver
/// that ends with its first event.
fn misfit(kind: &str, shape: Option<Shape>) -> Option<&'static str> {
    match (kind, shape?) {
        ("PartialObjectMetadata", Shape::List) => {
            Some("you requested PartialObjectMetadata, but the requested object is a list")
        }
        ("PartialObjectMetadataList", Shape::One | Shape::Stream) => {
            Some("you requested PartialObjectMetadataList, but the requested object is not a list")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use Accepted::{Held, Table};
    use proptest::prelude::*;

    const JSON_META: Representation = Representation { encoding: Encoding::Json, metadata_only: true };
    const PROTOBUF_META: Representation =
        Representation { encoding: Encoding::Protobuf, metadata_only: true };

    #[test]
    fn preference_is_q_then_exactness_then_order() {
        let (json, protobuf) = (Held(Representation::JSON), Held(Representation::PROTOBUF));
        let other = |s: &str| Accepted::Other(s.into());
        let cases: &[(Option<&str>, Vec<Accepted>)] = &[
            (None, vec![json.clone()]),
            (Some(""), vec![json.clone()]),
            (Some("*/*"), vec![json.clone()]),
            (Some("*"), vec![json.clone()]),
            (Some("application/*"), vec![json.clone()]),
            // kubelet
            (
                Some("application/vnd.kubernetes.protobuf,application/json"),
                vec![protobuf.clone(), json.clone()],
            ),
            // client-go without protobuf
            (Some("application/json, */*"), vec![json.clone(), json.clone()]),
            // kubectl get
            (
                Some(
                    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                ),
                vec![Table(TableVersion::V1), Table(TableVersion::V1beta1), json.clone()],
            ),
            // metadata informer
            (
                Some(
                    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                ),
                vec![Held(PROTOBUF_META), Held(JSON_META), json.clone()],
            ),
            (
                Some("application/json;q=0.5, application/vnd.kubernetes.protobuf"),
                vec![protobuf.clone(), json.clone()],
            ),
            (Some("*/*, application/vnd.kubernetes.protobuf"), vec![protobuf.clone(), json.clone()]),
            (Some("application/json;q=0"), vec![]),
            (Some("application/yaml"), vec![other("application/yaml")]),
            (
                Some("text/html;level=1, nonsense, a/b/c, application/json;stream=watch"),
                vec![other("text/html;level=1"), json.clone()],
            ),
            (
                Some("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io, application/json"),
                vec![other("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"), json.clone()],
            ),
            (
                Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1"),
                vec![Accepted::OldMetadata],
            ),
            (
                Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1"),
                vec![other(
                    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1",
                )],
            ),
            (
                Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v2"),
                vec![other("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v2")],
            ),
        ];
        for (accept, expected) in cases {
            assert_eq!(&negotiate(*accept, None), expected, "{accept:?}");
        }
    }

    #[test]
    fn metadata_comes_in_the_shape_of_its_answer() {
        let of = |kind: &str, version: &str, shape| {
            let accept = format!("application/json;as={kind};g=meta.k8s.io;v={version}");
            negotiate(Some(&accept), Some(shape)).remove(0)
        };
        let (one, list) = ("PartialObjectMetadata", "PartialObjectMetadataList");
        for (kind, shape) in [(one, Shape::One), (one, Shape::Stream), (list, Shape::List)] {
            assert_eq!(of(kind, "v1", shape), Held(JSON_META), "{kind} {shape:?}");
            assert_eq!(of(kind, "v1beta1", shape), Accepted::OldMetadata, "{kind} {shape:?}");
        }
        for (kind, shape) in [(list, Shape::One), (list, Shape::Stream), (one, Shape::List)] {
            for version in ["v1", "v1beta1"] {
                assert!(matches!(of(kind, version, shape), Accepted::Misfit(_)), "{kind} {shape:?}");
            }
        }
    }

    #[test]
    fn content_types_of_answers() {
        let of = Representation::of_content_type;
        assert_eq!(of("application/json"), Some(Representation::JSON));
        assert_eq!(of("application/json; charset=utf-8"), Some(Representation::JSON));
        assert_eq!(of("application/json;stream=watch"), Some(Representation::JSON));
        assert_eq!(of("application/vnd.kubernetes.protobuf;stream=watch"), Some(Representation::PROTOBUF));
        assert_eq!(of(JSON_META.accept(true)), Some(JSON_META));
        for none in ["text/html", "*/*", "application/*", "", "application/cbor", "application/json;as=Table"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn names_and_accept_values_lead_back() {
        for r in [Representation::JSON, Representation::PROTOBUF, JSON_META, PROTOBUF_META] {
            assert_eq!(Representation::parse(r.as_str()), Some(r));
            for list in [false, true] {
                let shape = if list { Shape::List } else { Shape::One };
                assert_eq!(negotiate(Some(r.accept(list)), Some(shape)), vec![Held(r)]);
            }
            assert_eq!(Representation::of_content_type(r.content_type(true)).unwrap().encoding, r.encoding);
        }
        assert_eq!(Representation::parse("yaml"), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read(accept: String) {
            let _ = negotiate(Some(&accept), Some(Shape::List));
            let _ = Representation::of_content_type(&accept);
        }
    }
}
