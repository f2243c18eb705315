//! yurthub: the Kubernetes API of an edge node, with or without its cloud.
//!
//! A request passes through the modules in this order: [`listen`] -> [`identify`] -> [`route`] ->
//! [`cloud`] or [`cache`] -> [`respond`], written down as one readable function in [`serve`]. Beside
//! them stand [`connectivity`], [`replay`], [`credential`], and what every daemon has. [`hub`] puts
//! them together.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods))]

pub mod admin;
pub mod autonomy;
pub mod cache;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod connectivity;
pub mod credential;
pub mod hub;
pub mod identify;
pub mod listen;
pub mod metrics;
pub mod notify;
pub mod replay;
pub mod respond;
pub mod route;
pub mod serve;
pub mod tasks;
