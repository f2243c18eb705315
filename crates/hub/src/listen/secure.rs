//! The HTTPS listener: TLS with the hub's own certificate, HTTP/1.1 with upgrades and HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::select_all;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::places::{Place, Places, Taking, busy_until_sent};
use crate::credential::ca::Serving;
use crate::credential::{Credentials, client_verifier};
use crate::identify::Peer;
use crate::metrics::Metrics;
use crate::respond::Body;
use crate::tasks::{self, Shutdown};

/// A client that has not finished its TLS handshake by then is dropped.
const HANDSHAKE_BOUND: Duration = Duration::from_secs(10);
/// How long streams may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// A client that has sent a part of a request's head (HTTP/1.1) and not the whole of it by then is dropped.
const HEADER_BOUND: Duration = Duration::from_secs(20);
/// The read buffer of HTTP/1.1 in bytes, and with it the largest head of a request: 431 beyond it.
const MAX_HEAD: usize = 64 << 10;
/// The largest head of a request in HTTP/2, in bytes: 431 beyond it.
const MAX_HEAD_LIST: u32 = 64 << 10;
/// Requests of one HTTP/2 connection at one time. A kubelet watches every ConfigMap and Secret of its pods.
const MAX_STREAMS: u32 = 4096;
/// An HTTP/2 peer that is silent for this long is pinged, and dropped when it does not answer within the second.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_BOUND: Duration = Duration::from_secs(20);
/// How long an idle connection that gives way may take to say so.
const FAREWELL: Duration = Duration::from_millis(200);
/// HTTP/2 windows: of a stream, of a connection. Clients send little.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);

/// TLS as the hub terminates it; replaced when the cluster's CA changes.
pub struct Terminal {
    serving: Serving,
    config: ArcSwap<ServerConfig>,
}

impl Terminal {
    /// With this serving certificate and the cluster's CA for clients.
    pub fn new(serving: Serving, credentials: &Credentials) -> anyhow::Result<Self> {
        let config = ArcSwap::from_pointee(server_config(&serving, credentials)?);
        Ok(Terminal { serving, config })
    }

    /// Takes over the cluster's CA as it is now.
    pub fn reload(&self, credentials: &Credentials) {
        match server_config(&self.serving, credentials) {
            Ok(config) => self.config.store(Arc::new(config)),
            Err(error) => tracing::warn!(%error, "the listener keeps its certificates"),
        }
    }
}

fn server_config(serving: &Serving, credentials: &Credentials) -> anyhow::Result<ServerConfig> {
    let builder = match credentials.roots() {
        Ok(roots) => {
            let verifier = client_verifier(roots).map_err(anyhow::Error::msg)?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        // Without the cluster's CA nobody can prove a certificate; tokens still pass.
        Err(_) => ServerConfig::builder().with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(serving.chain.clone(), serving.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The listener with its bound sockets.
pub struct Listener {
    /// The sockets, one at least.
    pub sockets: Vec<TcpListener>,
    /// TLS.
    pub terminal: Arc<Terminal>,
    /// Where over-full is counted.
    pub metrics: Arc<Metrics>,
    /// Who has places of its own.
    pub node_name: String,
}

impl Listener {
    /// Serves until the shutdown, then lets the connections end.
    pub async fn run<S, F>(self, serve: S, mut shutdown: Shutdown)
    where
        S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let places = Places::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.wait() => break,
                accepted = accept(&self.sockets) => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: others end, then this goes on.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let place = match places.take() {
                Taking::Free(place) => place,
                Taking::Instead(place) => {
                    self.metrics.evicted_connections.inc();
                    place
                }
                Taking::Full => {
                    self.metrics.refused_connections.inc();
                    continue;
                }
            };
            let connection = Connection {
                stream,
                place,
                metrics: Arc::clone(&self.metrics),
                node_name: self.node_name.clone(),
                shutdown: shutdown.clone(),
            };
            let acceptor = TlsAcceptor::from(self.terminal.config.load_full());
            tasks::spawn("local connection", tasks::Failure::Local, connection.run(acceptor, serve.clone()));
        }
        // From here on a client is refused at once instead of waiting for a process that ends.
        drop(self.sockets);
        let _ = tokio::time::timeout(DRAIN, places.empty()).await;
    }
}

/// The next connection, on whichever socket it comes.
async fn accept(sockets: &[TcpListener]) -> io::Result<TcpStream> {
    let waiting = sockets.iter().map(|socket| Box::pin(socket.accept()));
    let (accepted, _, _) = select_all(waiting).await;
    accepted.map(|(stream, _)| stream)
}

/// One local connection.
struct Connection {
    stream: TcpStream,
    place: Place,
    metrics: Arc<Metrics>,
    node_name: String,
    shutdown: Shutdown,
}

impl Connection {
    async fn run<S, F>(self, acceptor: TlsAcceptor, serve: S)
    where
        S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let Connection { stream, place, metrics, node_name, mut shutdown } = self;
        let _ = stream.set_nodelay(true);
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_BOUND, acceptor.accept(stream)) => shaken,
            () = place.wanted() => return,
            () = shutdown.wait() => return,
        };
        let Ok(Ok(stream)) = shaken else {
            metrics.failed_handshakes.inc();
            return;
        };
        let peer = Arc::new(Peer::of(stream.get_ref().1.peer_certificates()));
        if place.is_reserved() && !peer.is_node(&node_name) {
            metrics.refused_connections.inc();
            return;
        }
        let builder = http_of(stream.get_ref().1.alpn_protocol());
        let begin = place.counter();
        let service = service_fn(move |request| {
            let busy = begin();
            let answer = serve(request, Arc::clone(&peer));
            async move { Ok::<_, Infallible>(answer.await.map(|body| busy_until_sent(body, busy))) }
        });
        let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(served);
        let drain = tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a local connection ended");
                }
                return;
            }
            // It was idle: there is nothing to wait for but that the client hears of it.
            () = place.wanted() => FAREWELL,
            () = shutdown.wait() => DRAIN,
        };
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(drain, served).await;
    }
}

/// HTTP as the TLS handshake has agreed on it. It is not guessed from the first bytes: for those a client could
/// let us wait for ever.
fn http_of(alpn: Option<&[u8]>) -> auto::Builder<tasks::Spawner> {
    let mut builder = auto::Builder::new(tasks::Spawner);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_BOUND).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_BOUND)
        .max_header_list_size(MAX_HEAD_LIST)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_send_buf_size(64 << 10)
        .max_concurrent_streams(MAX_STREAMS);
    match alpn {
        Some(b"h2") => builder.http2_only(),
        _ => builder.http1_only(),
    }
}
