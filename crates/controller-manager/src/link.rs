//! The state of a node's link to the cloud. Pure.
//!
//! That a node is disconnected, and since when, stands in its annotation `disconnected-since`, so that a process that
//! has just started goes on where the last one ended: it takes no protection away before it has itself seen the node's
//! lease change. What it cannot know (how long the lease is stale) it takes from kube-controller-manager: when that
//! one has given the node up, the node is disconnected at once.

use std::time::Duration;

use crate::liveness::Heard;

/// The state of a node's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The node is heard of, or it is too early to say.
    Connected,
    /// It is silent since that Unix time.
    Disconnected(i64),
    /// It is heard of again, and kube-controller-manager has not taken its taint away yet.
    Returning(i64),
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Its lease, as this process saw it.
    pub heard: Heard,
    /// kube-controller-manager has given it up: Ready is Unknown.
    pub given_up: bool,
    /// It has the taint `unreachable:NoExecute`.
    pub evicting: bool,
    /// Since when it was disconnected, as the cluster or this process remembers.
    pub since: Option<i64>,
    /// It was heard of after that, by its lease, perhaps while nobody looked.
    pub heard_since: bool,
}

/// The link of a node with these signs at `unix` seconds, when silence of `grace` is a lost link.
pub fn of(signs: &Signs, grace: Duration, unix: i64) -> Link {
    let heard = &signs.heard;
    let quiet = heard.silent >= grace;
    let renewed = heard.changed || signs.heard_since && !signs.given_up;
    // A node without any lease is judged by its status alone.
    let alive = if heard.lease { renewed && !quiet } else { !signs.given_up };
    match (signs.since, alive) {
        (Some(since), true) if signs.given_up || signs.evicting => Link::Returning(since),
        (_, true) => Link::Connected,
        (Some(since), false) if !signs.heard_since => Link::Disconnected(since),
        // Nobody knows of an outage, or of one that is over: this one begins now.
        (_, false) if quiet || signs.given_up => Link::Disconnected(unix),
        (_, false) => Link::Connected,
    }
}

impl Link {
    /// Since when it is not as it should be.
    pub fn since(self) -> Option<i64> {
        match self {
            Self::Connected => None,
            Self::Disconnected(since) | Self::Returning(since) => Some(since),
        }
    }

    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected(_) => "disconnected",
            Self::Returning(_) => "returning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_signs_has_its_link() {
        const NOW: i64 = 1_000;
        let heard = |lease: bool, changed: bool, silent: u64| Heard {
            lease,
            changed,
            silent: Duration::from_secs(silent),
        };
        // (heard, given up, evicting, since, link)
        let table = [
            // Alive.
            (heard(true, true, 5), false, false, None, Link::Connected),
            (heard(true, true, 39), false, false, None, Link::Connected),
            // kube-controller-manager is slower to see it than we are.
            (heard(true, true, 5), true, true, None, Link::Connected),
            // Silent.
            (heard(true, true, 40), false, false, None, Link::Disconnected(NOW)),
            (heard(true, true, 60), true, true, Some(900), Link::Disconnected(900)),
            // Just started: not heard yet, nothing said before.
            (heard(true, false, 0), false, false, None, Link::Connected),
            (heard(true, false, 40), false, false, None, Link::Disconnected(NOW)),
            // Just started in an outage that nobody wrote down.
            (heard(true, false, 0), true, true, None, Link::Disconnected(NOW)),
            // Just started in an outage that was written down.
            (heard(true, false, 0), true, true, Some(900), Link::Disconnected(900)),
            (heard(true, false, 0), false, false, Some(900), Link::Disconnected(900)),
            // Back.
            (heard(true, true, 0), true, true, Some(900), Link::Returning(900)),
            (heard(true, true, 0), false, true, Some(900), Link::Returning(900)),
            (heard(true, true, 0), false, false, Some(900), Link::Connected),
            // No lease at all.
            (heard(false, false, 0), false, false, None, Link::Connected),
            (heard(false, false, 0), true, true, None, Link::Disconnected(NOW)),
            (heard(false, false, 0), true, true, Some(900), Link::Disconnected(900)),
            (heard(false, false, 0), false, true, Some(900), Link::Returning(900)),
            (heard(false, false, 0), false, false, Some(900), Link::Connected),
        ];
        for (heard, given_up, evicting, since, link) in table {
            let signs = Signs { heard, given_up, evicting, since, heard_since: false };
            assert_eq!(of(&signs, Duration::from_secs(40), NOW), link, "{signs:?}");
        }
        // (heard, given up, evicting, link) of a node that was lost at 900 and heard of since.
        let table = [
            // Just started: it came back and is gone again.
            (heard(true, false, 0), true, true, Link::Disconnected(NOW)),
            (heard(true, false, 40), false, false, Link::Disconnected(NOW)),
            // Just started: it is back.
            (heard(true, false, 0), false, true, Link::Returning(900)),
            (heard(true, false, 0), false, false, Link::Connected),
            // It was about to come back, and was lost again before kube-controller-manager noticed.
            (heard(true, true, 5), true, true, Link::Returning(900)),
            (heard(true, true, 40), true, true, Link::Disconnected(NOW)),
        ];
        for (heard, given_up, evicting, link) in table {
            let signs = Signs { heard, given_up, evicting, since: Some(900), heard_since: true };
            assert_eq!(of(&signs, Duration::from_secs(40), NOW), link, "{signs:?}");
        }
    }
}
