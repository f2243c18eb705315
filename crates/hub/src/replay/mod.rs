//! Coming home: what the node wrote is pushed, before anything of the cloud's is pulled.
//!
//! [`plan`] is pure: which entries in which order, and what is sent for each against what the cloud
//! has now. [`worker`] runs it. An entry ends delivered, or parked as a conflict with both sides kept.

pub mod plan;
mod worker;

pub use worker::{Replay, Report};
