//! The pool guard: when most nodes of a pool fall silent together, the link of the pool is cut and the nodes are not
//! dead. Pure.

use std::time::Duration;

use super::{CUT, GuardPolicy, NodePool};
use crate::clock::parse_rfc3339;
use crate::config::Guard;
use crate::duration;
use crate::nodes::verdict::Guarded;
use crate::wire::condition;

/// The guard's settings for one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Cut when less than this percentage answers; 0 is off.
    pub threshold: usize,
    /// Seconds between nodes that fell together.
    pub window: i64,
    /// Seconds of protection at the most.
    pub longest: i64,
}

impl Rule {
    /// The pool's own settings, and the flags' for what it leaves out or cannot be read.
    pub fn of(pool: &NodePool, flags: &Guard) -> Self {
        let none = GuardPolicy::default();
        let own = pool.spec.autonomy.as_ref().and_then(|a| a.guard.as_ref()).unwrap_or(&none);
        let seconds = |text: &Option<String>, otherwise: Duration| {
            let own = text.as_ref().and_then(|t| duration::parse(t).ok()).filter(|nanos| *nanos > 0);
            // A part of a second is a whole one.
            let whole = |nanos: i64| (nanos - 1) / 1_000_000_000 + 1;
            own.map_or(i64::try_from(otherwise.as_secs()).unwrap_or(i64::MAX), whole)
        };
        let threshold = own.threshold_percent.and_then(|t| usize::try_from(t).ok());
        Self {
            threshold: threshold.unwrap_or(flags.pool_guard_threshold.into()).min(100),
            window: seconds(&own.window, flags.pool_guard_window),
            longest: seconds(&own.max_duration, flags.pool_guard_max_duration),
        }
    }

    /// Whether there is a guard.
    pub fn is_on(&self) -> bool {
        self.threshold > 0
    }

    /// Which of the silent nodes fell in a cut: `fell` has the time of each, `answering` nodes answer. A node is in a
    /// cut when, within a window that it fell in, less than the threshold of the nodes that answered before was left.
    /// So nodes that died one by one over weeks are no cut. A pool of one has none: a dead node cannot be told from
    /// a cut one there.
    pub fn cut(&self, answering: usize, fell: &[i64]) -> Vec<bool> {
        let mut cut = vec![false; fell.len()];
        for end in fell {
            let within = |at: &i64| *at <= *end && *at > end.saturating_sub(self.window);
            let together = fell.iter().filter(|at| within(at)).count();
            let left = answering + fell.iter().filter(|at| *at > end).count();
            if together + left > 1 && left * 100 < self.threshold * (together + left) {
                fell.iter().zip(cut.iter_mut()).for_each(|(at, cut)| *cut |= within(at));
            }
        }
        cut
    }

    /// What the guard says about a node that fell at `since`; `cut` as [`Self::cut`] has it for that node. When the
    /// pool was cut and is not any more, the condition `Cut` of the pool has the time.
    pub fn guarded(&self, pool: &NodePool, cut: bool, since: i64, unix: i64) -> Guarded {
        if cut {
            return Guarded::Cut(self.longest);
        }
        let conditions = pool.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let Some(condition) = condition(conditions, CUT) else { return Guarded::No };
        // Still True: it has healed now, and will be written.
        let healed = match condition.status.as_str() {
            "True" => unix,
            _ => condition.last_transition_time.as_deref().and_then(parse_rfc3339).unwrap_or(unix),
        };
        if healed >= since { Guarded::Healed(healed, self.longest) } else { Guarded::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { threshold: 35, window: 300, longest: 3_600 };

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        answering: usize,
        fell: Vec<(i64, usize)>,
        cut: Vec<bool>,
    }

    #[test]
    fn nodes_that_fell_together_are_cut_and_others_are_not() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("guard.yaml")).unwrap();
        for case in &cases {
            let fell: Vec<i64> =
                case.fell.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count)).collect();
            let each = case.fell.iter().zip(&case.cut);
            let cut: Vec<bool> =
                each.flat_map(|((_, count), cut)| std::iter::repeat_n(*cut, *count)).collect();
            assert_eq!(RULE.cut(case.answering, &fell), cut, "{}", case.name);
        }
    }

    #[test]
    fn a_pool_that_came_back_says_when() {
        let pool = |status: &str| {
            let time = Some("1970-01-01T00:16:40Z".to_owned());
            let cut = crate::wire::Condition {
                kind: CUT.into(),
                status: status.into(),
                last_transition_time: time,
                ..Default::default()
            };
            let status = super::super::NodePoolStatus { conditions: vec![cut], ..Default::default() };
            NodePool { status: Some(status), ..NodePool::default() }
        };
        let table = [
            (NodePool::default(), false, 900, Guarded::No),
            (NodePool::default(), true, 900, Guarded::Cut(3_600)),
            (pool("True"), true, 900, Guarded::Cut(3_600)),
            (pool("True"), false, 900, Guarded::Healed(5_000, 3_600)),
            (pool("False"), false, 900, Guarded::Healed(1_000, 3_600)),
            // It fell after the pool was back.
            (pool("False"), false, 1_001, Guarded::No),
        ];
        for (pool, cut, since, guarded) in table {
            assert_eq!(RULE.guarded(&pool, cut, since, 5_000), guarded, "{:?} {cut} {since}", pool.status);
        }
    }

    #[test]
    fn a_pool_may_have_its_own_rule() {
        let flags = Guard {
            pool_guard_threshold: 35,
            pool_guard_window: Duration::from_secs(300),
            pool_guard_max_duration: Duration::from_secs(3_600),
        };
        let mut pool = NodePool::default();
        assert_eq!(Rule::of(&pool, &flags), RULE);
        let guard = GuardPolicy {
            threshold_percent: Some(0),
            window: Some("1m".into()),
            max_duration: Some("for ever".into()),
        };
        pool.spec.autonomy = Some(super::super::AutonomyPolicy { duration: None, guard: Some(guard) });
        let rule = Rule::of(&pool, &flags);
        assert_eq!(rule, Rule { threshold: 0, window: 60, longest: 3_600 });
        assert!(!rule.is_on());
    }
}
