//! How long ago something was, in the words of `k8s.io/apimachinery/pkg/util/duration` (`HumanDuration`).

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What stands where no time is known.
const UNKNOWN: &str = "<unknown>";
const DAY: i64 = 24;
const YEAR: i64 = 365;

/// The Unix seconds of an RFC 3339 time; `None` for what is none.
pub(super) fn seconds(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// The age at `now` (Unix seconds) of what happened at `since`, which is RFC 3339.
pub(super) fn age(since: Option<&str>, now: i64) -> String {
    ago(since.and_then(seconds), now)
}

/// The age at `now` of what happened at `since`, both in Unix seconds.
pub(super) fn ago(since: Option<i64>, now: i64) -> String {
    since.map_or_else(|| UNKNOWN.to_owned(), |since| human(now.saturating_sub(since)))
}

/// Seconds in two units at most, and in one where the second would not matter.
pub(super) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / DAY, hours / DAY / YEAR);
    match (seconds, minutes, hours) {
        // Clocks may differ a little.
        (..-1, ..) => "<invalid>".to_owned(),
        (..0, ..) => "0s".to_owned(),
        (..120, ..) => format!("{seconds}s"),
        (_, ..10, _) => two(minutes, "m", seconds % 60, "s"),
        (_, ..180, _) => format!("{minutes}m"),
        (.., ..8) => two(hours, "h", minutes % 60, "m"),
        (.., ..48) => format!("{hours}h"),
        (.., ..192) => two(days, "d", hours % DAY, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % YEAR, "d"),
        _ => format!("{years}y"),
    }
}

fn two(large: i64, unit: &str, small: i64, smaller: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{smaller}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_get_coarser() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (659, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 60, "3h1m"),
            (8 * HOUR, "8h"),
            (8 * HOUR + 60, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (700 * DAY, "700d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (8 * 365 * DAY + DAY, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text, "{seconds}");
        }
        assert_eq!(age(None, 5), "<unknown>");
        assert_eq!(age(Some("nonsense"), 5), "<unknown>");
        assert_eq!(age(Some("1970-01-01T00:00:01.500000Z"), 61), "60s");
    }
}
