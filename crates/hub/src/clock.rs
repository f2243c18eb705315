//! The one place that reads the clocks.
//!
//! Pure parts take time as an argument; everybody else asks here, so that a clock in 1970 is one
//! module's problem (P7).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time before this (2020-01-01 UTC, Unix seconds) means that the clock was never set.
const PLAUSIBLE_FROM: i64 = 1_577_836_800;

/// The monotonic clock.
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Unix time in seconds as the machine claims it; 0 for a clock before 1970.
#[allow(clippy::disallowed_methods)]
pub fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Unix time in seconds, or `None` when the machine's clock was evidently never set.
pub fn trusted_unix() -> Option<i64> {
    Some(unix()).filter(|now| *now >= PLAUSIBLE_FROM)
}

/// Seconds since `date` (Unix seconds), 0 when it is still to come; `None` when the date or the machine's clock is of a
/// time before anybody set the clock.
pub fn seconds_since(date: i64) -> Option<u64> {
    let now = trusted_unix().filter(|_| date >= PLAUSIBLE_FROM)?;
    Some(now.saturating_sub(date).max(0).cast_unsigned())
}

/// A Unix time in seconds as RFC 3339 in UTC, as `metav1.Time` writes it.
pub fn rfc3339(unix: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|t| t.format(format).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Reads an RFC 3339 time as Unix seconds.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .ok()
        .map(|t| t.unix_timestamp())
}
