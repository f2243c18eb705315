//! Sockets: accept, TLS, HTTP/1.1 and HTTP/2 by ALPN, and the switches of whole connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::body::Body;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    auth::Principal,
    gate::Gated,
    serve::{Peer, serve},
    server::Server,
};

/// What the accept loop is told; the sender in it is answered when it is done.
pub enum Command {
    /// Close the listener.
    Refuse(std::sync::mpsc::Sender<()>),
    /// Open it again on the same port.
    Accept(std::sync::mpsc::Sender<()>),
    /// Reset every connection.
    Reset(std::sync::mpsc::Sender<()>),
}

/// Counts of connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// Accepted since the start.
    pub accepted: AtomicU64,
    /// Open now, TLS handshake done.
    pub open: AtomicU64,
}

/// Accepts until the commands end.
pub async fn accept(
    server: Arc<Server>,
    tls: Arc<ServerConfig>,
    listener: TcpListener,
    counts: Arc<Connections>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let address = listener.local_addr().expect("the address of the listener");
    let (reset, _) = watch::channel(0_u64);
    let mut listener = Some(listener);
    loop {
        tokio::select! {
            accepted = next(listener.as_ref()) => {
                let number = counts.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let (server, tls, counts) = (server.clone(), tls.clone(), counts.clone());
                tokio::spawn(connection(server, tls, accepted, number, counts, reset.subscribe()));
            }
            command = commands.recv() => match command {
                None => return,
                Some(Command::Refuse(done)) => {
                    listener = None;
                    done.send(()).ok();
                }
                Some(Command::Accept(done)) => {
                    if listener.is_none() {
                        listener = Some(bind(address).await);
                    }
                    done.send(()).ok();
                }
                Some(Command::Reset(done)) => {
                    reset.send_modify(|n| *n += 1);
                    tokio::task::yield_now().await;
                    done.send(()).ok();
                }
            },
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).await.unwrap_or_else(|e| panic!("cannot listen on {address} again: {e}"))
}

async fn next(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            return stream;
        }
    }
}

async fn connection(
    server: Arc<Server>,
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    number: u64,
    counts: Arc<Connections>,
    mut reset: watch::Receiver<u64>,
) {
    stream.set_nodelay(true).ok();
    let stream = Arc::new(stream);
    let gated = Gated { stream: stream.clone(), gate: server.gate.clone() };
    tokio::select! {
        () = talk(server, tls, gated, number, counts) => {}
        _ = reset.changed() => {
            stream.set_zero_linger().ok();
        }
    }
}

async fn talk(
    server: Arc<Server>,
    tls: Arc<ServerConfig>,
    gated: Gated,
    number: u64,
    counts: Arc<Connections>,
) {
    let Ok(stream) = TlsAcceptor::from(tls).accept(gated).await else { return };
    let _open = Open::new(counts);
    let peer = Peer { number, certificate: certificate(&stream) };
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(serve(server, peer, request.map(Body::new)).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(100);
    if let Err(e) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(connection = number, "ended: {e}");
    }
}

fn certificate(stream: &TlsStream<Gated>) -> Option<Principal> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Principal::of_certificate(chain.first()?)
}

struct Open(Arc<Connections>);

impl Open {
    fn new(counts: Arc<Connections>) -> Self {
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
