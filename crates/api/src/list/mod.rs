//! A list answer, taken apart into its items and put together again.

mod json;
mod protobuf;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::representation::Encoding;
use crate::resource::TypeMeta;

pub(crate) use json::put_page;

/// What a list says beside its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListHeader {
    /// The type of the list itself, such as `PodList`.
    pub type_meta: TypeMeta,
    /// The version that the list is of; 0 = missing, or not a number.
    pub resource_version: u64,
    /// Where the next page starts; empty = this was the last.
    pub continue_token: String,
    /// About how many objects follow on later pages.
    pub remaining: Option<i64>,
    /// Whether the items carry `kind` and `apiVersion` (JSON of custom resources and of metadata only).
    pub typed_items: bool,
    /// The type of the items: what they carry, otherwise the list's kind without `List`.
    pub item_type: Option<TypeMeta>,
}

/// A list, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What it says beside its items.
    pub header: ListHeader,
    /// The items in item form. Where nothing had to be taken out they are slices of the body and keep it alive.
    pub items: Vec<Bytes>,
}

/// Takes a whole list answer apart. Fails when it is cut short, is no list, or holds items of several types.
pub fn split(enc: Encoding, body: &Bytes) -> Result<List, DecodeError> {
    match enc {
        Encoding::Json => json::split(body),
        Encoding::Protobuf => protobuf::split(body),
    }
}

/// A list answer in pieces of about 64 KiB, to be sent one after the other.
pub fn assemble(enc: Encoding, header: &ListHeader, items: &[Bytes]) -> Vec<Bytes> {
    match enc {
        Encoding::Json => json::assemble(header, items),
        Encoding::Protobuf => protobuf::assemble(header, items),
    }
}

/// How many bytes a piece has before the next begins.
const PIECE: usize = 64 * 1024;

/// Bytes to be sent, cut into pieces as they come.
#[derive(Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    /// Where to append; what is appended at once stays in one piece.
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= PIECE {
            self.close();
        }
        if self.open.capacity() == 0 {
            self.open.reserve(PIECE + PIECE / 8);
        }
        &mut self.open
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        // the last piece is the only one that may be small: give back what it did not use
        self.open.shrink_to_fit();
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests;
