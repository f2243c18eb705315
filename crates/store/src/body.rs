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

/// What fits into a leaf of a table, and what a chained page takes, with pages of 1,024 bytes (SQLite's file format,
/// "cell payload overflow pages").
const LEAF: usize = 1024 - 35;
const CHAINED: usize = 1024 - 4;

/// The column for `content` at `place`. The zeroes never make the row need one more page than it needs without them:
/// `beside` is what its other columns take at most, in bytes.
pub(crate) fn encode(
    sealer: &Sealer,
    place: &Place,
    content: &[u8],
    secret: bool,
    beside: usize,
) -> Result<Vec<u8>> {
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
    out.resize(padded(out.len(), beside), 0);
    Ok(out)
}

/// What a number takes in a row, in bytes (SQLite's file format, "serial types").
pub(crate) fn number_size(number: i64) -> usize {
    let bits = 64 - (number ^ (number >> 63)).leading_zeros() as usize + 1;
    match bits.div_ceil(8) {
        _ if matches!(number, 0 | 1) => 0,
        5 => 6,
        7 => 8,
        bytes => bytes,
    }
}

fn padded(length: usize, beside: usize) -> usize {
    let step = if length < LARGE { SMALL_STEP } else { LARGE_STEP };
    let chained = (length + beside).saturating_sub(LEAF).div_ceil(CHAINED);
    let same_pages = (LEAF + chained * CHAINED).saturating_sub(beside);
    length.next_multiple_of(step).min(same_pages).max(length)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of a row of so many bytes, as SQLite counts them.
    fn pages(row: usize) -> usize {
        let least = (1024 - 12) * 32 / 255 - 23;
        let local = least + row.saturating_sub(least) % CHAINED;
        match row {
            row if row <= LEAF => 1,
            row if local <= LEAF => 1 + (row - local) / CHAINED,
            row => 1 + (row - least).div_ceil(CHAINED),
        }
    }

    #[test]
    fn numbers_take_what_sqlite_says() {
        let sizes =
            [(0, 0), (1, 0), (2, 1), (127, 1), (128, 2), (-128, 1), (-129, 2), (1 << 31, 6), (1 << 47, 8)];
        for (number, size) in
            sizes.into_iter().chain([(i64::MIN, 8), (i64::MAX, 8), (1 << 23, 4), (1 << 22, 3)])
        {
            assert_eq!(number_size(number), size, "{number}");
        }
    }

    #[test]
    fn zeroes_cost_no_page_and_keep_lengths_in_steps() {
        for beside in [0, 60, 100, 400] {
            let mut lengths = std::collections::BTreeSet::new();
            for length in 14..9000 {
                let padded = padded(length, beside);
                assert!((length..length + LARGE_STEP).contains(&padded));
                assert_eq!(pages(padded + beside), pages(length + beside), "{length} beside {beside}");
                lengths.insert(padded);
            }
            assert!(lengths.len() < 70, "{}", lengths.len());
        }
    }
}
