//! Refusals, worded and shaped as the real server's.
//! Source: k8s.io/apimachinery/pkg/api/errors/errors.go.

use serde_json::{Value, json};

use super::registry::Kind;

/// An answer that is a `Status` of failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    /// `details` of the Status; `null` for none.
    pub details: Box<Value>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// `metadata.continue` of the Status of a page that expired; "" for none.
    pub continue_token: Box<str>,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Box::new(Value::Null),
            retry_after: None,
            continue_token: Box::default(),
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        *self.details = json!({});
        if !name.is_empty() {
            self.details["name"] = name.into();
        }
        if !kind.group.is_empty() {
            self.details["group"] = kind.group.clone().into();
        }
        self.details["kind"] = kind.plural.clone().into();
        self
    }

    /// 404 of one object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", kind.group_resource())).about(kind, name)
    }

    /// 404 of a path that nobody serves.
    pub fn no_such_path() -> Self {
        let mut refusal = Self::new(404, "NotFound", "the server could not find the requested resource");
        *refusal.details = json!({});
        refusal
    }

    /// 409 of a create.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", kind.group_resource()))
            .about(kind, name)
    }

    /// 409 of a write that came from an old state.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.group_resource());
        Self::new(409, "Conflict", text).about(kind, name)
    }

    /// 422 of an object whose uid was changed.
    pub fn uid_is_immutable(kind: &Kind, name: &str, uid: &str) -> Self {
        Self::invalid(kind, name, "metadata.uid", &format!("Invalid value: {uid:?}: field is immutable"))
    }

    /// 409 of an update or patch whose resourceVersion is not the current one.
    pub fn stale(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 422 with one cause.
    pub fn invalid(kind: &Kind, name: &str, field: &str, problem: &str) -> Self {
        let text = format!("{} {name:?} is invalid: {field}: {problem}", qualified(kind));
        let mut refusal = Self::new(422, "Invalid", text).about(kind, name);
        refusal.details["kind"] = kind.kind.clone().into();
        refusal.details["causes"] =
            json!([{"reason": "FieldValueInvalid", "message": problem, "field": field}]);
        refusal
    }

    /// 422 of a query: each problem is a parameter, a reason and a text.
    pub fn invalid_options(problems: &[(&str, &str, String)]) -> Self {
        let all: Vec<String> = problems.iter().map(|(field, _, text)| format!("{field}: {text}")).collect();
        let all = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        let causes = problems
            .iter()
            .map(|(field, reason, text)| json!({"reason": reason, "message": text, "field": field}));
        let text = format!("ListOptions.meta.k8s.io \"\" is invalid: {all}");
        let mut refusal = Self::new(422, "Invalid", text);
        *refusal.details = json!({
            "group": "meta.k8s.io", "kind": "ListOptions", "causes": causes.collect::<Vec<Value>>(),
        });
        refusal
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 in the words of the authorizer.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let object = if name.is_empty() {
            kind.group_resource()
        } else {
            format!("{} {name:?}", kind.group_resource())
        };
        Self::new(403, "Forbidden", format!("{object} is forbidden: {why}")).about(kind, name)
    }

    /// 403 of a path outside the resources.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let mut refusal =
            Self::new(403, "Forbidden", format!("forbidden: User {user:?} cannot {verb} path {path:?}"));
        *refusal.details = json!({});
        refusal
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let mut refusal = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        *refusal.details = json!({});
        refusal
    }

    /// 406.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let text = format!("only the following media types are accepted: {}", offered.join(", "));
        Self::new(406, "NotAcceptable", text)
    }

    /// 415.
    pub fn unsupported_media_type(offered: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            offered.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", text)
    }

    /// 410 of a watch or a page.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 of a watch that starts before the history.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 504 of a version that the server has not reached.
    pub fn too_large(asked: u64, current: u64) -> Self {
        let text = format!("Too large resource version: {asked}, current: {current}");
        let mut refusal = Self::new(504, "Timeout", format!("Timeout: {text}"));
        *refusal.details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        refusal.retry_after = Some(1);
        refusal
    }

    /// 429 of an overloaded server or a disruption budget.
    pub fn too_many_requests(message: &str, retry_after: u32) -> Self {
        let mut refusal = Self::new(429, "TooManyRequests", message);
        *refusal.details = json!({"retryAfterSeconds": retry_after});
        refusal.retry_after = Some(retry_after);
        refusal
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.as_ref().clone();
        }
        if !self.continue_token.is_empty() {
            status["metadata"]["continue"] = self.continue_token.as_ref().into();
        }
        status["code"] = self.code.into();
        status
    }
}

fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() { kind.kind.clone() } else { format!("{}.{}", kind.kind, kind.group) }
}
