//! NoExecute taints that are not the cloud's own two about silence: somebody put them on the node so that its pods go,
//! for one `node.kubernetes.io/out-of-service` of a node that is known to be dead. Protection ends where they evict.
//! Pure.
//!
//! What taint eviction would do (pkg/controller/tainteviction, `processPodOnNode`): a pod goes at once when it does not
//! tolerate every taint, else at the end of the shortest time that it tolerates one, counted from when the controller
//! saw the taint or the pod. The first toleration that fits a taint counts (component-helpers,
//! `GetMatchingTolerations`).

use crate::names::{NO_EXECUTE, NOT_READY, UNREACHABLE};
use crate::nodes::tolerate::tolerates_value;
use crate::wire::{Taint, Toleration};
use crate::world::pod::Pod;

/// The taints of one node, each with the Unix time at which it was seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evicting(Vec<(Taint, i64)>);

impl Evicting {
    /// Those of `taints`, seen at `unix` seconds; what was known already keeps its time.
    pub fn seen(self, taints: &[Taint], unix: i64) -> Self {
        let counts =
            |taint: &&Taint| taint.effect == NO_EXECUTE && ![NOT_READY, UNREACHABLE].contains(&&*taint.key);
        let since =
            |taint: &Taint| self.0.iter().find(|(known, _)| known == taint).map_or(unix, |(_, at)| *at);
        Self(taints.iter().filter(counts).map(|taint| (taint.clone(), since(taint))).collect())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they have evicted the pod by `unix` seconds.
    pub fn due(&self, pod: &Pod, unix: i64) -> bool {
        self.0.iter().any(|(taint, since)| {
            let value = taint.value.as_deref().unwrap_or_default();
            let fits = |t: &&Toleration| tolerates_value(t, &taint.key, value);
            match pod.tolerations.iter().find(fits) {
                None => true,
                Some(Toleration { toleration_seconds: None, .. }) => false,
                Some(Toleration { toleration_seconds: Some(seconds), .. }) => {
                    let begin = (*since).max(pod.bound);
                    *seconds <= 0 || begin.saturating_add(*seconds) <= unix
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OUT: &str = "node.kubernetes.io/out-of-service";

    fn taint(key: &str, effect: &str) -> Taint {
        Taint { key: key.into(), value: Some("nodeshutdown".into()), effect: effect.into(), time_added: None }
    }

    fn pod(tolerations: Value, bound: i64) -> Pod {
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        Pod { tolerations: tolerations.into(), bound, ..Pod::default() }
    }

    #[test]
    fn a_pod_is_due_when_taint_eviction_would_delete_it() {
        let exists =
            |seconds: Value| json!([{"key": OUT, "operator": "Exists", "tolerationSeconds": seconds}]);
        let equal = |value: &str| json!([{"key": OUT, "value": value, "effect": "NoExecute"}]);
        // Tolerations, since when the pod is there, the time; the taint was seen at 100.
        let table = [
            (json!([]), 0, 100, true),
            (json!([{"key": UNREACHABLE, "operator": "Exists"}]), 0, 100, true),
            (json!([{"operator": "Exists"}]), 0, 9_999, false),
            (equal("nodeshutdown"), 0, 9_999, false),
            (equal("another"), 0, 100, true),
            (json!([{"key": OUT, "operator": "Exists", "effect": "NoSchedule"}]), 0, 100, true),
            (exists(json!(null)), 0, 9_999, false),
            (exists(json!(60)), 0, 159, false),
            (exists(json!(60)), 0, 160, true),
            (exists(json!(60)), 120, 179, false),
            (exists(json!(60)), 120, 180, true),
            (exists(json!(-1)), 0, 100, true),
        ];
        let evicting = Evicting::default().seen(&[taint(OUT, NO_EXECUTE)], 100);
        for (tolerations, bound, unix, due) in table {
            let pod = pod(tolerations.clone(), bound);
            assert_eq!(evicting.due(&pod, unix), due, "{tolerations} {bound} {unix}");
        }
    }

    #[test]
    fn the_clouds_own_taints_and_those_that_do_not_evict_end_nothing() {
        let taints = [taint(NOT_READY, NO_EXECUTE), taint(UNREACHABLE, NO_EXECUTE), taint(OUT, "NoSchedule")];
        let evicting = Evicting::default().seen(&taints, 100);
        assert!(evicting.is_empty() && !evicting.due(&pod(json!([]), 0), 9_999));
    }

    #[test]
    fn a_taint_keeps_its_time_until_it_goes() {
        let taints = [taint(OUT, NO_EXECUTE), taint("mine", NO_EXECUTE)];
        let first = Evicting::default().seen(&taints[..1], 100);
        let both = first.seen(&taints, 200);
        assert_eq!(both.0.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [100, 200]);
        let again = both.seen(&[], 300).seen(&taints[..1], 400);
        assert_eq!(again.0[0].1, 400);
    }
}
