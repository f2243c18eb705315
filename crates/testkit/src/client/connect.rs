//! Connections: TCP, TLS, the HTTP handshake.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// A shared HTTP/2 connection.
pub type Http2 = http2::SendRequest<Full<Bytes>>;

/// The bytes after a 101.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Sends one request over a connection of its own.
pub async fn http1(
    base: &Uri,
    tls: Option<Arc<ClientConfig>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(base, tls).await?)).await?;
    tokio::spawn(async move {
        connection.with_upgrades().await.ok();
    });
    Ok(sender.send_request(request).await?)
}

/// Opens an HTTP/2 connection. The windows are large: a test client never holds a server up.
pub async fn http2(base: &Uri, tls: Option<Arc<ClientConfig>>) -> Result<Http2> {
    let stream = TokioIo::new(connect(base, tls).await?);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await?;
    tokio::spawn(async move {
        connection.await.ok();
    });
    Ok(sender)
}

async fn connect(base: &Uri, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>> {
    let host = base.host().ok_or_else(|| anyhow!("no host in {base}"))?;
    let port = base.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await.with_context(|| format!("connect to {host}:{port}"))?;
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned())?;
    Ok(Box::new(TlsConnector::from(tls).connect(name, tcp).await.context("TLS handshake")?))
}
