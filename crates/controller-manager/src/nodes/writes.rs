//! Puts the decisions about one node and its pods, or one pool, together: one write an object, whoever wants it. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::json;

use super::plan::Seen;
use super::protect::{self, End};
use super::tolerate::{self, Wanted};
use super::verdict::{Guarded, Verdict};
use super::{name, outage, story};
use crate::autonomy::Autonomy;
use crate::clock::Moment;
use crate::config::Config;
use crate::link::Link;
use crate::names::PROTECTED_UNTIL;
use crate::pool::status::Counts;
use crate::pool::{NodePool, members, status};
use crate::world::pod::Pod;
use crate::write::edit::{Conditions, Edit};
use crate::write::event::Event;
use crate::write::send::end_of;
use crate::write::{Rank, Target, Write};

/// Which controllers write.
#[derive(Clone, Copy, Debug)]
pub struct Writes {
    autonomy: bool,
    lifecycle: bool,
    readiness: bool,
    pool: bool,
}

type Pods = BTreeMap<Box<str>, Pod>;

impl Writes {
    /// Those that the flags choose.
    pub fn of(config: &Config) -> Self {
        Self {
            autonomy: config.runs(name::AUTONOMY),
            lifecycle: config.runs(name::LIFECYCLE),
            readiness: config.runs(name::READINESS),
            pool: config.runs(name::POOL),
        }
    }

    /// All that is to be written about a node and its pods.
    pub fn of_node(
        &self,
        seen: &Seen<'_>,
        verdict: &Verdict,
        pods: Option<&Pods>,
        now: Moment,
    ) -> Vec<Write> {
        let mut writes = self.node(seen, verdict);
        for pod in pods.into_iter().flat_map(|pods| pods.values()) {
            let due = seen.evicting.due(pod, now.unix);
            writes.extend(self.pod(pod, verdict, seen.given_up, due));
        }
        writes
    }

    /// Pods of a node that is no object any more: their marks go, so that pod-gc can do its work.
    pub fn of_no_node(&self, pods: &Pods) -> Vec<Write> {
        let verdict = Verdict::new(Link::Connected, Autonomy::None, Guarded::No, false, 0);
        pods.values().flat_map(|pod| self.pod(pod, &verdict, false, false)).collect()
    }

    /// All that is to be written about a pool.
    pub fn of_pool(&self, pool: &NodePool, counts: &Counts) -> Vec<Write> {
        if !self.pool {
            return Vec::new();
        }
        let wanted = status::decide(pool, counts);
        let mut writes: Vec<Write> =
            story::of_pool(pool, wanted.as_ref()).into_iter().map(|e| told(&e, Rank::Record)).collect();
        if let Some(status) = wanted {
            let (uid, version) =
                (pool.uid().unwrap_or_default(), pool.resource_version().unwrap_or_default());
            let body = json!({"metadata": {"uid": uid, "resourceVersion": version}, "status": status});
            let target = Target::PoolStatus(pool.name_any());
            writes.push(Write { target, rank: Rank::Pool, urgency: 0, version, body });
        }
        writes
    }

    fn node(&self, seen: &Seen<'_>, verdict: &Verdict) -> Vec<Write> {
        let (uid, version) =
            (seen.node.uid().unwrap_or_default(), seen.node.resource_version().unwrap_or_default());
        let write = |target, rank, body| Write { target, rank, urgency: 0, version: version.clone(), body };
        let mut writes = Vec::new();
        let mut edit = Edit::default();
        // What a pool gives may be refused; the record of an outage must not fall with it.
        if self.pool {
            members::decide(seen.node, seen.pool.map(|p| &p.spec), &mut edit);
        }
        if !edit.is_empty() {
            let target = Target::Member(seen.name.to_string());
            writes.push(write(target, Rank::Pool, std::mem::take(&mut edit).patch(&uid, &version)));
        }
        if self.lifecycle {
            let events = story::of_node(seen.node, &seen.said, verdict);
            writes.extend(events.iter().map(|e| told(e, rank_of(e))));
            let lease = seen.lost.as_ref().and_then(|lost| lost.lease.as_deref());
            outage::record(seen.node, verdict, lease, &mut edit);
            let conditions = outage::conditions(seen.node, verdict);
            if !conditions.is_empty() {
                let target = Target::NodeStatus(seen.name.to_string());
                writes.push(write(target, Rank::Record, conditions.patch(&uid, &version)));
            }
        }
        if !edit.is_empty() {
            let target = Target::Node(seen.name.to_string());
            writes.push(write(target, Rank::Record, edit.patch(&uid, &version)));
        }
        writes
    }

    fn pod(&self, pod: &Pod, verdict: &Verdict, given_up: bool, due: bool) -> Vec<Write> {
        let end = if self.lifecycle { protect::end(pod, verdict, given_up, due) } else { End::None };
        let target =
            |make: fn(String, String) -> Target| make(pod.namespace.to_string(), pod.name.to_string());
        let write = |target, rank, body| {
            let urgency = tolerate::seconds_left(pod);
            Write { target, rank, urgency, version: pod.version.to_string(), body }
        };
        let ending = if due { Rank::Evict } else { Rank::Empty };
        let conditions = match end {
            End::Delete => {
                return vec![write(target(Target::PodEnd), ending, end_of(&pod.uid, &pod.version))];
            }
            End::Announce => protect::announcement(due),
            End::None => protect::conditions(pod, verdict, self.lifecycle, self.readiness),
        };
        let mut edit = self.edit(pod, verdict, due);
        // The mark says that the condition is one of a deletion that was refused: it goes after it.
        if !conditions.gone.is_empty() && !due {
            edit.annotations.retain(|key, value| key != PROTECTED_UNTIL || value.is_some());
        }
        let mut writes = Vec::new();
        if !edit.is_empty() {
            let saves = verdict.link != Link::Connected && !pod.terminating && !due;
            let rank = if saves { Rank::Protect } else { Rank::Tidy };
            writes.push(write(
                target(Target::Pod),
                rank_of_edit(rank, &edit),
                edit.patch(&pod.uid, &pod.version),
            ));
        }
        if !conditions.is_empty() {
            let rank = if end == End::Announce { ending } else { Rank::Ready };
            writes.push(write(target(Target::PodStatus), rank, patch(&conditions, pod)));
        }
        writes
    }

    fn edit(&self, pod: &Pod, verdict: &Verdict, due: bool) -> Edit {
        let mut edit = Edit::default();
        if self.lifecycle {
            protect::mark(pod, verdict, due, &mut edit);
        }
        if self.autonomy
            && !due
            && let Some(wanted) = verdict.wanted()
            && (wanted != Wanted::Original || pod.notes.is_some())
        {
            tolerate::decide(pod, wanted, &mut edit);
        }
        edit
    }
}

fn patch(conditions: &Conditions, pod: &Pod) -> serde_json::Value {
    conditions.patch(&pod.uid, &pod.version)
}

/// A toleration that is not right yet on a connected node may be needed at any moment.
fn rank_of_edit(rank: Rank, edit: &Edit) -> Rank {
    if edit.tolerations.is_some() { rank.min(Rank::Protect) } else { rank }
}

/// The end of an outage is told before its record goes: afterwards nobody knows of it.
fn rank_of(event: &Event) -> Rank {
    if event.reason == "EdgeReconnected" { Rank::Record } else { Rank::Tidy }
}

fn told(event: &Event, rank: Rank) -> Write {
    let target = Target::Event(event.place().to_owned(), event.key());
    Write { target, rank, urgency: i64::MIN, version: String::new(), body: event.object() }
}
