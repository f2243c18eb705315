//! What a request looks like when it leaves, and an answer when it comes back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, header};
use http_body_util::Full;

use super::Identity;

/// Headers that belong to one connection (RFC 9110 section 7.6.1) or that the hub sets itself.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
];

/// The request as it goes upstream in the name of `identity`, its body held in memory.
pub fn outgoing(request: &http::request::Parts, identity: &Identity, body: Bytes) -> Request<Full<Bytes>> {
    let mut out = Request::new(Full::new(body));
    *out.method_mut() = request.method.clone();
    *out.uri_mut() = path_only(&request.uri);
    *out.headers_mut() = request.headers.clone();
    let headers = out.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    // Bytes are kept as they come: a compressed answer could not be split or joined.
    headers.remove(header::ACCEPT_ENCODING);
    match identity {
        Identity::Bearer(value) => {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        Identity::Node | Identity::Anonymous => {
            headers.remove(header::AUTHORIZATION);
        }
    }
    out
}

/// Takes away what belongs to one connection only.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn path_only(uri: &http::Uri) -> http::Uri {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    path.parse().unwrap_or_else(|_| http::Uri::from_static("/"))
}
