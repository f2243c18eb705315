//! A small HTTPS client for tests: one connection at a time, everything of an answer visible.
//!
//! A [`Client`] keeps one HTTP/2 connection, or opens one HTTP/1.1 connection per request; it never retries,
//! so that what a test sees is what the server did.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tokio::sync::Mutex;

mod connect;
mod watch;

pub use connect::Upgraded;
pub use watch::{Event, WatchStream};

use crate::pki::{Identity, provider};

/// Accept header of a stock kubelet.
pub const KUBELET_ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";

/// Which HTTP the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one connection per request.
    Http1,
    /// HTTP/2, one connection for all.
    Http2,
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    base: Uri,
    tls: Option<Arc<ClientConfig>>,
    headers: HeaderMap,
    protocol: Protocol,
    timeout: Duration,
    shared: Arc<Mutex<Option<connect::Http2>>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text, "" when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The status as a number.
    pub fn code(&self) -> u16 {
        self.status.as_u16()
    }

    /// The answer, when it is a success; panics with the body otherwise.
    #[track_caller]
    pub fn expect(self, code: u16) -> Self {
        assert_eq!(self.code(), code, "answer: {}", self.text());
        self
    }
}

impl Client {
    /// A client of `base` ("https://127.0.0.1:1234" or "http://...") that trusts the CA in `ca_pem`.
    pub fn new(base: &str, ca_pem: &str, identity: Option<&Identity>, protocol: Protocol) -> Self {
        let base: Uri = base.parse().unwrap_or_else(|e| panic!("{base} is no URL: {e}"));
        let tls = (base.scheme_str() == Some("https")).then(|| tls_config(ca_pem, identity, protocol));
        Self {
            base,
            tls,
            headers: HeaderMap::new(),
            protocol,
            timeout: Duration::from_secs(30),
            shared: Arc::default(),
        }
    }

    /// The same with the CA from a file.
    pub fn with_ca_file(base: &str, ca_file: &Path, identity: Option<&Identity>, protocol: Protocol) -> Self {
        let ca = std::fs::read_to_string(ca_file)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", ca_file.display()));
        Self::new(base, &ca, identity, protocol)
    }

    /// A copy that sends a header with every request. It has a connection of its own.
    pub fn header(&self, name: &'static str, value: &str) -> Self {
        let mut copy = Self { shared: Arc::default(), ..self.clone() };
        copy.headers.insert(name, value.parse().expect("a header value"));
        copy
    }

    /// A copy that presents a bearer token.
    pub fn token(&self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A copy whose requests fail when no headers, or no more body, arrive within `timeout`.
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, "", Bytes::new()).await
    }

    /// GET with an `Accept`.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, accept).body(Full::default())?;
        self.collect(request).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, "application/json", body.to_string().into()).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, "application/json", body.to_string().into()).await
    }

    /// PATCH of a type: "strategic-merge-patch", "merge-patch", "json-patch", "apply-patch".
    pub async fn patch(&self, path: &str, patch_type: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, &format!("application/{patch_type}+json"), body.to_string().into())
            .await
    }

    /// DELETE, with `DeleteOptions` unless they are null.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Answer> {
        let body = if options.is_null() { Bytes::new() } else { options.to_string().into() };
        self.send(Method::DELETE, path, "application/json", body).await
    }

    /// Any request; an empty `content_type` is not sent.
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Answer> {
        let mut request = self.request(method, path);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        self.collect(request.body(Full::new(body))?).await
    }

    /// Starts a watch: `path` with its whole query. The first answer must be 200.
    pub async fn watch(&self, path: &str, accept: &str) -> Result<WatchStream> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, accept).body(Full::default())?;
        let response = self.stream(request).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            return Err(anyhow!("watch {path}: {status}: {}", String::from_utf8_lossy(&body)));
        }
        Ok(WatchStream::new(response))
    }

    /// A request whose answer is read by the caller; fails when no headers come in time.
    pub async fn stream(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let line = format!("{} {}", request.method(), request.uri());
        let sent = tokio::time::timeout(self.timeout, self.dispatch(request));
        sent.await.map_err(|_| anyhow!("no answer within {:?}", self.timeout)).and_then(|r| r).context(line)
    }

    /// An HTTP/1.1 upgrade to `protocol`; the answer must be 101.
    pub async fn upgrade(&self, method: Method, path: &str, protocol: &str) -> Result<Upgraded> {
        let client = Self { protocol: Protocol::Http1, ..self.clone() };
        let request = client
            .request(method, path)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, protocol)
            .body(Full::default())?;
        let response = client.stream(request).await?;
        anyhow::ensure!(
            response.status() == StatusCode::SWITCHING_PROTOCOLS,
            "upgrade: {}",
            response.status()
        );
        Ok(hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// A request builder with the client's headers.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let authority = self.base.authority().expect("a host in the base URL");
        let scheme = self.base.scheme_str().unwrap_or("http");
        let uri = match self.protocol {
            Protocol::Http1 => path.to_owned(),
            Protocol::Http2 => format!("{scheme}://{authority}{path}"),
        };
        let mut builder = Request::builder().method(method).uri(uri);
        if self.protocol == Protocol::Http1 {
            builder = builder.header(header::HOST, authority.as_str());
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder
    }

    /// Drops the HTTP/2 connection; the next request opens another.
    pub async fn disconnect(&self) {
        *self.shared.lock().await = None;
    }

    async fn collect(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let (head, body) = self.stream(request).await?.into_parts();
        let body = tokio::time::timeout(self.timeout, body.collect());
        let body =
            body.await.map_err(|_| anyhow!("the body did not end within {:?}", self.timeout))??.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn dispatch(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        match self.protocol {
            Protocol::Http1 => connect::http1(&self.base, self.tls.clone(), request).await,
            Protocol::Http2 => {
                let mut sender = self.http2().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    async fn http2(&self) -> Result<connect::Http2> {
        let mut shared = self.shared.lock().await;
        if let Some(open) = shared.as_ref().filter(|s| !s.is_closed()) {
            return Ok(open.clone());
        }
        let sender = connect::http2(&self.base, self.tls.clone()).await?;
        *shared = Some(sender.clone());
        Ok(sender)
    }
}

fn tls_config(ca_pem: &str, identity: Option<&Identity>, protocol: Protocol) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.expect("a PEM certificate")).expect("a CA certificate");
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.der();
            builder.with_client_auth_cert(chain, key).expect("the client certificate")
        }
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Arc::new(config)
}
