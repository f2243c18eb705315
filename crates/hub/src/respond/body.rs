//! Bodies of answers.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body that the hub sends.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body in one piece; its length is known.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body in pieces that are freed as they are sent; `held` is dropped when the last one is, or nobody takes them.
pub fn pieces(pieces: Vec<Bytes>, held: impl Send + 'static) -> Body {
    let keep = move |piece| {
        let _held = &held;
        Ok(piece)
    };
    streaming(futures_util::stream::iter(pieces).map(keep))
}

/// A body that is made while it is sent.
pub fn streaming(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(stream.map_ok(Frame::data)))
}
