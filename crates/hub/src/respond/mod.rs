//! What leaves the hub: bodies, errors as `Status`, and the headers that say where an answer is from.

mod body;
mod convert;
pub mod reason;
mod status;

pub use body::{Body, BoxError, full, pieces, streaming};
pub use convert::{ConvertFailure, can_write, item_as, object_as, written_type};
pub use reason::Reason;
pub use status::{failure, is_refusal, not_acceptable, not_found, refusal, unfit, unfit_watch};

use http::{HeaderValue, Response, header};

/// The header that tells the source of an answer.
pub const SOURCE: &str = "x-yurthub-source";

/// Marks an answer as one of the store's: its age in seconds, why it was not the cloud's, and for a
/// read that asked for the newest state the warning that kubectl prints.
pub fn mark_cached(response: &mut Response<Body>, age: i64, reason: Reason, warn: bool) {
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(age.max(0)));
    if let Ok(source) = HeaderValue::from_str(&format!("cache; reason={}", reason.as_str())) {
        headers.insert(SOURCE, source);
    }
    if warn {
        let text = "299 yurthub \"the cloud cannot be reached: this is the state last seen by the node\"";
        headers.insert(header::WARNING, HeaderValue::from_static(text));
    }
}
