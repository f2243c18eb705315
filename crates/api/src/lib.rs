//! The vocabulary of the Kubernetes API on bytes: requests, selectors, objects, watch frames, patches. No I/O.

pub mod collection;
pub mod continuation;
pub mod discovery;
mod envelope;
pub mod error;
mod json;
pub mod list;
pub mod object;
pub mod patch;
pub mod proto;
mod query;
pub mod representation;
pub mod request;
pub mod resource;
pub mod selector;
pub mod status;
pub mod table;
pub mod watch;
mod wire;

/// How deep JSON or a message may be nested before it is refused.
pub const MAX_DEPTH: usize = 10_000;
