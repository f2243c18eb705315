//! What is remembered about who may do what.

/// The last token of one slot (ServiceAccount, audiences, bound object).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultedToken {
    /// The hash of what the token is for, made by the caller.
    pub slot: [u8; 32],
    /// When the token ends, in Unix seconds. The store keeps it longer (P7).
    pub expires_at: i64,
    /// The answer that held the token, sealed on disk.
    pub body: Vec<u8>,
    /// When it was received, in Unix seconds.
    pub observed_at: i64,
}

/// Who a bearer token was, as the cloud said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPrincipal {
    /// The hash of the token; the token itself is not kept.
    pub token_hash: [u8; 32],
    /// The user name.
    pub user: String,
    /// The user's UID.
    pub uid: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// When the token ends, in Unix seconds; `None` when it does not say.
    pub expires_at: Option<i64>,
    /// When the cloud said so, in Unix seconds.
    pub observed_at: i64,
}

/// The cloud's answer to whether a user may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The user name.
    pub user: String,
    /// The verb of the API.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The plural name of the resource.
    pub resource: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// The namespace; empty = all.
    pub namespace: String,
    /// The object's name; empty = all.
    pub name: String,
    /// The canonical selectors the question was asked with; empty = none.
    pub selector: String,
    /// The answer.
    pub allowed: bool,
    /// When the cloud said so, in Unix seconds.
    pub at: i64,
}
