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
    /// What the guard of its pool says.
    pub guarded: Guarded,
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
        Self { link, autonomy, guarded, until, recorded: autonomy != Autonomy::None || pooled, over }
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
    use serde::Deserialize;

    use crate::nodes::table::{SINCE, autonomy, guard, link};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        link: String,
        #[serde(default)]
        autonomy: i64,
        #[serde(default)]
        guard: Option<String>,
        #[serde(default)]
        after: i64,
        /// Seconds, or `never`.
        #[serde(default)]
        until: Option<String>,
        /// protected, over or nothing
        #[serde(default = "nothing")]
        is: String,
        /// original, left, for ever, seconds, or `kept SECONDS`
        tolerations: String,
    }

    fn nothing() -> String {
        "nothing".to_owned()
    }

    fn is(verdict: &Verdict) -> &'static str {
        match (verdict.protects(), verdict.over) {
            (true, false) => "protected",
            (false, true) => "over",
            (false, false) => "nothing",
            (true, true) => panic!("both"),
        }
    }

    fn tolerations(wanted: Option<Wanted>) -> String {
        match wanted {
            None => "left".to_owned(),
            Some(Wanted::Original) => "original".to_owned(),
            Some(Wanted::Seconds(None)) => "for ever".to_owned(),
            Some(Wanted::Seconds(Some(seconds))) => seconds.to_string(),
            Some(Wanted::Kept(seconds)) => format!("kept {seconds}"),
        }
    }

    #[test]
    fn every_node_is_judged_as_the_table_says() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("verdict.yaml")).unwrap();
        for case in &cases {
            let guarded = guard(case.guard.as_deref());
            let pooled = case.guard.is_some();
            let verdict =
                Verdict::new(link(&case.link), autonomy(case.autonomy), guarded, pooled, SINCE + case.after);
            let until = verdict.until.map(|until| match until {
                Until::At(at) => (at - SINCE).to_string(),
                Until::Never => NEVER.to_owned(),
            });
            assert_eq!(until, case.until, "{}", case.name);
            assert_eq!(is(&verdict), case.is, "{}", case.name);
            assert_eq!(tolerations(verdict.wanted()), case.tolerations, "{}", case.name);
        }
    }
}
