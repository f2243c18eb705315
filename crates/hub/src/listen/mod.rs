//! The doors of the hub: HTTPS for local clients, HTTP on the loopback for the admin.

mod places;
mod secure;

pub use secure::{Listener, Terminal};

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

/// Binds a port; the error names it.
pub async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| anyhow::anyhow!("cannot listen on {address} ({what}): {e}"))
}

/// Binds one port at each of `addresses`; port 0 takes one that is free at the first, which all others get, too.
pub async fn bind_all(addresses: &[IpAddr], port: u16, what: &str) -> anyhow::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(addresses.len());
    let mut port = port;
    for address in addresses {
        let socket = bind(SocketAddr::new(*address, port), what).await?;
        port = socket.local_addr()?.port();
        sockets.push(socket);
    }
    Ok(sockets)
}

/// The port that such sockets have in common.
pub fn port(sockets: &[TcpListener]) -> anyhow::Result<u16> {
    let first = sockets.first().ok_or_else(|| anyhow::anyhow!("there is no address for local clients"))?;
    Ok(first.local_addr()?.port())
}
