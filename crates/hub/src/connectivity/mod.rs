//! Knows whether the cloud can be reached, from real traffic first and an own probe second.
//!
//! Owns the state that everybody else only reads; never touches requests. [`machine`] is the pure
//! step function, [`worker`] feeds it with events, runs its probes and publishes its state.

pub mod machine;
mod worker;

pub use machine::{Event, Failure, State};
pub use worker::{Connectivity, Link, Signal, Snapshot};
