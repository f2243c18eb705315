//! Coming home: what the node wrote is pushed, before anything of the cloud's is pulled.
//!
//! [`plan`] is pure: which entries in which order, and what is sent for each against what the cloud
//! has now. `worker` runs over the journal in passes (`pass`), `deliver` sends one entry, `repair` puts right what the cloud's
//! controllers did to pods that the node did not write, of which `changed` has the cloud's state. An entry ends delivered, or parked as a conflict with
//! both sides kept.

mod ask;
mod changed;
mod deliver;
mod pass;
pub mod plan;
mod repair;
mod worker;

pub use worker::{Replay, Report};
