//! The manager against the simulated apiserver, with a clock that the stories move.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod bed;
mod certificates;
mod election;
mod operator;
mod outage;
mod pools;
mod soak;
mod trouble;
