//! What the node wrote while the cloud could not be asked.

use yurt_api::collection::ObjectKey;
use yurt_api::resource::Resource;

/// What an entry asks of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Patch the status.
    Status,
    /// Patch the object.
    Update,
    /// Create the object.
    Create,
    /// Delete the object with this UID.
    Delete,
    /// Post the event; kept in a ring of [`crate::Options::events_max`], newest kept.
    Event,
}

impl Operation {
    /// The name on disk, in logs and in the admin pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Status => "status",
            Operation::Update => "update",
            Operation::Create => "create",
            Operation::Delete => "delete",
            Operation::Event => "event",
        }
    }

    /// The operation of this name, `None` when it is not one of the five.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Status, Self::Update, Self::Create, Self::Delete, Self::Event]
            .into_iter()
            .find(|o| o.as_str() == name)
    }
}

/// A write to be kept until the cloud has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Entries of one slot replace each other.
    pub slot: String,
    /// What to do.
    pub operation: Operation,
    /// The resource of the object.
    pub resource: Resource,
    /// Namespace and name.
    pub key: ObjectKey,
    /// The UID the write is meant for; empty when it has none yet.
    pub uid: String,
    /// JSON, sealed on disk.
    pub body: Vec<u8>,
    /// When it was written, in Unix seconds.
    pub at: i64,
}

/// A kept write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the journal; strictly growing, never used twice.
    pub seq: u64,
    /// When the first write of this slot was kept, in Unix seconds.
    pub first_at: i64,
    /// How often delivery was tried.
    pub attempts: u32,
    /// Entries of one slot replace each other.
    pub slot: String,
    /// What to do.
    pub operation: Operation,
    /// The resource of the object.
    pub resource: Resource,
    /// Namespace and name.
    pub key: ObjectKey,
    /// The UID the write is meant for; empty when it has none yet.
    pub uid: String,
    /// JSON.
    pub body: Vec<u8>,
    /// When it was written, in Unix seconds.
    pub at: i64,
}

/// What [`crate::Writer::journal_put`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The numbers of the entries that were put, in their order.
    pub seqs: Vec<u64>,
    /// The events that the ring dropped for them, oldest first, without their bodies.
    pub dropped: Vec<Entry>,
}

/// A write that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What the node wrote.
    pub entry: Entry,
    /// Why it was not delivered.
    pub reason: String,
    /// What the cloud held or answered.
    pub cloud: Option<Vec<u8>>,
    /// When it was parked, in Unix seconds.
    pub at: i64,
}

/// A write that the cloud has, and that what is held of the cloud does not show yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What the node wrote.
    pub entry: Entry,
    /// The resourceVersion that the cloud gave it, 0 when it did not say.
    pub cloud_version: u64,
}
