//! One apiserver: its address, its connections, its health.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::lane::{Connecting, Lane, Place, Slot};
use super::{Cloud, CloudError, Received};
use crate::credential::Protocol;

/// How long a request waits for a connection, TLS included, before the next server is tried.
pub(super) const CONNECT_BOUND: Duration = Duration::from_millis(1500);

/// How long a connection may take that is made in the background: over a satellite, TCP and TLS take seconds.
const PATIENCE: Duration = Duration::from_secs(5);

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

pub(super) struct Backend {
    address: ServerAddress,
    /// Indexed by identity (node, other) and lane (reflect, requests).
    slots: [[Arc<Slot>; 2]; 2],
}

impl Backend {
    pub(super) fn new(address: ServerAddress) -> Self {
        Backend { address, slots: Default::default() }
    }

    pub(super) fn authority(&self) -> String {
        self.address.authority()
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
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    cloud.prefer(self);
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
            let (fill, address) = (Arc::clone(slot), self.address.clone());
            let (signal, count) = (cloud.signal.clone(), cloud.connections.clone());
            let connecting = slot.connecting(move || async move {
                let stream = dial(&address, config, PATIENCE).await?;
                let filled = fill.fill(generation, stream, lane, signal, count).await;
                filled.map_err(|e| CloudError::Unreachable(format!("{}: {e}", address.authority())))
            });
            self.made(connecting).await?;
        }
        Err(CloudError::Busy)
    }

    /// Waits for a connection that is being made; whoever gives up does not stop it.
    async fn made(&self, mut connecting: Connecting) -> Result<(), CloudError> {
        let late = || CloudError::Connecting(self.authority());
        let ended = tokio::time::timeout(CONNECT_BOUND, connecting.wait_for(Option::is_some)).await;
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
        dial(&self.address, config, CONNECT_BOUND).await
    }

    pub(super) fn disconnect(&self) {
        self.slots.iter().flatten().for_each(|slot| slot.close());
    }

    pub(super) fn renew(&self) {
        self.slots.iter().flatten().for_each(|slot| slot.retire());
    }
}

async fn dial(
    address: &ServerAddress,
    config: Arc<ClientConfig>,
    bound: Duration,
) -> Result<TlsStream<TcpStream>, CloudError> {
    let unreachable = |e: String| CloudError::Unreachable(format!("{}: {e}", address.authority()));
    let name = ServerName::try_from(address.host.clone()).map_err(|e| unreachable(e.to_string()))?;
    let connecting = async {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        // What was given up with the connection must not arrive when the link is back, after newer writes.
        tcp.set_zero_linger()?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    match tokio::time::timeout(bound, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no connection within {bound:?}"))),
    }
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
