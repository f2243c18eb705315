//! What can be wrong with bytes that came from the network or the disk.

/// Why bytes could not be read. Always the fault of who sent them; reading them again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// Longer than the limit (in bytes) that the reader was given.
    #[error("longer than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON, or JSON of another shape.
    #[error("not the expected JSON: {0}")]
    NotJson(String),
    /// Not protobuf, or protobuf of another shape.
    #[error("not the expected protobuf: {0}")]
    NotProtobuf(&'static str),
    /// A part that every such value has is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl From<serde_json::Error> for DecodeError {
    fn from(e: serde_json::Error) -> Self {
        if e.is_eof() { DecodeError::Truncated } else { DecodeError::NotJson(e.to_string()) }
    }
}

/// A request that the API does not allow, with the text for the `400` answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// What is wrong, for the client.
    pub message: String,
}

impl BadRequest {
    /// A bad request with this text.
    pub fn new(message: impl Into<String>) -> Self {
        BadRequest { message: message.into() }
    }
}
