//! What was read from the cloud: collections, single objects, documents.

use bytes::Bytes;
use yurt_api::collection::{CollectionKey, ObjectKey};
use yurt_api::list::ListHeader;
use yurt_api::representation::Representation;
use yurt_api::resource::{Resource, TypeMeta};

/// The store's own name of a collection. Never given to another collection again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionId(pub i64);

/// How a collection relates to the cloud now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollectionState {
    /// A reflector is fetching it; not served yet.
    Filling,
    /// A reflector keeps it.
    Live,
    /// Its reflector is cut off; it stays as it is.
    Frozen,
    /// A complete list that nobody watches.
    Snapshot,
}

impl CollectionState {
    /// The name on disk, in logs and in the admin pages.
    pub fn as_str(self) -> &'static str {
        match self {
            CollectionState::Filling => "filling",
            CollectionState::Live => "live",
            CollectionState::Frozen => "frozen",
            CollectionState::Snapshot => "snapshot",
        }
    }

    /// The state of this name, `None` when it is not one of the four.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Filling, Self::Live, Self::Frozen, Self::Snapshot].into_iter().find(|s| s.as_str() == name)
    }
}

/// A collection without its rows.
#[derive(Clone, Debug)]
pub struct CollectionRecord {
    /// The store's name of it.
    pub id: CollectionId,
    /// What it is a collection of.
    pub key: CollectionKey,
    /// The list's type; `resource_version` is the collection's version now.
    pub header: ListHeader,
    /// How it relates to the cloud.
    pub state: CollectionState,
    /// When the cloud last confirmed it (list, event or bookmark), in Unix seconds.
    pub observed_at: i64,
    /// When a client last asked for it, in Unix seconds. Kept in memory and written with other changes.
    pub used_at: i64,
    /// How many rows it has.
    pub objects: u64,
    /// The bodies of its rows together, in bytes.
    pub bytes: u64,
    /// Opened by the node: its reflector may resume with no client, and it is never collected as garbage.
    pub node_owned: bool,
}

/// One object of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The object's version.
    pub resource_version: u64,
    /// The object's UID.
    pub uid: String,
    /// The object in item form.
    pub body: Bytes,
}

/// One step of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is now this.
    Upsert(Row),
    /// The object is gone.
    Delete {
        /// Namespace and name.
        key: ObjectKey,
        /// The version of the deletion.
        resource_version: u64,
    },
}

/// What [`crate::Writer::apply`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Per change the row that stood there before it; `None` when there was none.
    pub previous: Vec<Option<Row>>,
}

/// What [`crate::Writer::replace`] changed: the collection, the difference to what was held in key order
/// (upserts of new and changed rows, then deletions), and per change the row that stood there before.
pub type Replaced = (CollectionId, Vec<Change>, Vec<Option<Row>>);

/// The answer to a GET of one object outside any collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The resource of the path.
    pub resource: Resource,
    /// Namespace and name.
    pub key: ObjectKey,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// How the body is encoded.
    pub representation: Representation,
    /// What the object says it is.
    pub type_meta: TypeMeta,
    /// The object's version.
    pub resource_version: u64,
    /// The object's UID.
    pub uid: String,
    /// The object in item form.
    pub body: Bytes,
    /// When it was fetched, in Unix seconds.
    pub observed_at: i64,
}

/// The answer to a GET that is not of an object: discovery, OpenAPI, `/version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The path with its query.
    pub path: String,
    /// The `Accept` header of the request.
    pub accept: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The `Content-Type` of the answer.
    pub content_type: String,
    /// The `ETag` of the answer.
    pub etag: Option<String>,
    /// The body as received.
    pub body: Bytes,
    /// When it was fetched, in Unix seconds.
    pub observed_at: i64,
}
