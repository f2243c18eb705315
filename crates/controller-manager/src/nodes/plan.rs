//! Looks at every node in the world and says what holds for it; `writes` says what follows. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;

use super::evicting::Evicting;
use super::lost::Lost;
use super::verdict::{Guarded, Verdict};
use super::writes::Writes;
use crate::autonomy::{self, Said};
use crate::clock::Moment;
use crate::config::Config;
use crate::controllers::Context;
use crate::link::{self, Link, Signs};
use crate::metrics::Metrics;
use crate::names::{AUTONOMY, NO_EXECUTE, POOL, READY, UNREACHABLE};
use crate::pool::NodePool;
use crate::pool::guard::Rule;
use crate::pool::status::Counts;
use crate::wire::{Node, condition, text};
use crate::world::World;
use crate::write::queue::Queue;

/// What subjects of the queue that are pools begin with; no node can be called so.
const POOL_SUBJECT: &str = "pool/";

/// Decides, and remembers what no object says yet.
pub struct Planner {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    writes: Writes,
    /// Nodes that are lost. It goes before their record, which may not be written yet.
    lost: HashMap<Arc<str>, Lost>,
    /// NoExecute taints of people on nodes, since they were seen first.
    evicting: HashMap<Arc<str>, Evicting>,
    /// Nodes that fell in a cut of their pool, as of the last look at all.
    cut: HashSet<Arc<str>>,
}

/// A node as it is now.
pub struct Seen<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// As it was read.
    pub node: &'a Node,
    /// The pool that it is in.
    pub pool: Option<&'a NodePool>,
    /// What is said about its autonomy.
    pub said: Said,
    /// Its link.
    pub link: Link,
    /// What is to be remembered of its loss.
    pub lost: Option<Lost>,
    /// kube-controller-manager has given it up.
    pub given_up: bool,
    /// What people evict its pods with.
    pub evicting: Evicting,
}

impl Planner {
    /// One that knows nothing yet.
    pub fn new(context: &Context) -> Self {
        let writes = Writes::of(&context.config);
        let (config, metrics) = (context.config.clone(), context.metrics.clone());
        let (lost, evicting, cut) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { config, metrics, writes, lost, evicting, cut }
    }

    /// Decides about everything. `heard` says that the leases were just read: only then pods of dead nodes are ended.
    pub fn all(&mut self, world: &World, now: Moment, heard: bool, queue: &mut Queue) {
        let seen: Vec<Seen<'_>> =
            world.nodes.iter().map(|(name, node)| self.see(world, name, node, now)).collect();
        self.lost.retain(|name, _| world.nodes.contains_key(name));
        self.evicting.retain(|name, _| world.nodes.contains_key(name));
        let pools = self.pools(world, &seen);
        let mut protected = 0;
        for seen in &seen {
            let verdict = self.verdict(seen, now);
            let pods = world.pods.get(seen.name);
            protected += if verdict.protects() { pods.map_or(0, BTreeMap::len) } else { 0 };
            let writes = self.writes.of_node(seen, &verdict, pods, now);
            if heard {
                queue.want(seen.name, writes);
            } else {
                queue.want_no_more_ends(seen.name, writes);
            }
        }
        for (name, pods) in world.pods.iter().filter(|(name, _)| !world.nodes.contains_key(*name)) {
            queue.want(name, self.writes.of_no_node(pods));
        }
        for (pool, counts) in &pools {
            queue.want(&format!("{POOL_SUBJECT}{}", pool.name_any()), self.writes.of_pool(pool, counts));
        }
        self.drop_gone(world, queue);
        self.count(world, &seen, &pools, protected);
    }

    /// Decides about one node, or its pods, that changed since the leases were read.
    pub fn one(&mut self, world: &World, name: &Arc<str>, now: Moment, queue: &mut Queue) {
        let pods = world.pods.get(name);
        let writes = match world.nodes.get_key_value(name) {
            Some((name, node)) => {
                let seen = self.see(world, name, node, now);
                let verdict = self.verdict(&seen, now);
                self.writes.of_node(&seen, &verdict, pods, now)
            }
            None => pods.map(|pods| self.writes.of_no_node(pods)).unwrap_or_default(),
        };
        queue.want_no_more_ends(name, writes);
    }

    fn see<'a>(&mut self, world: &'a World, name: &'a Arc<str>, node: &'a Node, now: Moment) -> Seen<'a> {
        let pool = text(&node.metadata.labels, POOL).and_then(|pool| world.pools.get(pool));
        let policy = pool.and_then(|p| p.spec.autonomy.as_ref()?.duration.as_deref());
        let said = autonomy::of(node.metadata.annotations.as_ref(), policy);
        let lease = world.leases.renewed(name);
        let known = self.lost.remove(name).filter(|lost| lost.is_of(node));
        let lost = known.or_else(|| Lost::recorded(node, now));
        let given_up = condition(&node.status.conditions, READY).is_some_and(|c| c.status == "Unknown");
        let evicts = |key: &str, effect: &str| key == UNREACHABLE && effect == NO_EXECUTE;
        let signs = Signs {
            heard: world.leases.of(name),
            given_up,
            evicting: node.spec.taints.iter().any(|t| evicts(&t.key, &t.effect)),
            since: lost.as_ref().map(|lost| lost.since),
            heard_since: lost.as_ref().is_some_and(|lost| lost.was_heard(lease)),
        };
        let link = link::of(&signs, self.config.nodes.node_monitor_grace_period, now.unix);
        let lost = Lost::next(lost, node, link, lease, now);
        if let Some(lost) = &lost {
            self.lost.insert(name.clone(), lost.clone());
        }
        let evicting = self.evicting(name, node, now.unix);
        Seen { name, node, pool, said, link, lost, given_up, evicting }
    }

    fn evicting(&mut self, name: &Arc<str>, node: &Node, unix: i64) -> Evicting {
        let known = self.evicting.remove(name).unwrap_or_default();
        let found = known.seen(&node.spec.taints, unix);
        if !found.is_empty() {
            self.evicting.insert(name.clone(), found.clone());
        }
        found
    }

    fn verdict(&self, seen: &Seen<'_>, now: Moment) -> Verdict {
        let unix = seen.lost.as_ref().map_or(now.unix, |lost| lost.judged(now));
        let rule = seen.pool.map(|pool| (pool, Rule::of(pool, &self.config.guard)));
        let rule = rule.filter(|(_, rule)| rule.is_on());
        let guarded = match (rule, seen.link.since()) {
            (Some((pool, rule)), Some(since)) => {
                rule.guarded(pool, self.cut.contains(seen.name), since, unix)
            }
            _ => Guarded::No,
        };
        Verdict::new(seen.link, seen.said.autonomy, guarded, rule.is_some(), unix)
    }

    /// Counts of every pool; finds the nodes that fell in a cut.
    fn pools<'a>(&mut self, world: &'a World, seen: &[Seen<'_>]) -> Vec<(&'a NodePool, Counts)> {
        let mut members: BTreeMap<String, Vec<&Seen<'_>>> = BTreeMap::new();
        for seen in seen {
            if let Some(pool) = seen.pool {
                members.entry(pool.name_any()).or_default().push(seen);
            }
        }
        self.cut.clear();
        let mut counted = Vec::new();
        for (name, pool) in &world.pools {
            let members = members.get(name).map(Vec::as_slice).unwrap_or_default();
            counted.push((pool, self.count_pool(pool, members)));
        }
        counted
    }

    fn count_pool(&mut self, pool: &NodePool, members: &[&Seen<'_>]) -> Counts {
        let rule = Rule::of(pool, &self.config.guard);
        let silent: Vec<(&Arc<str>, i64)> = members
            .iter()
            .filter_map(|s| if let Link::Disconnected(at) = s.link { Some((s.name, at)) } else { None })
            .collect();
        let fell: Vec<i64> = silent.iter().map(|(_, at)| *at).collect();
        let cut = rule.cut(members.len() - silent.len(), &fell);
        let fallen: Vec<&Arc<str>> =
            silent.iter().zip(&cut).filter(|(_, cut)| **cut).map(|((name, _), _)| *name).collect();
        self.cut.extend(fallen.iter().map(|name| (*name).clone()));
        let is = |seen: &&&Seen<'_>, kind: &str| {
            condition(&seen.node.status.conditions, kind).is_some_and(|c| c.status == "True")
        };
        Counts {
            names: members.iter().map(|s| s.name.to_string()).collect(),
            ready: members.iter().filter(|s| is(s, READY)).count(),
            disconnected: silent.len(),
            autonomous: members.iter().filter(|s| is(s, AUTONOMY)).count(),
            cut: fallen.len(),
            guarded: rule.is_on(),
        }
    }

    /// Subjects that are gone want nothing any more.
    fn drop_gone(&self, world: &World, queue: &mut Queue) {
        let exists = |subject: &str| match subject.strip_prefix(POOL_SUBJECT) {
            Some(pool) => world.pools.contains_key(pool),
            None => world.nodes.contains_key(subject) || world.pods.contains_key(subject),
        };
        let gone: Vec<Arc<str>> = queue.subjects().filter(|s| !exists(s)).cloned().collect();
        gone.iter().for_each(|subject| queue.want(subject, Vec::new()));
    }

    fn count(&self, world: &World, seen: &[Seen<'_>], pools: &[(&NodePool, Counts)], protected: usize) {
        let set = |gauge: &prometheus_client::metrics::gauge::Gauge, count: usize| {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        let labelled = |key: &'static str, value: &str| vec![(key, value.to_owned())];
        for word in ["connected", "disconnected", "returning"] {
            let count = seen.iter().filter(|s| s.link.word() == word).count();
            set(&self.metrics.nodes.get_or_create(&labelled("state", word)), count);
        }
        for status in ["True", "False", "Unknown"] {
            let is = |s: &&Seen<'_>| {
                condition(&s.node.status.conditions, AUTONOMY).is_some_and(|c| c.status == status)
            };
            set(
                &self.metrics.autonomy.get_or_create(&labelled("status", status)),
                seen.iter().filter(is).count(),
            );
        }
        set(&self.metrics.pods, world.pod_count());
        set(&self.metrics.protected, protected);
        set(&self.metrics.cut_pools, pools.iter().filter(|(_, counts)| counts.cut > 0).count());
    }
}
