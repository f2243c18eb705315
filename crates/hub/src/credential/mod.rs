//! Certificates, the token vault and remembered reviews.
//!
//! Owns what proves an identity: the node's certificate towards the cloud, the hub's own CA towards
//! local clients, the verification of theirs, and the last real tokens of this node's pods. Expiry
//! never takes the last usable credential away (P7).

pub mod ca;
mod files;
mod reload;
pub mod reviews;
pub mod vault;
mod verify;

pub use files::{CredentialFiles, Credentials, Protocol};
pub use reload::watch_files;
pub use verify::{client_verifier, server_verifier};
