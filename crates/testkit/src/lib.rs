//! What Yurt's tests, benches and playground stand on.
//!
//! * [`apiserver`]: a simulated kube-apiserver with real TLS, an audit trail and fault switches.
//! * [`relay`]: a TCP relay that holds, resets, refuses and delays.
//! * [`kubelet`]: a client that asks what a stock kubelet asks, in its order.
//! * [`client`]: a small HTTP client whose answers a test can look at in full.
//! * [`combinations`]: how a truth about parameters of lists and watches is told.
//! * [`cluster`]: real binaries in folders of their own, killed and restarted at will.
//!
//! Nothing here is part of what runs on a node. Errors of the set-up are panics with a clear text: a test
//! that cannot be set up has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod apiserver;
pub mod client;
pub mod cluster;
pub mod combinations;
pub mod kubeconfig;
pub mod kubelet;
pub mod objects;
pub mod pki;
pub mod relay;
