//! Words that the tables of this folder share.

use crate::autonomy::Autonomy;
use crate::link::Link;
use crate::nodes::verdict::Guarded;

/// When the node of every table was lost: 2023-11-14T22:13:20Z.
pub const SINCE: i64 = 1_700_000_000;
/// The longest that a guard protects, in seconds.
pub const LONGEST: i64 = 3_600;

pub fn link(word: &str) -> Link {
    match word {
        "connected" => Link::Connected,
        "returning" => Link::Returning(SINCE),
        "disconnected" => Link::Disconnected(SINCE),
        other => panic!("no link {other}"),
    }
}

/// Seconds; 0 is none, -1 for ever.
pub fn autonomy(seconds: i64) -> Autonomy {
    match seconds {
        0 => Autonomy::None,
        -1 => Autonomy::ForEver,
        seconds => Autonomy::For(seconds),
    }
}

/// Nothing, `cut`, or how many seconds after the loss the pool was back.
pub fn guard(word: Option<&str>) -> Guarded {
    match word {
        None => Guarded::No,
        Some("cut") => Guarded::Cut(LONGEST),
        Some(seconds) => Guarded::Healed(SINCE + seconds.parse::<i64>().unwrap(), LONGEST),
    }
}
