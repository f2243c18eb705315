//! What an informer of any library tells of itself.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Informers by their names, such as `pods/protobuf`.
pub type Informers = BTreeMap<String, Informer>;

/// An informer as its program tells it; it tells more than is asked here.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Informer {
    /// Whether its store was complete once.
    pub synced: bool,
    /// Requests that failed, and error events.
    pub failed: Vec<String>,
}
