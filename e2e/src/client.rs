//! A small HTTP/1.1 client over TLS for the apiserver and the hub: one connection a request, every wait
//! bounded, bytes shown as they came. Cases measure answers with it, so it hides nothing.

use crate::pki::Pki;
use crate::stream::Watch;
use anyhow::{Context, Result, anyhow, bail};
use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What built-in clients of Kubernetes send.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// The client certificate that a client presents: PEM of the chain and of the key.
#[derive(Debug, Clone)]
pub struct Identity {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// The client certificate of that name.
    pub fn certificate(pki: &Pki, name: &str) -> Result<Identity> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        Ok(Identity { chain: read(&pki.certificate(name))?, key: read(&pki.key(name))? })
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

/// A request, built step by step.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    path: String,
    accept: String,
    body: Option<(String, Vec<u8>)>,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with chunked framing removed.
    pub body: Vec<u8>,
    /// From before the connection to the end of the body.
    pub took: Duration,
}

pub(crate) type Connection = BufReader<Box<dyn Transport>>;

/// A connected byte stream, encrypted or not.
pub(crate) trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

impl Request {
    /// A request without a body that accepts JSON.
    pub fn new(method: &'static str, path: impl Into<String>) -> Request {
        Request { method, path: path.into(), accept: "application/json".into(), body: None }
    }

    /// Accepts protobuf first, as a kubelet does.
    #[must_use]
    pub fn protobuf(mut self) -> Request {
        self.accept = format!("{PROTOBUF},application/json");
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some((content_type.to_string(), body.into()));
        self
    }

    /// The method and path, for messages.
    pub fn shown(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// As it goes over the wire; `connection` is `close` or `keep-alive`.
    pub(crate) fn bytes(&self, host: SocketAddr, connection: &str, token: Option<&str>) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nAccept: {}\r\nUser-Agent: yurt-e2e\r\nConnection: {connection}\r\n",
            self.method, self.path, self.accept
        );
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        let body = match &self.body {
            Some((content_type, body)) => {
                head += &format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
                body.as_slice()
            }
            None => &[],
        };
        [head.as_bytes(), b"\r\n", body].concat()
    }
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The start of the body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(300)]).into_owned()
    }

    /// The body as JSON; an error unless the status is in the 200s.
    pub fn json(&self) -> Result<Value> {
        self.success()?;
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// An error unless the status is in the 200s.
    pub fn success(&self) -> Result<&Answer> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, self.text());
        }
        Ok(self)
    }
}

impl Client {
    /// A client of a TLS server whose certificate `authority` signed.
    pub fn new(host: &str, port: u16, authority: &Path, identity: &Identity) -> Result<Client> {
        let chain = CertificateDer::pem_slice_iter(&identity.chain).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(&identity.key);
        let config = trusting(authority)?.with_client_auth_cert(
            chain.map_err(|error| anyhow!("client certificate: {error:?}"))?,
            key.map_err(|error| anyhow!("client key: {error:?}"))?,
        )?;
        let address = SocketAddr::new(host.parse()?, port);
        Ok(Client { address, tls: Some(Arc::new(config)), token: None })
    }

    /// The same for a caller with a bearer token.
    pub fn with_token(host: &str, port: u16, authority: &Path, token: &str) -> Result<Client> {
        let config = trusting(authority)?.with_no_client_auth();
        let address = SocketAddr::new(host.parse()?, port);
        Ok(Client { address, tls: Some(Arc::new(config)), token: Some(token.to_string()) })
    }

    /// The bearer token that goes with every request, if any.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A client of a plain server on the loopback.
    pub fn plain(port: u16) -> Client {
        Client { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: None, token: None }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the server cannot be reached, does not speak HTTP or stops in the middle.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        let start = Instant::now();
        let mut connection = self.open(request, LIMIT)?;
        let (status, headers) = read_head(&mut connection)?;
        let body = read_body(&mut connection, &headers, status)?;
        Ok(Answer { status, headers, body, took: start.elapsed() })
    }

    /// A plain GET that accepts JSON.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(&Request::new("GET", path))
    }

    /// A JSON object by GET.
    pub fn object(&self, path: &str) -> Result<Value> {
        self.get(path)?.json().with_context(|| format!("GET {path}"))
    }

    /// Sends a JSON body and reads a JSON answer.
    pub fn json(&self, method: &'static str, path: &str, body: &Value) -> Result<Value> {
        let content_type = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let request = Request::new(method, path).body(content_type, serde_json::to_vec(body)?);
        self.send(&request)?.json().with_context(|| request.shown())
    }

    /// Opens a stream and closes it when its status and headers have come: the status and the time.
    pub fn head(&self, request: &Request) -> Result<(u16, Duration)> {
        let start = Instant::now();
        let mut connection = self.open(request, LIMIT)?;
        let (status, _) = read_head(&mut connection).with_context(|| request.shown())?;
        Ok((status, start.elapsed()))
    }

    /// Opens a watch and returns once the server has said 200.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let request = Request::new("GET", path);
        let mut connection = self.open(&request, Duration::from_secs(3600))?;
        let (status, headers) = read_head(&mut connection)?;
        if status != 200 {
            let body = read_body(&mut connection, &headers, status)?;
            bail!("GET {path}: status {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(Watch::new(connection))
    }

    fn open(&self, request: &Request, limit: Duration) -> Result<Connection> {
        let mut connection = self.connect(limit)?;
        connection.get_mut().write_all(&request.bytes(self.address, "close", self.token()))?;
        connection.get_mut().flush()?;
        Ok(connection)
    }

    /// Where its server is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection on which nothing was sent yet; a read on it waits up to `limit`.
    pub(crate) fn connect(&self, limit: Duration) -> Result<Connection> {
        let socket = TcpStream::connect_timeout(&self.address, LIMIT)
            .with_context(|| format!("connecting to {}", self.address))?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        let transport: Box<dyn Transport> = match &self.tls {
            Some(config) => {
                let name = ServerName::from(self.address.ip());
                Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, socket))
            }
            None => Box::new(socket),
        };
        Ok(BufReader::new(transport))
    }
}

fn trusting(authority: &Path) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)
        .with_context(|| format!("reading {}", authority.display()))?
    {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// The status and the headers of an answer.
pub(crate) fn read_head(connection: &mut Connection) -> Result<(u16, Vec<(String, String)>)> {
    let first = read_line(connection).context("reading the status line")?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("not HTTP: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
    }
}

/// The whole body of an answer with those headers.
pub(crate) fn read_body(
    connection: &mut Connection,
    headers: &[(String, String)],
    status: u16,
) -> Result<Vec<u8>> {
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        while let Some(chunk) = read_chunk(connection)? {
            body.extend(chunk);
        }
    } else if let Some(length) = header("content-length") {
        body.resize(length.parse()?, 0);
        connection.read_exact(&mut body)?;
    } else if status != 204 {
        connection.read_to_end(&mut body)?;
    }
    Ok(body)
}

/// The next chunk of a chunked body; none at its end.
pub(crate) fn read_chunk(connection: &mut Connection) -> Result<Option<Vec<u8>>> {
    let line = read_line(connection)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk size {line:?}"))?;
    let mut chunk = vec![0; size];
    connection.read_exact(&mut chunk)?;
    read_line(connection)?;
    Ok((size > 0).then_some(chunk))
}

fn read_line(connection: &mut Connection) -> Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        bail!("the server closed the connection");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}
