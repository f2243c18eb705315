//! What the hub promises, held against the real binary: each test is a node with its own cloud and link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod absence;
mod autonomy;
mod bad_input;
mod bed;
mod bounds;
mod brownout;
mod combinations;
mod conditions;
mod documents;
mod edges;
mod endpoints;
mod history;
mod home;
mod identity;
mod kubelet;
mod link;
mod metadata;
mod pages;
mod passed;
mod pushed;
mod reads;
mod refused;
mod repair;
mod schedules;
mod servers;
mod table_watches;
mod tables;
mod through;
mod watches;
mod writes;
