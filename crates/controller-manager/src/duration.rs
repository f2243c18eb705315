//! Durations as Go writes them ("72h", "1h30m", "1.5s", "-1s", "0"): the value of
//! `node.openyurt.io/autonomy-duration` and of the flags.
//! Source of the grammar: the documentation of Go's `time.ParseDuration`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoDuration {
    /// Nothing, or only a sign.
    #[error("it is empty")]
    Empty,
    /// A place where a number has to be.
    #[error("a number is missing at {0:?}")]
    Number(String),
    /// No unit, or an unknown one.
    #[error("{0:?} is no unit: ns, us, ms, s, m or h")]
    Unit(String),
    /// More than 292 years.
    #[error("it is too long")]
    TooLong,
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; in nanoseconds, negative ones included.
pub fn parse(text: &str) -> Result<i64, NoDuration> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest.is_empty() {
        return Err(NoDuration::Empty);
    }
    let nanos = if rest == "0" { 0 } else { sum(rest)? };
    let nanos = i64::try_from(nanos).map_err(|_| NoDuration::TooLong)?;
    Ok(if negative { -nanos } else { nanos })
}

/// A duration of a flag: longer than nothing.
pub fn positive(text: &str) -> Result<Duration, String> {
    match parse(text) {
        Ok(nanos @ 1..) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Ok(_) => Err("it must be longer than 0".to_owned()),
        Err(error) => Err(format!("{error}; a duration looks like 40s or 1h30m")),
    }
}

fn sum(mut rest: &str) -> Result<u128, NoDuration> {
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (nanos, left) = term(rest)?;
        total = total.saturating_add(nanos);
        rest = left;
    }
    Ok(total)
}

/// One number with its unit, and what follows.
fn term(text: &str) -> Result<(u128, &str), NoDuration> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(NoDuration::Number(text.to_owned()));
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, left) = rest.split_at(end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.ok_or_else(|| NoDuration::Unit(unit.to_owned()))?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| NoDuration::TooLong)? };
    Ok((whole.saturating_mul(scale).saturating_add(part(fraction, scale)), left))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The digits behind the point, in nanoseconds; those that make no nanosecond are left out.
fn part(fraction: &str, scale: u128) -> u128 {
    let short = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let digits: u128 = short.parse().unwrap_or(0);
    let of = 10_u128.pow(u32::try_from(short.len()).unwrap_or(18));
    digits.saturating_mul(scale) / of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let second = 1_000_000_000;
        let table = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("10m", Some(600 * second)),
            ("24h", Some(86_400 * second)),
            ("1h30m", Some(5_400 * second)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(second)),
            ("-1s", Some(-second)),
            ("+5s", Some(5 * second)),
            ("3us4ns", Some(3_004)),
            ("2µs", Some(2_000)),
            ("", None),
            ("-", None),
            ("10", None),
            ("10 m", None),
            ("10 mins", None),
            ("1d", None),
            ("h", None),
            (".s", None),
            ("1h-30m", None),
            ("9999999h", None),
            ("forever", None),
        ];
        for (text, nanos) in table {
            assert_eq!(parse(text).ok(), nanos, "{text:?}: {:?}", parse(text));
        }
        assert!(positive("0s").is_err());
        assert_eq!(positive("40s"), Ok(Duration::from_secs(40)));
    }
}
