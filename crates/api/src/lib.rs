//! The vocabulary of the Kubernetes API on bytes: requests, selectors, objects, watch frames, patches. No I/O.

pub mod error;
pub mod patch;
pub mod proto;
pub mod resource;
mod wire;

/// How deep JSON or a message may be nested before it is refused.
pub const MAX_DEPTH: usize = 10_000;
