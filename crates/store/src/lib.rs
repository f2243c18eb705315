//! Everything of the hub that survives power loss.
//!
//! Owns one folder with one SQLite file: the collections read from the cloud, single fetched objects, discovery
//! documents, the journal of the node's own writes, and what is remembered about identities. Blocking, for
//! threads of its own; no network, no async, no clock but for the name of a file set aside.
//!
//! Two promises of durability. What was read from the cloud is committed without fsync: a crash of the process
//! loses nothing, power loss takes the newest commits whole, and they can be fetched again. The journal and the
//! token vault are on disk before the call returns. Never half of a call.
//!
//! The format is described in `docs/on-disk-format.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod anchor;
mod body;
mod damage;
mod error;
mod journal;
mod names;
mod open;
mod reader;
mod records;
mod recover;
mod remembered;
mod rows;
mod salvage;
mod schema;
mod seal;
mod shared;
mod writer;

pub use error::{Fault, Result, StoreError};
pub use open::{OpenReport, Opened, Options, open};
pub use reader::{History, JournalFigures, Past, Reader, RememberedFigures};
pub use records::{
    Applied, Change, CollectionId, CollectionRecord, CollectionState, Conflict, Delivered, Document, Entry,
    Fetched, Grant, Kept, KnownPrincipal, NewEntry, Operation, Replaced, Row, VaultedToken,
};
pub use seal::SealKey;
pub use writer::{GcReport, TokenUse, Writer};
