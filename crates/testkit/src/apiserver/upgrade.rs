//! exec, attach, port-forward: HTTP/1.1 upgrades that echo what they are sent.

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};

use super::error::Refusal;

/// What a WebSocket server appends to the key (RFC 6455, 1.3).
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers 101 and sends every byte back. A request that asks for no upgrade is 400, as the real server says.
pub fn echo(headers: &HeaderMap, upgrade: Option<OnUpgrade>) -> Result<Response<Body>, Refusal> {
    let protocol = headers.get(header::UPGRADE).cloned();
    let (Some(protocol), Some(upgrade)) = (protocol, upgrade) else {
        return Err(Refusal::bad_request("Upgrade request required"));
    };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from, mut to) = split(TokioIo::new(upgraded));
        drop(copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
        drop(from.read(&mut [0]).await);
    });
    Ok(switching(protocol, headers))
}

fn switching(protocol: HeaderValue, asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
    if let Some(key) = asked.get(header::SEC_WEBSOCKET_KEY).and_then(|k| k.to_str().ok()) {
        let accept =
            STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{WEBSOCKET}").as_bytes()));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).unwrap());
    }
    for name in ["sec-websocket-protocol", "x-stream-protocol-version"] {
        let first = asked.get(name).and_then(|v| v.to_str().ok()).and_then(|v| v.split(',').next());
        if let Some(first) = first.and_then(|f| HeaderValue::from_str(f.trim()).ok()) {
            headers.insert(name, first);
        }
    }
    response
}
