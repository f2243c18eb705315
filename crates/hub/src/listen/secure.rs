//! The HTTPS listener: TLS with the hub's own certificate, HTTP/1.1 with upgrades and HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::credential::ca::Serving;
use crate::credential::{Credentials, client_verifier};
use crate::identify::Peer;
use crate::metrics::Metrics;
use crate::respond::Body;
use crate::tasks::{self, Shutdown};

/// Local connections at one time; a further one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// A client that has not finished its TLS handshake by then is dropped.
const HANDSHAKE_BOUND: Duration = Duration::from_secs(10);
/// How long streams may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
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

/// The listener with its bound socket.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// TLS.
    pub terminal: Arc<Terminal>,
    /// Where over-full is counted.
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until the shutdown, then lets the connections end.
    pub async fn run<S, F>(self, serve: S, mut shutdown: Shutdown)
    where
        S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.wait() => break,
                accepted = self.socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: others end, then this goes on.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.metrics.refused_connections.inc();
                continue;
            };
            let acceptor = TlsAcceptor::from(self.terminal.config.load_full());
            let (serve, shutdown) = (serve.clone(), shutdown.clone());
            tasks::spawn("local connection", tasks::Failure::Local, async move {
                connection(stream, acceptor, serve, shutdown).await;
                drop(place);
            });
        }
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(DRAIN, places.acquire_many(all)).await;
    }
}

async fn connection<S, F>(stream: TcpStream, acceptor: TlsAcceptor, serve: S, mut shutdown: Shutdown)
where
    S: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_BOUND, acceptor.accept(stream)).await else {
        tracing::debug!("a TLS handshake failed");
        return;
    };
    let peer = Arc::new(Peer::of(stream.get_ref().1.peer_certificates()));
    let service = service_fn(move |request| {
        let answer = serve(request, Arc::clone(&peer));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(16 << 10)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_send_buf_size(64 << 10)
        .max_concurrent_streams(4096);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        ended = served.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a local connection ended");
            }
        }
        () = shutdown.wait() => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, served).await;
        }
    }
}
