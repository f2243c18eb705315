//! What holds for a node and its pods now: its link, its autonomy, and until when its pods are protected. Pure.

use crate::autonomy::Autonomy;
use crate::link::Link;
use crate::names::NEVER;
use crate::{clock, nodes::tolerate::Wanted};

/// Protection of a node without autonomy goes on for so long after its pool came back, in seconds: what a stock
/// cluster gives (`DefaultTolerationSeconds`).
const STOCK_TOLERATION: i64 = 300;

/// When protection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// At that Unix time.
    At(i64),
    /// Not by itself.
    Never,
}

/// What the guard of its pool says about a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarded {
    /// It has no guard, or the node did not fall with others.
    #[default]
    No,
    /// Its pool is cut; nodes are protected for so many seconds at the most.
    Cut(i64),
    /// Its pool was cut and came back at that Unix time, this node did not; with the same maximum.
    Healed(i64, i64),
}

/// The whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its link.
    pub link: Link,
    /// Its autonomy.
    pub autonomy: Autonomy,
    /// Until when its pods are protected, while it is not connected.
    pub until: Option<Until>,
    /// Since when it is disconnected is worth writing down.
    pub recorded: bool,
    /// Its pods were protected long enough: it counts as dead.
    pub over: bool,
}

impl Verdict {
    /// The verdict at `unix` seconds; `pooled`: its pool has a guard.
    pub fn new(link: Link, autonomy: Autonomy, guarded: Guarded, pooled: bool, unix: i64) -> Self {
        let until = link.since().and_then(|since| until(since, autonomy, guarded));
        let ended = until.is_some_and(|until| until <= Until::At(unix));
        let over = ended && matches!(link, Link::Disconnected(_));
        Self { link, autonomy, until, recorded: autonomy != Autonomy::None || pooled, over }
    }

    /// The node is silent and its pods are protected.
    pub fn protects(&self) -> bool {
        matches!(self.link, Link::Disconnected(_)) && self.until.is_some() && !self.over
    }

    /// What the tolerations of its pods are to be; `None` to leave them.
    pub fn wanted(&self) -> Option<Wanted> {
        let own = match self.autonomy {
            Autonomy::None => None,
            Autonomy::For(seconds) => Some(Wanted::Seconds(Some(seconds))),
            Autonomy::ForEver => Some(Wanted::Seconds(None)),
        };
        match (self.link, self.autonomy) {
            (Link::Connected, _) => Some(own.unwrap_or(Wanted::Original)),
            (Link::Returning(_), _) => own,
            (Link::Disconnected(_), _) if self.over => None,
            (Link::Disconnected(since), Autonomy::For(seconds))
                if self.until == Some(Until::At(since + seconds)) =>
            {
                Some(Wanted::Kept(seconds))
            }
            (Link::Disconnected(_), _) if self.until.is_some() => Some(Wanted::Seconds(None)),
            (Link::Disconnected(_), _) => Some(Wanted::Original),
        }
    }
}

fn until(since: i64, autonomy: Autonomy, guarded: Guarded) -> Option<Until> {
    let own = match autonomy {
        Autonomy::None => None,
        Autonomy::For(seconds) => Some(Until::At(since.saturating_add(seconds))),
        Autonomy::ForEver => Some(Until::Never),
    };
    let guard = match guarded {
        Guarded::No => None,
        Guarded::Cut(longest) => Some(Until::At(since.saturating_add(longest))),
        // Nobody knew before the pool was back whether this node is cut or dead: its time begins there.
        Guarded::Healed(at, longest) => {
            let seconds = if let Autonomy::For(seconds) = autonomy { seconds } else { STOCK_TOLERATION };
            Some(Until::At(at.saturating_add(seconds).min(since.saturating_add(longest))))
        }
    };
    own.max(guard)
}

impl Until {
    /// As the mark of a pod.
    pub fn text(self) -> String {
        match self {
            Self::At(unix) => clock::rfc3339(unix),
            Self::Never => NEVER.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Autonomy::{For, ForEver};

    const SINCE: i64 = 1_000;

    #[test]
    fn protection_ends_when_the_table_says() {
        use Guarded::{Cut, Healed, No};
        let at = |seconds: i64| Some(Until::At(SINCE + seconds));
        let table = [
            (Autonomy::None, No, None),
            (For(600), No, at(600)),
            (ForEver, No, Some(Until::Never)),
            (Autonomy::None, Cut(3_600), at(3_600)),
            (For(600), Cut(3_600), at(3_600)),
            (For(7_200), Cut(3_600), at(7_200)),
            (ForEver, Cut(3_600), Some(Until::Never)),
            // The pool came back after 900 s.
            (For(600), Healed(SINCE + 900, 3_600), at(1_500)),
            (Autonomy::None, Healed(SINCE + 900, 3_600), at(1_200)),
            (For(600), Healed(SINCE + 3_500, 3_600), at(3_600)),
        ];
        for (autonomy, guarded, until) in table {
            let verdict = Verdict::new(Link::Disconnected(SINCE), autonomy, guarded, true, SINCE);
            assert_eq!(verdict.until, until, "{autonomy:?} {guarded:?}");
            assert_eq!(verdict.protects(), until.is_some());
        }
    }

    #[test]
    fn tolerations_follow_the_link() {
        let cut = Guarded::Cut(3_600);
        let (on, off, back) = (Link::Connected, Link::Disconnected(SINCE), Link::Returning(SINCE));
        let table = [
            (on, Autonomy::None, Guarded::No, 0, Some(Wanted::Original)),
            (on, For(600), Guarded::No, 0, Some(Wanted::Seconds(Some(600)))),
            (on, ForEver, Guarded::No, 0, Some(Wanted::Seconds(None))),
            (off, For(600), Guarded::No, 0, Some(Wanted::Kept(600))),
            (off, For(600), cut, 0, Some(Wanted::Seconds(None))),
            (off, ForEver, Guarded::No, 0, Some(Wanted::Seconds(None))),
            (off, Autonomy::None, cut, 0, Some(Wanted::Seconds(None))),
            (off, Autonomy::None, Guarded::No, 0, Some(Wanted::Original)),
            (off, For(600), Guarded::No, 600, None),
            (back, For(600), Guarded::No, 700, Some(Wanted::Seconds(Some(600)))),
            (back, Autonomy::None, cut, 0, None),
        ];
        for (link, autonomy, guarded, later, wanted) in table {
            let verdict = Verdict::new(link, autonomy, guarded, true, SINCE + later);
            assert_eq!(verdict.wanted(), wanted, "{link:?} {autonomy:?} {guarded:?} +{later}");
        }
    }

    #[test]
    fn only_a_silent_node_is_over_and_not_a_second_early() {
        let over = |link, later| Verdict::new(link, For(600), Guarded::No, false, SINCE + later).over;
        assert!(!over(Link::Disconnected(SINCE), 599));
        assert!(over(Link::Disconnected(SINCE), 600));
        assert!(!over(Link::Returning(SINCE), 9_000));
        assert!(!over(Link::Connected, 9_000));
        let endless = Verdict::new(Link::Disconnected(SINCE), ForEver, Guarded::No, false, i64::MAX);
        assert!(!endless.over && endless.protects());
    }
}
