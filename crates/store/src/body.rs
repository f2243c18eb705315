//! How a body stands in its column: `kind (1) ‖ length (4, little endian) ‖ checksum (8) ‖ content ‖ zeroes`.
//!
//! The checksum covers the record's place too, so that flipped bits in a plain record are found; a sealed one
//! has GCM's tag instead. The zeroes round the column up to steps: a row that is updated with a body of nearly
//! the same length keeps its length, and SQLite then overwrites only the pages that differ instead of freeing
//! and taking pages.

use bytes::Bytes;

use crate::error::{Result, StoreError};
use crate::seal::{Place, Sealer};

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const HEAD: usize = 1 + 4 + 8;
/// A page of 1,024 bytes holds a small row; longer ones have chained pages of 1,020 bytes.
const SMALL_STEP: usize = 64;
const LARGE_STEP: usize = 255;
const LARGE: usize = 768;

/// The column for `content` at `place`.
pub(crate) fn encode(sealer: &Sealer, place: &Place, content: &[u8], secret: bool) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(HEAD + content.len() + LARGE_STEP + 64);
    out.resize(HEAD, 0);
    if secret {
        sealer.seal_into(place, content, &mut out)?;
    } else {
        out.extend_from_slice(content);
    }
    let length = u32::try_from(out.len() - HEAD)
        .map_err(|_| StoreError::TooMuch { what: "bytes of one object", limit: u64::from(u32::MAX) })?;
    let sum = if secret { 0 } else { checksum(place.as_bytes(), content) };
    let head = [SEALED * u8::from(secret) + PLAIN * u8::from(!secret)].into_iter();
    let head = head.chain(length.to_le_bytes()).chain(sum.to_le_bytes());
    for (to, from) in out.iter_mut().zip(head) {
        *to = from;
    }
    let step = if out.len() < LARGE { SMALL_STEP } else { LARGE_STEP };
    out.resize(out.len().next_multiple_of(step), 0);
    Ok(out)
}

/// The content of a column.
///
/// # Errors
/// [`StoreError::Damaged`] for a plain record and [`StoreError::Sealed`] for a sealed one that is not as written.
pub(crate) fn decode(sealer: &Sealer, place: &Place, column: &[u8], secret: bool) -> Result<Bytes> {
    let damaged = || StoreError::Damaged("a record is not as it was written".into());
    let (head, rest) = column.split_first_chunk::<HEAD>().ok_or_else(damaged)?;
    let [kind, l0, l1, l2, l3, sum @ ..] = *head;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| damaged())?;
    let content = rest.get(..length).ok_or_else(damaged)?;
    match kind {
        SEALED => Ok(Bytes::from(sealer.open(place, content)?)),
        PLAIN if !secret && checksum(place.as_bytes(), content) == u64::from_le_bytes(sum) => {
            Ok(Bytes::copy_from_slice(content))
        }
        _ => Err(damaged()),
    }
}

/// Finds damage, not forgery. Every step is a bijection of the state, so a change of one word always changes the
/// result.
pub(crate) fn checksum(place: &[u8], content: &[u8]) -> u64 {
    let state = mix(0x9E37_79B9_7F4A_7C15, place);
    mix(state ^ place.len() as u64, content)
}

fn mix(mut state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    step(step(state, u64::from_le_bytes(last)), bytes.len() as u64)
}

fn step(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)
}
