//! The doors of the hub: HTTPS for local clients, HTTP on the loopback for the admin.

mod places;
mod secure;

pub use secure::{Listener, Terminal};

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Binds a port; the error names it.
pub async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| anyhow::anyhow!("cannot listen on {address} ({what}): {e}"))
}
