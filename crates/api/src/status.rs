//! `Status`: how the API says that something failed, or was done without an object to show.
//!
//! Fields and reasons are those of `k8s.io/apimachinery/pkg/apis/meta/v1`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::error::DecodeError;
use crate::json;
use crate::representation::Encoding;
use crate::resource::TypeMeta;
use crate::wire::{Reader, put_bytes, put_number};

/// An answer without an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// Why, for machines: `NotFound`, `Conflict`; empty on success.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Details>,
    /// Where a list can go on all the same whose token has expired; empty = nowhere.
    pub continue_token: String,
}

/// What a status is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The group of the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (in spite of the name), such as `pods`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The UID of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What is wrong in single.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// After how many seconds a retry may help; 0 = not said.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// For machines: `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Where in the object that was sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The JSON form, in the order of the apiserver's.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Json {
    kind: String,
    api_version: String,
    metadata: Meta,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    code: u16,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Meta {
    #[serde(skip_serializing_if = "String::is_empty")]
    r#continue: String,
}

impl Status {
    /// A failure. `reason` is one of `meta/v1`'s `StatusReason`.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Status { code, reason: reason.to_owned(), message: message.into(), ..Status::default() }
    }

    /// A success that has no object to show.
    pub fn success() -> Self {
        Status { code: 200, ..Status::default() }
    }

    /// The status with what it is about.
    pub fn with_details(self, details: Details) -> Self {
        Status { details: Some(details), ..self }
    }

    /// The status with a token by which the list can go on.
    pub fn with_continue(self, token: String) -> Self {
        Status { continue_token: token, ..self }
    }

    /// The status with the seconds after which a retry may help.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Whether it is a failure.
    pub fn is_failure(&self) -> bool {
        !(200..300).contains(&self.code)
    }

    /// The JSON body.
    pub fn to_json(&self) -> Bytes {
        let json = Json {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: Meta { r#continue: self.continue_token.clone() },
            status: self.outcome().into(),
            message: self.message.clone(),
            reason: self.reason.clone(),
            details: self.details.clone(),
            code: self.code,
        };
        // texts and numbers always have a JSON form
        let mut out = serde_json::to_vec(&json).unwrap_or_default();
        out.push(b'\n');
        out.into()
    }

    /// The body in object form.
    pub fn encode(&self, enc: Encoding) -> Bytes {
        match enc {
            Encoding::Json => self.to_json(),
            Encoding::Protobuf => envelope::seal(&TypeMeta::new("v1", "Status"), &self.message()).into(),
        }
    }

    /// Reads a body in object form; `None` when it is no `Status`.
    pub fn parse(enc: Encoding, body: &[u8]) -> Option<Status> {
        match enc {
            Encoding::Json => {
                let json: Json = json::read(body).ok().filter(|j: &Json| j.kind == "Status")?;
                let Json {
                    code,
                    reason,
                    message,
                    details,
                    metadata: Meta { r#continue: continue_token },
                    ..
                } = json;
                Some(Status { code, reason, message, details, continue_token })
            }
            Encoding::Protobuf => {
                let unknown = envelope::open(body).ok()?;
                if unknown.type_meta.kind != "Status" {
                    return None;
                }
                read(unknown.raw).ok()
            }
        }
    }

    fn outcome(&self) -> &'static str {
        if self.is_failure() { "Failure" } else { "Success" }
    }

    fn message(&self) -> Vec<u8> {
        let mut list_meta = Vec::new();
        (1..=2).for_each(|number| put_bytes(&mut list_meta, number, b""));
        put_bytes(&mut list_meta, 3, self.continue_token.as_bytes());
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &list_meta);
        put_bytes(&mut out, 2, self.outcome().as_bytes());
        put_bytes(&mut out, 3, self.message.as_bytes());
        put_bytes(&mut out, 4, self.reason.as_bytes());
        if let Some(details) = &self.details {
            put_bytes(&mut out, 5, &details.message());
        }
        put_number(&mut out, 6, self.code.into());
        out
    }
}

impl Details {
    fn message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, self.name.as_bytes());
        put_bytes(&mut out, 2, self.group.as_bytes());
        put_bytes(&mut out, 3, self.kind.as_bytes());
        for cause in &self.causes {
            let mut message = Vec::new();
            put_bytes(&mut message, 1, cause.reason.as_bytes());
            put_bytes(&mut message, 2, cause.message.as_bytes());
            put_bytes(&mut message, 3, cause.field.as_bytes());
            put_bytes(&mut out, 4, &message);
        }
        put_number(&mut out, 5, self.retry_after_seconds.into());
        put_bytes(&mut out, 6, self.uid.as_bytes());
        out
    }
}

fn read(message: &[u8]) -> Result<Status, DecodeError> {
    let mut status = Status::default();
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            1 => status.continue_token = read_continue(field.value.bytes()?)?,
            3 => status.message = field.value.text()?.to_owned(),
            4 => status.reason = field.value.text()?.to_owned(),
            5 => status.details = Some(read_details(field.value.bytes()?)?),
            6 => status.code = u16::try_from(field.value.varint()?).unwrap_or(0),
            _ => {}
        }
    }
    Ok(status)
}

fn read_continue(list_meta: &[u8]) -> Result<String, DecodeError> {
    let mut token = String::new();
    for field in Reader::new(list_meta) {
        let field = field?;
        if field.number == 3 {
            token = field.value.text()?.to_owned();
        }
    }
    Ok(token)
}

fn read_details(message: &[u8]) -> Result<Details, DecodeError> {
    let mut details = Details::default();
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            1 => details.name = field.value.text()?.to_owned(),
            2 => details.group = field.value.text()?.to_owned(),
            3 => details.kind = field.value.text()?.to_owned(),
            4 => details.causes.push(read_cause(field.value.bytes()?)?),
            5 => details.retry_after_seconds = u32::try_from(field.value.varint()?).unwrap_or(0),
            6 => details.uid = field.value.text()?.to_owned(),
            _ => {}
        }
    }
    Ok(details)
}

fn read_cause(message: &[u8]) -> Result<Cause, DecodeError> {
    let mut cause = Cause::default();
    for field in Reader::new(message) {
        let field = field?;
        match field.number {
            1 => cause.reason = field.value.text()?.to_owned(),
            2 => cause.message = field.value.text()?.to_owned(),
            3 => cause.field = field.value.text()?.to_owned(),
            _ => {}
        }
    }
    Ok(cause)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn full() -> Status {
        Status::failure(503, "ServiceUnavailable", "not held")
            .with_details(Details {
                name: "web-0".into(),
                group: "apps".into(),
                kind: "statefulsets".into(),
                uid: "0c3f".into(),
                causes: vec![Cause {
                    reason: "FieldValueInvalid".into(),
                    message: "too long".into(),
                    field: "spec".into(),
                }],
                retry_after_seconds: 0,
            })
            .with_retry_after(3)
    }

    #[test]
    fn json_as_the_apiserver_writes_it() {
        let status = Status::failure(404, "NotFound", "pods \"a\" not found").with_details(Details {
            name: "a".into(),
            kind: "pods".into(),
            ..Details::default()
        });
        let expected = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found","#,
            r#""reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#,
            "\n"
        );
        assert_eq!(status.to_json(), expected);
        let success = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":200}"#;
        assert_eq!(Status::success().to_json().trim_ascii(), success.as_bytes());
    }

    #[test]
    fn reads_what_it_wrote() {
        let expired = Status::failure(410, "Expired", "too old").with_continue("abc".into());
        for status in [full(), Status::success(), expired] {
            for enc in [Encoding::Json, Encoding::Protobuf] {
                assert_eq!(Status::parse(enc, &status.encode(enc)), Some(status.clone()));
            }
        }
    }

    #[test]
    fn other_bodies_are_no_status() {
        let html = b"<html>Welcome to the captive portal</html>";
        let pod = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"status":{"phase":"Running"}}"#;
        for body in [&html[..], pod, b"", b"null", b"[]"] {
            assert_eq!(Status::parse(Encoding::Json, body), None);
            assert_eq!(Status::parse(Encoding::Protobuf, body), None);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Status::parse(Encoding::Json, &bytes);
            let sealed = envelope::seal(&TypeMeta::new("v1", "Status"), &bytes);
            let _ = Status::parse(Encoding::Protobuf, &sealed);
        }
    }
}
