//! One request from its first to its last byte: record, fault, authenticate, authorize, act, answer.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

use super::{
    act,
    audit::{Entry, Tracked},
    auth::{Principal, authenticate},
    error::Refusal,
    media::{Media, PLAIN_JSON, PROTOBUF},
    protobuf, respond,
    server::Server,
};

/// Largest body that is read, as the real server's limit.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// What is known of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Number of the connection, from 1.
    pub number: u64,
    /// Who the client certificate says it is.
    pub certificate: Option<Principal>,
}

/// A request as the handlers see it.
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Raw query.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub principal: Principal,
    /// What the client takes, best first.
    pub accepted: Vec<Media>,
    /// The body as JSON, `null` when there is none.
    pub body: Value,
    /// The connection behind an upgrade.
    pub upgrade: Mutex<Option<OnUpgrade>>,
}

/// Serves a request.
pub async fn serve(server: Arc<Server>, peer: Peer, request: Request<Body>) -> Response<Body> {
    let id = server.audit.begin(record(&peer, &request));
    let target = request.uri().path_and_query().map(|p| p.as_str().to_owned()).unwrap_or_default();
    let accepted = accept(request.headers());
    let head = request.method() == Method::HEAD;
    let fault = server.faults.take(request.method().as_str(), &target);
    let instead = match &fault {
        Some(fault) => fault.instead().await,
        None => None,
    };
    let result = match instead {
        Some(result) => result,
        None => handle(&server, &peer, id, request).await,
    };
    let accepted = accepted.unwrap_or_else(|_| vec![PLAIN_JSON]);
    let mut response = result.unwrap_or_else(|refusal| respond::refuse(&refusal, &accepted));
    if let Some(fault) = fault {
        response = fault.spoil(response);
    }
    if head {
        // Go's server leaves the body of any answer out
        *response.body_mut() = Body::empty();
    }
    finish(&server, id, response)
}

async fn handle(
    server: &Arc<Server>,
    peer: &Peer,
    id: u64,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let accepted = accept(request.headers())?;
    let principal = authenticate(peer.certificate.as_ref(), request.headers(), &server.tokens)?;
    server.audit.amend(id, |e| e.user.clone_from(&principal.name));
    let body = std::mem::take(request.body_mut()).collect().await;
    let body = body.map_err(|e| Refusal::bad_request(format!("cannot read the body: {e}")))?.to_bytes();
    server.audit.amend(id, |e| e.request_bytes = body.len() as u64);
    let body = decode(request.headers(), &body)?;
    let call = Call {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
        principal,
        accepted: accepted.clone(),
        body,
        upgrade: Mutex::new(request.extensions_mut().remove::<OnUpgrade>()),
    };
    act::act(server, id, call).await?.encode(&accepted)
}

fn accept(headers: &HeaderMap) -> Result<Vec<Media>, Refusal> {
    Media::negotiate(headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()))
}

fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    if body.len() > MAX_BODY {
        let text = format!("Request entity too large: limit is {MAX_BODY}");
        return Err(Refusal::new(413, "RequestEntityTooLarge", text));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if content_type.starts_with(PROTOBUF) {
        return protobuf::decode(body)
            .ok_or_else(|| Refusal::bad_request("the body is no known protobuf object"));
    }
    serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("json: {e}")))
}

fn record(peer: &Peer, request: &Request<Body>) -> Entry {
    let header =
        |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    Entry {
        id: 0,
        connection: peer.number,
        http2: request.version() == Version::HTTP_2,
        at: SystemTime::now(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        user: String::new(),
        user_agent: header(header::USER_AGENT).to_owned(),
        accept: header(header::ACCEPT).to_owned(),
        request_bytes: 0,
        status: 0,
        response_bytes: 0,
        watch: false,
        finished: false,
    }
}

fn finish(server: &Server, id: u64, mut response: Response<Body>) -> Response<Body> {
    server.audit.amend(id, |e| e.status = response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert("audit-id", HeaderValue::from_str(&super::uid()).unwrap());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response.map(|body| Body::new(Tracked::new(body, server.audit.clone(), id)))
}
