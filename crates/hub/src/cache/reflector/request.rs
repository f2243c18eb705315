//! The reflector's requests.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use yurt_api::collection::CollectionKey;

use crate::cloud::Identity;

/// The upstream request for a collection: its list, or its watch.
pub(super) fn request(
    key: &CollectionKey,
    list: bool,
    more: &str,
    identity: &Identity,
) -> Request<Full<Bytes>> {
    let mut path = match key.resource.group.as_str() {
        "" => format!("/api/{}", key.resource.version),
        group => format!("/apis/{group}/{}", key.resource.version),
    };
    if let Some(namespace) = &key.namespace {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}?", key.resource.resource));
    for (name, value) in [("labelSelector", &key.labels), ("fieldSelector", &key.fields)] {
        if !value.is_empty() {
            path.push_str(&format!("{name}={}&", percent(value)));
        }
    }
    path.push_str(more);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.trim_end_matches(['?', '&']).parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static(key.representation.accept(list)));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("yurthub/", env!("CARGO_PKG_VERSION"))));
    if let Identity::Bearer(value) = identity {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    request
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}
