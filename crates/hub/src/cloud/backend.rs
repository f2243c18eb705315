//! One apiserver: its address, its connections, its health.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::health::{self, Health};
use super::lane::{Connecting, Lane, Place, Slot};
use super::line::Line;
use super::names::Names;
use super::pace::{CONNECT, PATIENCE};
use super::{Cloud, CloudError, Received};
use crate::clock;
use crate::connectivity::Signal;
use crate::credential::Protocol;

/// Where an apiserver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl ServerAddress {
    /// Reads `https://host[:port]`; the error says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url:?} must begin with https://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{url:?} must name a server only, without a path"));
        }
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(|| format!("{url:?} names no host"))?;
        let port = uri.port_u16().unwrap_or(443);
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority != host && authority != format!("{host}:{port}") {
            return Err(format!("{url:?} has something else than a host and a port"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if port == 0 || url.contains('#') || ServerName::try_from(host.as_str()).is_err() {
            return Err(format!("{url:?} names no server that a certificate could name"));
        }
        Ok(ServerAddress { host, port })
    }

    /// `host:port` as in a Host header.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A request that got no answer, and whether any of it may have left.
pub(super) enum SendError {
    NotSent(Box<Request<Full<Bytes>>>, CloudError),
    Sent(CloudError),
}

/// A server as an operator sees it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// `host:port`.
    pub server: String,
    /// Nothing speaks against it.
    pub well: bool,
    /// It is asked first, or takes its turn.
    pub in_use: bool,
    /// How often it failed in a row.
    pub failures: u32,
    /// HTTP/2 connections that stand.
    pub connections: u64,
    /// The round trip in milliseconds, as far as it is known.
    pub round_trip_ms: Option<u64>,
}

pub(super) struct Backend {
    address: ServerAddress,
    names: Arc<Names>,
    pub(super) line: Arc<Line>,
    /// Indexed by identity (node, other) and lane (reflect, requests).
    slots: [[Arc<Slot>; 2]; 2],
}

impl Backend {
    pub(super) fn new(address: ServerAddress, signal: Signal) -> Self {
        Backend {
            address,
            names: Arc::default(),
            line: Arc::new(Line::new(signal)),
            slots: Default::default(),
        }
    }

    pub(super) fn authority(&self) -> String {
        self.address.authority()
    }

    pub(super) fn health(&self) -> Health {
        self.line.health()
    }

    /// Takes note of what happened to it; true when it is well from now on and was not, or the reverse.
    pub(super) fn note(&self, event: health::Event) -> bool {
        self.line.note(event)
    }

    /// The only server is well as soon as it works: there is nobody who could stand in for it meanwhile.
    pub(super) fn status(&self, in_use: bool, alone: bool) -> ServerStatus {
        let health = match self.health() {
            Health::Ill { worked: Some(_), .. } if alone => Health::Well,
            health => health,
        };
        let round_trip = self.line.pace.round_trip();
        ServerStatus {
            server: self.authority(),
            well: health == Health::Well,
            in_use,
            failures: if let Health::Ill { failures, .. } = health { failures } else { 0 },
            connections: self.line.connections.load(Ordering::Relaxed),
            round_trip_ms: round_trip.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Whether a connection for these stands.
    pub(super) fn is_connected(&self, node: bool, lane: Lane) -> bool {
        self.slot(node, lane).is_open()
    }

    fn slot(&self, node: bool, lane: Lane) -> &Arc<Slot> {
        let [node_slots, other_slots] = &self.slots;
        let [reflect, requests] = if node { node_slots } else { other_slots };
        match lane {
            Lane::Reflect => reflect,
            Lane::Requests => requests,
        }
    }

    /// Sends on the connection that stands, or on a new one; a stale connection is replaced once.
    pub(super) async fn send(
        &self,
        cloud: &Cloud,
        node: bool,
        lane: Lane,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, SendError> {
        let mut request = self.addressed(request);
        for _ in 0..2 {
            let (mut sender, stream) = match self.connected(cloud, node, lane).await {
                Ok(place) => place,
                Err(error) => return Err(SendError::NotSent(Box::new(request), error)),
            };
            let sent = clock::monotonic();
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    self.line.pace.at_most(sent.elapsed());
                    return Ok(answer.map(|body| Received::on(body, stream)));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(back) => request = back,
                    None => return Err(SendError::Sent(CloudError::Lost(failed.into_error().to_string()))),
                },
            }
        }
        let error = CloudError::Unreachable(format!("{} closes its connections", self.address.authority()));
        Err(SendError::NotSent(Box::new(request), error))
    }

    /// The request with this server's scheme and authority.
    fn addressed(&self, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = self.address.authority().parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request
    }

    async fn connected(&self, cloud: &Cloud, node: bool, lane: Lane) -> Result<Place, CloudError> {
        let slot = self.slot(node, lane);
        // The second round finds the connection made, unless others were quicker to fill it.
        for _ in 0..3 {
            if let Some(place) = slot.get() {
                return Ok(place);
            }
            if slot.is_full() {
                return Err(CloudError::Busy);
            }
            let generation = slot.generation();
            let config =
                cloud.credentials.client_config(node, Protocol::Http2).map_err(CloudError::Credential)?;
            let (fill, dialled) = (Arc::clone(slot), self.dialled(config));
            let connecting = slot.connecting(move || async move {
                let stream = dialled.dial(dialled.line.pace.bound(PATIENCE)).await?;
                let filled = fill.fill(generation, stream, lane, &dialled.line).await;
                filled.map_err(|e| dialled.unreachable(e))
            });
            self.made(connecting).await?;
        }
        Err(CloudError::Busy)
    }

    /// Waits for a connection that is being made; whoever gives up does not stop it.
    async fn made(&self, mut connecting: Connecting) -> Result<(), CloudError> {
        let late = || CloudError::Connecting(self.authority());
        let bound = self.line.pace.bound(CONNECT);
        let ended = tokio::time::timeout(bound, connecting.wait_for(Option::is_some)).await;
        match ended.map_err(|_| late())?.map_err(|_| late())?.as_ref() {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// A TLS connection of its own, shown the node's certificate when `node`.
    pub(super) async fn connect(
        &self,
        cloud: &Cloud,
        node: bool,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>, CloudError> {
        let config = cloud.credentials.client_config(node, protocol).map_err(CloudError::Credential)?;
        self.dialled(config).dial(self.line.pace.bound(CONNECT)).await
    }

    fn dialled(&self, config: Arc<ClientConfig>) -> Dialled {
        let (names, line) = (Arc::clone(&self.names), Arc::clone(&self.line));
        Dialled { address: self.address.clone(), names, line, config }
    }

    pub(super) fn disconnect(&self) {
        self.slots.iter().flatten().for_each(|slot| slot.close());
    }

    pub(super) fn renew(&self) {
        self.slots.iter().flatten().for_each(|slot| slot.retire());
    }
}

/// What it takes to connect to a server.
struct Dialled {
    address: ServerAddress,
    names: Arc<Names>,
    line: Arc<Line>,
    config: Arc<ClientConfig>,
}

impl Dialled {
    async fn dial(&self, bound: Duration) -> Result<TlsStream<TcpStream>, CloudError> {
        match tokio::time::timeout(bound, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(self.unreachable(format!("no connection within {bound:?}"))),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, CloudError> {
        let host = &self.address.host;
        let name = ServerName::try_from(host.clone()).map_err(|e| self.unreachable(e))?;
        let addresses = self.names.addresses(host, self.address.port).await;
        let addresses = addresses.map_err(|e| self.unreachable(format!("no address: {e}")))?;
        let tcp = tcp(&addresses).await.map_err(|e| self.unreachable(e))?;
        let begun = clock::monotonic();
        let config = Arc::clone(&self.config);
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|e| self.unreachable(e))?;
        // TLS 1.3 takes one round trip (RFC 8446 section 2).
        self.line.pace.measured(begun.elapsed());
        Ok(tls)
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> CloudError {
        CloudError::Unreachable(format!("{}: {why}", self.address.authority()))
    }
}

async fn tcp(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(addresses).await?;
    tcp.set_nodelay(true)?;
    // What was given up with the connection must not arrive when the link is back, after newer writes.
    tcp.set_zero_linger()?;
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_of_servers() {
        let parse = |s| ServerAddress::parse(s).map(|a| a.authority());
        assert_eq!(parse("https://10.0.0.1:6443"), Ok("10.0.0.1:6443".to_owned()));
        assert_eq!(parse("https://api.example"), Ok("api.example:443".to_owned()));
        assert_eq!(parse("https://[::1]:6443/"), Ok("[::1]:6443".to_owned()));
        for bad in [
            "http://10.0.0.1",
            "10.0.0.1:6443",
            "https://",
            "https://a/b",
            "https://a/?x=1",
            "https://a:x",
            "https://a:",
            "https://a:70000",
            "https://u@a",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
