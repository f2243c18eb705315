//! Protection of pods: marks while their node is disconnected, readiness as their kubelet left it, and the end of a
//! dead node's pods. Pure.

use crate::link::Link;
use crate::names::{DISRUPTION_TARGET, PROTECTED_UNTIL, READY};
use crate::nodes::tolerate::stays_by_itself;
use crate::nodes::verdict::Verdict;
use crate::wire::Condition;
use crate::world::pod::Pod;
use crate::write::edit::{Conditions, Edit};

/// The reason of the condition of pods that this program deletes.
pub const EMPTIED: &str = "DeletionByNodeAutonomy";

/// How a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It does not.
    None,
    /// It is told that it will be deleted, which owners look at (`podFailurePolicy` of Jobs).
    Announce,
    /// It is deleted.
    Delete,
}

/// The mark of a pod: set while the node is silent, kept while it comes back, taken away otherwise. `due`: a person's
/// taint evicts the pod. One that terminates has none: pod-gc may have to end it (an out-of-service node, no node).
pub fn mark(pod: &Pod, verdict: &Verdict, due: bool, edit: &mut Edit) {
    let ends = pod.terminating || pod.finished || due;
    let wanted = match verdict.until {
        Some(until) if verdict.protects() && !pod.stays && !ends => Some(until.text()),
        _ => None,
    };
    let kept = (matches!(verdict.link, Link::Returning(_)) || verdict.over) && !pod.terminating && !due;
    if wanted.as_deref() != pod.until() && !(wanted.is_none() && kept) {
        edit.annotate(PROTECTED_UNTIL, wanted);
    }
}

/// Conditions of a pod that others overwrote. A deletion that is refused leaves its announcement, which would be
/// taken for true. Ready is put back only while the node is silent: its kubelet's next word ends that.
pub fn conditions(pod: &Pod, verdict: &Verdict, marks: bool, readiness: bool) -> Conditions {
    let mut wanted = Conditions::default();
    let ours = verdict.protects() || pod.until().is_some() || pod.announced;
    if pod.terminating || verdict.over || !ours {
        return wanted;
    }
    if marks && (pod.disrupted || pod.announced) {
        wanted.gone.push(DISRUPTION_TARGET);
    }
    if readiness && pod.flipped && verdict.protects() {
        wanted.set.push(Condition {
            kind: READY.to_owned(),
            status: "True".to_owned(),
            ..Condition::default()
        });
    }
    wanted
}

/// Whether a pod of a dead node has to go, and why. kube-controller-manager has to have given the node up, too: two
/// observers are better than one before pods are deleted. A person's taint that makes a pod of a silent node `due`
/// needs no second observer; taint eviction was refused and does not try again.
pub fn end(pod: &Pod, verdict: &Verdict, given_up: bool, due: bool) -> End {
    let tainted = due && verdict.until.is_some() && matches!(verdict.link, Link::Disconnected(_));
    let dead = verdict.over && given_up && !stays_by_itself(pod);
    if pod.terminating || pod.finished || pod.stays || !tainted && !dead {
        return End::None;
    }
    if pod.announced { End::Delete } else { End::Announce }
}

/// The announcement; `due` as in [`end`].
pub fn announcement(due: bool) -> Conditions {
    let why = if due {
        "The node is disconnected and has a NoExecute taint that the pod does not tolerate"
    } else {
        "The node is disconnected for longer than its autonomy lasts"
    };
    let condition = Condition {
        kind: DISRUPTION_TARGET.to_owned(),
        status: "True".to_owned(),
        reason: Some(EMPTIED.to_owned()),
        message: Some(why.to_owned()),
        last_transition_time: None,
    };
    Conditions { set: vec![condition], gone: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    use crate::nodes::table::{SINCE, autonomy, link};
    use crate::nodes::verdict::Guarded;
    use crate::world::pod::Notes;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        /// connected, disconnected or returning
        link: String,
        /// Seconds; 0 is none, -1 for ever.
        autonomy: i64,
        /// Seconds since the node was lost.
        after: i64,
        #[serde(default)]
        pod: Vec<String>,
        /// A person's taint evicts the pod.
        #[serde(default)]
        due: bool,
        #[serde(default)]
        mark: Option<String>,
        /// keep, gone, or the new mark
        marked: String,
        #[serde(default)]
        conditions: Vec<String>,
        #[serde(default)]
        end: Option<String>,
    }

    fn pod(case: &Case) -> Pod {
        let is = |word: &str| case.pod.iter().any(|w| w == word);
        let notes = Notes { until: case.mark.clone().map(Into::into), ..Notes::default() };
        Pod {
            notes: Some(Box::new(notes)),
            stays: is("stays"),
            terminating: is("terminating"),
            finished: is("finished"),
            flipped: is("flipped"),
            disrupted: is("disrupted"),
            announced: is("announced"),
            ..Pod::default()
        }
    }

    fn verdict(case: &Case) -> Verdict {
        Verdict::new(link(&case.link), autonomy(case.autonomy), Guarded::No, false, SINCE + case.after)
    }

    #[test]
    fn pods_are_protected_as_the_table_says() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("protect.yaml")).unwrap();
        for case in &cases {
            let (pod, verdict) = (pod(case), verdict(case));
            let mut edit = Edit::default();
            mark(&pod, &verdict, case.due, &mut edit);
            let marked = match edit.annotations.get(PROTECTED_UNTIL) {
                None => "keep",
                Some(None) => "gone",
                Some(Some(until)) => until,
            };
            assert_eq!(marked, case.marked, "{}", case.name);
            let wanted = conditions(&pod, &verdict, true, true);
            let set = wanted.set.iter().map(|c| format!("{}={}", c.kind, c.status));
            let gone = wanted.gone.iter().map(|kind| format!("{kind} gone"));
            assert_eq!(set.chain(gone).collect::<Vec<_>>(), case.conditions, "{}", case.name);
            let end = match end(&pod, &verdict, true, case.due) {
                End::None => None,
                End::Announce => Some("announce"),
                End::Delete => Some("delete"),
            };
            assert_eq!(end, case.end.as_deref(), "{}", case.name);
            let alone = super::end(&pod, &verdict, false, false);
            assert_eq!(alone, End::None, "{}: the other observer", case.name);
        }
    }
}
