//! node-autonomy: how long the pods of an autonomous node tolerate its silence. Pure.
//!
//! A toleration of a running pod can be added and its seconds changed, never removed
//! (pkg/apis/core/validation, `validateOnlyAddedTolerations`). The first toleration that fits a taint is the one that
//! counts (component-helpers `GetMatchingTolerations`). Taint eviction does not begin its time anew when seconds
//! change while it runs, but gives up at once when there is no end (pkg/controller/tainteviction,
//! `processPodOnNode`): so while a node is disconnected, what was not right before gets no end, and this program ends
//! it.

use crate::names::{INFINITE, NO_EXECUTE, NOT_READY, ORIGINAL_NOT_READY, ORIGINAL_UNREACHABLE, UNREACHABLE};
use crate::wire::Toleration;
use crate::world::pod::Pod;
use crate::write::edit::Edit;

/// What the tolerations of a pod are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What they were before this program.
    Original,
    /// So many seconds; `None` for no end.
    Seconds(Option<i64>),
    /// So many seconds if they are that already, else no end: the node is disconnected.
    Kept(i64),
}

/// The two taints of a silent node, and where the original seconds are remembered.
const TAINTS: [(&str, &str); 2] = [(NOT_READY, ORIGINAL_NOT_READY), (UNREACHABLE, ORIGINAL_UNREACHABLE)];

/// What has to change of a pod. DaemonSets' and mirror pods, and those that end, are left alone.
pub fn decide(pod: &Pod, wanted: Wanted, edit: &mut Edit) {
    if pod.stays || pod.terminating || pod.finished {
        return;
    }
    let mut list = pod.tolerations.to_vec();
    for (taint, note) in TAINTS {
        match wanted {
            Wanted::Original => restore(&mut list, taint, note, pod, edit),
            Wanted::Seconds(seconds) => set(&mut list, taint, note, pod, seconds, edit),
            Wanted::Kept(seconds) => {
                let right = first(&list, taint).is_some_and(|t| t.toleration_seconds == Some(seconds));
                set(&mut list, taint, note, pod, right.then_some(seconds), edit);
            }
        }
    }
    if list != *pod.tolerations {
        edit.tolerations = Some(list);
    }
}

/// Whether the pod by itself stays for ever on a silent node, as without this program.
pub fn stays_by_itself(pod: &Pod) -> bool {
    let endless = first(&pod.tolerations, UNREACHABLE).is_some_and(|t| t.toleration_seconds.is_none());
    pod.stays
        || match original(pod, ORIGINAL_UNREACHABLE) {
            Some(note) => note == INFINITE,
            None => endless,
        }
}

/// Seconds until taint eviction deletes the pod after the taint came: what is most urgent has the least.
pub fn seconds_left(pod: &Pod) -> i64 {
    match first(&pod.tolerations, UNREACHABLE) {
        None => 0,
        Some(toleration) => toleration.toleration_seconds.unwrap_or(i64::MAX),
    }
}

fn set(
    list: &mut Vec<Toleration>,
    taint: &str,
    note: &'static str,
    pod: &Pod,
    seconds: Option<i64>,
    edit: &mut Edit,
) {
    let remembered = original(pod, note).is_some();
    let place = list.iter().position(|t| tolerates(t, taint));
    let found = place.and_then(|at| list.get(at));
    let before = match found {
        // A pod's own "for ever" is longer than whatever is wanted here.
        Some(t) if t.toleration_seconds.is_none() && !remembered => return,
        Some(t) if t.toleration_seconds == seconds => return,
        // Without a toleration the pod is evicted at once.
        None => 0,
        Some(t) => t.toleration_seconds.unwrap_or(0),
    };
    if !remembered {
        edit.annotate(note, Some(before.to_string()));
    }
    match place.and_then(|at| list.get_mut(at)) {
        Some(t) if t.key.as_deref() == Some(taint) => t.toleration_seconds = seconds,
        // One for all keys is about other taints, too: a toleration of its own goes before it.
        _ => list.insert(place.unwrap_or(list.len()), toleration(taint, seconds)),
    }
}

fn restore(list: &mut [Toleration], taint: &str, note: &'static str, pod: &Pod, edit: &mut Edit) {
    let Some(original) = original(pod, note) else { return };
    edit.annotate(note, None);
    let seconds = if original == INFINITE { Some(None) } else { original.parse().ok().map(Some) };
    if let (Some(seconds), Some(t)) = (seconds, list.iter_mut().find(|t| tolerates(t, taint))) {
        t.toleration_seconds = seconds;
    }
}

fn original<'a>(pod: &'a Pod, note: &str) -> Option<&'a str> {
    let notes = pod.notes.as_ref()?;
    if note == ORIGINAL_NOT_READY { notes.not_ready.as_deref() } else { notes.unreachable.as_deref() }
}

fn first<'a>(list: &'a [Toleration], taint: &str) -> Option<&'a Toleration> {
    list.iter().find(|t| tolerates(t, taint))
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    tolerates_value(toleration, taint, "")
}

/// `Toleration.ToleratesTaint` of core/v1, for a taint of that key and value with the effect `NoExecute`.
pub fn tolerates_value(toleration: &Toleration, taint: &str, taint_value: &str) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let right = (effect.is_empty() || effect == NO_EXECUTE) && (key.is_empty() || key == taint);
    let exists = toleration.operator.as_deref() == Some("Exists");
    right && (exists || !key.is_empty() && toleration.value.as_deref().unwrap_or_default() == taint_value)
}

fn toleration(taint: &str, seconds: Option<i64>) -> Toleration {
    Toleration {
        key: Some(taint.to_owned()),
        operator: Some("Exists".to_owned()),
        value: None,
        effect: Some(NO_EXECUTE.to_owned()),
        toleration_seconds: seconds,
    }
}

#[cfg(test)]
mod tests;
