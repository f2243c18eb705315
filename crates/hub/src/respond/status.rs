//! The one place that turns a refusal into a `Status`, as the apiserver shapes it
//! (`k8s.io/apimachinery/pkg/api/errors`).

use http::{HeaderValue, Response, StatusCode, header};
use yurt_api::representation::{Encoding, Representation};
use yurt_api::status::{Cause, Details, Status};

use super::{Body, Reason, SOURCE, full};
use crate::cache::version::Unfit;

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
    if let Ok(source) = HeaderValue::from_str(&format!("{REFUSED}{}", reason.as_str())) {
        response.headers_mut().insert(SOURCE, source);
    }
    response.extensions_mut().insert(reason);
    response
}

/// A `Status` of failure; 429 and 503 say when to come back.
pub fn failure(code: u16, reason: &str, message: impl Into<String>, encoding: Encoding) -> Response<Body> {
    answer(&Status::failure(code, reason, message), encoding)
}

/// What the client takes is neither what is held nor what that can be written as
/// (`k8s.io/apiserver/pkg/endpoints/handlers/negotiation/errors.go`).
pub fn not_acceptable() -> Response<Body> {
    let message =
        "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf";
    failure(406, "NotAcceptable", message, Encoding::Json)
}

/// What is held is not of the version that was asked for (`k8s.io/apiserver/pkg/storage/errors.go`).
pub fn unfit(why: Unfit, encoding: Encoding) -> Response<Body> {
    let status = match why {
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
        Unfit::Expired => Status::failure(
            410,
            "Expired",
            "the resource version or continue token is not held by this node: list again without it",
        ),
        Unfit::Invalid(why) => {
            Status::failure(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"))
        }
    };
    answer(&status, encoding)
}

fn answer(status: &Status, encoding: Encoding) -> Response<Body> {
    let code = status.code;
    let mut response = Response::new(full(status.encode(encoding)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let representation = Representation { encoding, metadata_only: false };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(representation.content_type(false)));
    if matches!(code, 429 | 503) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    }
    response
}
