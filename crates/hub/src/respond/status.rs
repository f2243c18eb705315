//! The one place that turns a refusal into a `Status`, as the apiserver shapes it
//! (`k8s.io/apimachinery/pkg/api/errors`).

use http::{HeaderValue, Response, StatusCode, header};
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::Verb;
use yurt_api::resource::Resource;
use yurt_api::status::{Cause, Details, Status};
use yurt_api::watch::{self, EventType};

use super::{Body, Reason, SOURCE, full};
use crate::cache::version::{Problem, Unfit};

/// Seconds after which a client may try again what could not be answered now.
const RETRY_AFTER: u32 = 1;

/// How the source of a refusal begins.
const REFUSED: &str = "yurthub; reason=";

/// Whether the hub itself has refused a request.
pub fn is_refusal(response: &Response<Body>) -> bool {
    response.headers().get(SOURCE).is_some_and(|source| source.as_bytes().starts_with(REFUSED.as_bytes()))
}

/// A refusal for this reason, in words.
pub fn refusal(reason: Reason, message: impl Into<String>, encoding: Encoding) -> Response<Body> {
    let (code, name) = match reason {
        Reason::BadRequest => (400, "BadRequest"),
        Reason::UnknownCaller => (401, "Unauthorized"),
        Reason::NotGranted | Reason::ForeignCertificate => (403, "Forbidden"),
        Reason::TooOld => (410, "Expired"),
        Reason::Overload => (429, "TooManyRequests"),
        Reason::Slow => (504, "Timeout"),
        Reason::TooLarge => (413, "RequestEntityTooLarge"),
        Reason::SlowClient => (408, "Timeout"),
        Reason::Failed => (500, "InternalError"),
        _ => (503, "ServiceUnavailable"),
    };
    let mut response = failure(code, name, message, encoding);
    mark_refused(&mut response, reason);
    response
}

fn mark_refused(response: &mut Response<Body>, reason: Reason) {
    if let Ok(source) = HeaderValue::from_str(&format!("{REFUSED}{}", reason.as_str())) {
        response.headers_mut().insert(SOURCE, source);
    }
    response.extensions_mut().insert(reason);
}

/// A `Status` of failure; 429 and 503 say when to come back.
pub fn failure(code: u16, reason: &str, message: impl Into<String>, encoding: Encoding) -> Response<Body> {
    answer(&Status::failure(code, reason, message), encoding)
}

/// What the client takes is none of these forms in which something is held or can be written
/// (`k8s.io/apiserver/pkg/endpoints/handlers/negotiation/errors.go`). Metadata alone is named where there is nothing
/// else.
pub fn not_acceptable(forms: &[Representation], verb: Verb) -> Response<Body> {
    let whole = forms.iter().any(|form| !form.metadata_only);
    let named = forms.iter().filter(|form| !(whole && form.metadata_only));
    let names: Vec<&str> = named.map(|form| form.accept(verb == Verb::List)).collect();
    let message = format!("only the following media types are accepted: {}", names.join(", "));
    failure(406, "NotAcceptable", message, Encoding::Json)
}

/// The named object does not exist.
pub fn not_found(resource: &Resource, name: &str, encoding: Encoding) -> Response<Body> {
    let of_group = if resource.group.is_empty() { "" } else { "." };
    let message = format!("{}{of_group}{} {name:?} not found", resource.resource, resource.group);
    let details = Details {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..Details::default()
    };
    answer(&Status::failure(404, "NotFound", message).with_details(details), encoding)
}

/// What is held is not of the version that was asked for, or nothing can be.
pub fn unfit(why: Unfit, encoding: Encoding) -> Response<Body> {
    answer(&status_of(why), encoding)
}

/// The same for a watch, where the apiserver says in the stream what it finds out in its watch cache. There are
/// clients that ask for the same version for ever when it comes as the answer's own status.
pub fn unfit_watch(why: Unfit, encoding: Encoding) -> Response<Body> {
    if !matches!(why, Unfit::OldWatch { .. } | Unfit::TooLarge { .. }) {
        return unfit(why, encoding);
    }
    let status = status_of(why);
    let frame = watch::encode(encoding, EventType::Error, &status.encode(encoding));
    let mut response = Response::new(full(frame));
    let representation = Representation { encoding, metadata_only: false };
    let content_type = HeaderValue::from_static(representation.content_type(true));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    mark_refused(&mut response, Reason::TooOld);
    response
}

const OLD_LIST: &str = "The resourceVersion for the provided list is too old.";
const OLD_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
    new list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
    the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// As `k8s.io/apiserver/pkg/storage/errors.go` and `.../etcd3/errors.go` word it.
fn status_of(why: Unfit) -> Status {
    let expired = |message: &str| Status::failure(410, "Expired", message);
    match why {
        Unfit::TooLarge { asked, held } => {
            let cause = Cause {
                reason: "ResourceVersionTooLarge".to_owned(),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            };
            let message = format!("Timeout: Too large resource version: {asked}, current: {held}");
            let details =
                Details { causes: vec![cause], retry_after_seconds: RETRY_AFTER, ..Details::default() };
            Status::failure(504, "Timeout", message).with_details(details)
        }
        Unfit::OldList => expired(OLD_LIST),
        Unfit::OldPage(token) => expired(OLD_PAGE).with_continue(token),
        Unfit::OldWatch { asked, oldest } => {
            expired(&format!("too old resource version: {asked} ({oldest})"))
        }
        Unfit::NoNumber(why) => Status::failure(500, "", why),
        Unfit::Bad(why) => Status::failure(400, "BadRequest", why),
        Unfit::Invalid(problems) => invalid(problems),
    }
}

/// `NewInvalid` of `k8s.io/apimachinery/pkg/api/errors`.
fn invalid(problems: Vec<Problem>) -> Status {
    let all: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
    let all = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
    let cause = |p: Problem| Cause { reason: p.reason.into(), message: p.message, field: p.field.into() };
    let details = Details {
        group: "meta.k8s.io".to_owned(),
        kind: "ListOptions".to_owned(),
        causes: problems.into_iter().map(cause).collect(),
        ..Details::default()
    };
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {all}");
    Status::failure(422, "Invalid", message).with_details(details)
}

fn answer(status: &Status, encoding: Encoding) -> Response<Body> {
    let code = status.code;
    let mut response = Response::new(full(status.encode(encoding)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let representation = Representation { encoding, metadata_only: false };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(representation.content_type(false)));
    let later = status.details.as_ref().is_some_and(|d| d.retry_after_seconds > 0);
    if later || matches!(code, 429 | 503) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    }
    response
}
