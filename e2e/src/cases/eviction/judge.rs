//! What came of the pods of a cell, and whether that is what was expected. Pure.

use super::plan::Expected;
use std::fmt;
use std::time::Duration;

/// Marks hold whole seconds, so that a time may seem to be over this much too early.
const ROUNDING: Duration = Duration::from_secs(1);

/// What came of the pods of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Got {
    /// How many pods there were; a cell without pods shows nothing.
    pub pods: usize,
    /// When the deletion of the first of them was seen, since the node fell silent.
    pub first_deleted: Option<Duration>,
    /// Whether the deletion of all of them was seen.
    pub all_deleted: bool,
    /// Whether the Service led to all of them whenever it was looked at during the outage; true for pods
    /// that never ran.
    pub served: bool,
    /// Whether all of them are ready at the end.
    pub ready: bool,
    /// Whether one of them has the condition `DisruptionTarget` at the end.
    pub disrupted: bool,
}

impl Got {
    /// Whether this is what was expected.
    pub fn is(&self, expected: Expected) -> bool {
        let kept = self.pods > 0 && self.first_deleted.is_none() && self.served && !self.disrupted;
        match expected {
            Expected::Evicted => self.pods > 0 && self.all_deleted,
            Expected::Kept => kept,
            Expected::Home => kept && self.ready,
            Expected::EmptiedAfter(after) => {
                let late_enough = self.first_deleted.is_some_and(|first| first + ROUNDING >= after);
                self.pods > 0 && self.served && self.all_deleted && late_enough
            }
        }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pods == 0 {
            return write!(out, "no pods");
        }
        match (self.first_deleted, self.all_deleted) {
            (None, _) => write!(out, "kept")?,
            (Some(first), true) => write!(out, "deleted at {:.1} s", first.as_secs_f64())?,
            (Some(first), false) => write!(out, "a part deleted at {:.1} s", first.as_secs_f64())?,
        }
        if !self.served {
            write!(out, ", out of the Service")?;
        }
        if self.disrupted && self.first_deleted.is_none() {
            write!(out, ", DisruptionTarget left")?;
        }
        match (self.first_deleted, self.ready) {
            (None, true) => write!(out, ", ready"),
            (None, false) => write!(out, ", not ready"),
            (Some(_), _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expectation_is_met_by_what_it_says_and_by_nothing_else() {
        let kept = Got {
            pods: 2,
            first_deleted: None,
            all_deleted: false,
            served: true,
            ready: true,
            disrupted: false,
        };
        let deleted = |seconds| Got {
            first_deleted: Some(Duration::from_secs(seconds)),
            all_deleted: true,
            ready: false,
            ..kept
        };
        let short = Expected::EmptiedAfter(Duration::from_secs(40));
        let table = [
            (kept, Expected::Home, true),
            (kept, Expected::Kept, true),
            (kept, Expected::Evicted, false),
            (kept, short, false),
            (deleted(14), Expected::Evicted, true),
            (deleted(14), short, false),
            (deleted(43), short, true),
            (deleted(43), Expected::Kept, false),
            (Got { ready: false, ..kept }, Expected::Home, false),
            (Got { ready: false, ..kept }, Expected::Kept, true),
            (Got { served: false, ..kept }, Expected::Home, false),
            (Got { disrupted: true, ..kept }, Expected::Home, false),
            (Got { all_deleted: false, ..deleted(43) }, short, false),
            (Got { pods: 0, ..kept }, Expected::Kept, false),
            (Got { pods: 0, ..deleted(14) }, Expected::Evicted, false),
        ];
        for (got, expected, met) in table {
            assert_eq!(got.is(expected), met, "{got} for {expected}");
        }
    }
}
