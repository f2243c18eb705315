//! The store as its callers see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod basics;
mod damage;
mod earlier;
mod history;
mod kill;
mod model;
mod powercut;
mod samples;
mod story;
mod threads;
mod trouble;
