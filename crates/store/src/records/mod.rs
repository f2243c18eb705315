//! What goes in and out of the store, as plain data.

mod collection;
mod journal;
mod vault;

pub use collection::{
    Applied, Change, CollectionId, CollectionRecord, CollectionState, Document, Fetched, Replaced, Row,
};
pub use journal::{Conflict, Delivered, Entry, Kept, NewEntry, Operation};
pub use vault::{Grant, KnownPrincipal, VaultedToken};
