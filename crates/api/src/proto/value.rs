//! The values with a form of their own in JSON: times, bytes, text.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::DecodeError;
use crate::wire::{self, Value};

/// Appends `text` as a JSON string.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), DecodeError> {
    Ok(serde_json::to_writer(out, text)?)
}

/// Appends `bytes` as a base64 string.
pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// The bytes of a base64 string; line breaks in it are allowed, as Go allows them.
pub(super) fn bytes_of(text: &str) -> Result<Vec<u8>, DecodeError> {
    let clean;
    let text = if text.contains(['\r', '\n']) {
        clean = text.replace(['\r', '\n'], "");
        &clean
    } else {
        text
    };
    BASE64_STANDARD.decode(text).map_err(|error| DecodeError::NotJson(format!("base64: {error}")))
}

/// Appends a Timestamp message as RFC 3339 in UTC (`null` when the message is empty: Go's zero time), with
/// microseconds or without. Source: apimachinery, meta/v1/time_proto.go and micro_time_proto.go.
pub(super) fn put_time(out: &mut Vec<u8>, timestamp: &[u8], micro: bool) -> Result<(), DecodeError> {
    if timestamp.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let part = |number| wire::find(timestamp, number)?.map_or(Ok(0), Value::varint);
    let (seconds, nanos) = (part(1)? as i64, part(2)? as i32);
    let at = OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .filter(|at| (0..=9999).contains(&at.year()))
        .ok_or(DecodeError::NotProtobuf("a time is out of range"))?;
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    // Year 1 begins with Go's zero time.
    if seconds == ZERO_TIME && nanos == 0 {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let month = u8::from(month);
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if micro {
        let micros = (nanos / 1000).clamp(0, 999_999);
        let _ = write!(out, ".{micros:06}");
    }
    out.extend_from_slice(b"Z\"");
    Ok(())
}

/// The Timestamp message of an RFC 3339 text, as Go marshals it.
pub(super) fn timestamp(text: &str, micro: bool) -> Result<Vec<u8>, DecodeError> {
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| DecodeError::NotJson(format!("time {text:?}: {error}")))?;
    let nanos = if micro { at.nanosecond() / 1000 * 1000 } else { 0 };
    let mut message = Vec::with_capacity(16);
    if at.unix_timestamp() != ZERO_TIME || nanos != 0 {
        wire::put_number(&mut message, 1, at.unix_timestamp() as u64);
        wire::put_number(&mut message, 2, nanos.into());
    }
    Ok(message)
}

/// 0001-01-01T00:00:00Z in seconds since 1970.
const ZERO_TIME: i64 = -62_135_596_800;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(timestamp: &[u8], micro: bool) -> String {
        let mut out = Vec::new();
        put_time(&mut out, timestamp, micro).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_both_ways() {
        for (text, micro, expected) in [
            ("2026-02-03T04:05:06Z", false, "\"2026-02-03T04:05:06Z\""),
            ("1969-12-31T23:59:59Z", false, "\"1969-12-31T23:59:59Z\""),
            ("2026-02-03T04:05:06.789123456+01:00", true, "\"2026-02-03T03:05:06.789123Z\""),
            ("2026-02-03T04:05:06.789Z", false, "\"2026-02-03T04:05:06Z\""),
            ("0001-01-01T00:00:00Z", false, "null"),
        ] {
            assert_eq!(shown(&timestamp(text, micro).unwrap(), micro), expected);
        }
        assert_eq!(shown(&[], true), "null");
        assert!(timestamp("yesterday", false).is_err());
    }

    #[test]
    fn a_time_beyond_the_calendar_is_refused() {
        let mut message = Vec::new();
        wire::put_number(&mut message, 1, u64::MAX / 2);
        assert!(put_time(&mut Vec::new(), &message, false).is_err());
    }
}
