//! Bad input and trouble, told to the real binary from outside: wrong settings, damaged and full disks, hostile
//! clients, certificates that come and go, and the ways in which a process ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod admin;
mod certificates;
mod clock;
mod crowds;
mod damage;
mod disk;
mod requests;
mod settings;
mod slow_readers;
mod starting;
mod stopping;
mod tools;
