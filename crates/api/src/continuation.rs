//! Continue tokens: where the next page of a list begins, and of which version it is.
//!
//! The form is the apiserver's own (`k8s.io/apiserver/pkg/storage/continue.go`), so that either side understands the
//! tokens of the other: unpadded URL base64 of `{"v":"meta.k8s.io/v1","rv":7,"start":"name\u0000"}`, where the start
//! is a key below the namespace that is listed, and the version -1 goes on in whatever state is newest.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::collection::ObjectKey;
use crate::error::BadRequest;

const VERSION: &str = "meta.k8s.io/v1";
/// The version of a token that goes on in the newest state.
const NEWEST: i64 = -1;

/// A token, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The version of the list; `None` = whatever is newest.
    pub version: Option<u64>,
    /// The first key that the page may have, `namespace/name` as lists are ordered; need not exist.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl Continuation {
    /// The page after `last`, in a list of this version.
    pub fn after(version: Option<u64>, last: &ObjectKey) -> Self {
        Continuation { version, start: format!("{last}\0") }
    }

    /// Reads the token of a list of this namespace (`None` = all, or a resource that has none). An error is what the
    /// apiserver answers with 400.
    pub fn parse(token: &str, namespace: Option<&str>) -> Result<Self, BadRequest> {
        let invalid =
            |why: String| BadRequest::new(format!("invalid continue token: continue key is not valid{why}"));
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|e| invalid(format!(": {e}")))?;
        let token: Token = serde_json::from_slice(&json).map_err(|e| invalid(format!(": {e}")))?;
        if token.v != VERSION {
            return Err(invalid(format!(": server does not recognize this encoded version {}", token.v)));
        }
        if token.rv == 0 {
            return Err(invalid(format!(": incorrect encoded start resourceVersion (version {VERSION})")));
        }
        if token.start.is_empty() {
            return Err(invalid(format!(": encoded start key empty (version {VERSION})")));
        }
        let key = token.start.strip_prefix('/').unwrap_or(&token.start);
        // What a path would be cleaned of could lead out of the namespace.
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(format!(": {}", token.start)));
        }
        let start = namespace.map_or_else(|| key.to_owned(), |namespace| format!("{namespace}/{key}"));
        Ok(Continuation { version: u64::try_from(token.rv).ok(), start })
    }

    /// The token, for a list of this namespace.
    pub fn encode(&self, namespace: Option<&str>) -> String {
        let below = |namespace| self.start.strip_prefix(namespace)?.strip_prefix('/');
        let token = Token {
            v: VERSION.to_owned(),
            rv: self.version.map_or(NEWEST, u64::cast_signed),
            start: namespace.and_then(below).unwrap_or(&self.start).to_owned(),
        };
        // texts and numbers always have a JSON form
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// The same place in whatever state is newest.
    pub fn in_the_newest(self) -> Self {
        Continuation { version: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn encoded(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    /// As `k8s.io/apiserver/pkg/storage/continue_test.go` has it, and what a real apiserver gave out.
    #[test]
    fn tokens_are_the_apiservers() {
        let real = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MzQ1LCJzdGFydCI6ImI0XHUwMDAwIn0";
        let read = Continuation::parse(real, Some("default")).unwrap();
        assert_eq!(read, Continuation { version: Some(345), start: "default/b4\0".into() });
        assert_eq!(read.encode(Some("default")), real);
        let all = Continuation::after(Some(7), &ObjectKey::new("a", "b"));
        assert_eq!(Continuation::parse(&all.encode(None), None).unwrap(), all);
        let newest = all.in_the_newest();
        assert!(
            String::from_utf8(URL_SAFE_NO_PAD.decode(newest.encode(None)).unwrap())
                .unwrap()
                .contains("\"rv\":-1")
        );
        assert_eq!(Continuation::parse(&newest.encode(None), None).unwrap(), newest);
    }

    #[test]
    fn what_is_no_token_is_refused_in_the_apiservers_words() {
        let cases = [
            (
                encoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
                "incorrect encoded start resourceVersion",
            ),
            (encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#), "encoded start key empty"),
            (encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#), "continue key is not valid: ../a"),
            (encoded(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//b"}"#), "continue key is not valid: a//b"),
            (encoded(r#"{"v":"v0","rv":1,"start":"a"}"#), "does not recognize this encoded version v0"),
            (encoded("[]"), "continue key is not valid"),
            ("=".into(), "continue key is not valid"),
        ];
        for (token, expected) in cases {
            let refused = Continuation::parse(&token, None).unwrap_err().message;
            assert!(
                refused.starts_with("invalid continue token: ") && refused.contains(expected),
                "{refused}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, json: String) {
            let _ = Continuation::parse(&text, Some("a"));
            let _ = Continuation::parse(&encoded(&json), None);
        }

        #[test]
        fn every_place_survives(version: Option<u32>, namespace in "[a-z]{1,3}", name in "[a-z.-]{1,5}") {
            prop_assume!(name != "." && name != "..");
            let version = version.map(|v| u64::from(v) + 1);
            let place = Continuation::after(version, &ObjectKey::new(&namespace, &name));
            for of in [None, Some(namespace.as_str())] {
                prop_assert_eq!(&Continuation::parse(&place.encode(of), of).unwrap(), &place);
            }
        }
    }
}
