//! A long story that nobody wrote: nodes come and go, managers are killed, the apiserver fails, clocks jump, beside a model
//! of what the stock controllers do. Whatever happens, no pod goes before its time, and afterwards nothing is left.
//!
//! `YURT_SOAK_SEED` and `YURT_SOAK_STEPS` (of 5 s each) make other and longer stories of it.

use std::collections::{BTreeMap, BTreeSet};

use yurt_testkit::apiserver::Fault;

use crate::bed::{Bed, DURATION, Manager, SINCE, UNTIL, set, tolerations, until};

const NODES: usize = 10;
const AUTONOMY: u64 = 600;
/// kube-controller-manager's.
const GRACE: u64 = 50;
const STEP: u64 = 5;
/// After this nothing may be left to do, when nothing disturbs.
const SETTLED: u64 = 60;

/// Numbers that are the same for the same seed (xorshift64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.throw(sides) == 0
    }
}

/// What a timer of taint eviction does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Due(u64),
    /// The pod tolerates for ever.
    Off,
    /// It was refused and does not try again until the tolerations change.
    Refused(Option<i64>),
}

/// The world without the manager: nodes, their kubelets, and the stock controllers.
struct World<'a> {
    bed: &'a Bed,
    now: u64,
    awake: BTreeSet<String>,
    heard: BTreeMap<String, u64>,
    given_up: BTreeSet<String>,
    timers: BTreeMap<String, Timer>,
    /// When something last disturbed the manager.
    disturbed: u64,
    /// When it was last killed, or its wall clock was set.
    broken: u64,
    /// By how many seconds its wall clock is wrong.
    wrong: i64,
}

impl World<'_> {
    fn step(&mut self) {
        self.now += STEP;
        for node in self.heard.keys().cloned().collect::<Vec<_>>() {
            if self.awake.contains(&node) {
                self.heard.insert(node.clone(), self.now);
                if self.given_up.remove(&node) {
                    self.accept(&node);
                }
            } else if self.silence(&node) >= GRACE && self.given_up.insert(node.clone()) {
                self.bed.give_up(&node);
            }
        }
        let tainted: Vec<String> = self.given_up.iter().flat_map(|node| pods(node)).collect();
        tainted.iter().for_each(|pod| self.evict(pod));
        self.look();
    }

    fn silence(&self, node: &str) -> u64 {
        self.now - self.heard[node]
    }

    /// Sets the wall clock of the manager's machine so many seconds wrong. Never behind: what is written down then looks
    /// older to the next process, which cannot know better (docs/controller-manager.md).
    fn set_clock(&mut self, wrong: i64) {
        self.bed.clock.jump(wrong - self.wrong);
        (self.wrong, self.broken) = (wrong, self.now);
    }

    /// kube-controller-manager and the kubelet agree that the node is back: what terminates goes, its owner makes
    /// another one, and the rest is ready.
    fn accept(&mut self, node: &str) {
        self.bed.accept(node);
        for pod in pods(node) {
            self.timers.remove(&pod);
            if is_deleted(self.bed, &pod) {
                self.bed.api.delete("pods", "default", &pod);
                self.bed.pod(&pod, node, Some(tolerations(600)));
            } else {
                self.bed.api.modify("pods", "default", &pod, |p| set(p, "Ready", "True"));
            }
        }
    }

    /// Taint eviction looks at a pod (pkg/controller/tainteviction, `processPodOnNode`), and the admission policy at it.
    fn evict(&mut self, pod: &str) {
        if is_deleted(self.bed, pod) {
            return;
        }
        let tolerates = self.bed.tolerates(pod).last().copied().flatten();
        let timer = match (self.timers.get(pod).copied(), tolerates) {
            (Some(Timer::Refused(before)), now) if before == now => Timer::Refused(before),
            (_, None) => Timer::Off,
            (Some(Timer::Due(at)), Some(_)) => Timer::Due(at),
            (_, Some(seconds)) => Timer::Due(self.now + seconds.unsigned_abs()),
        };
        let due = matches!(timer, Timer::Due(at) if at <= self.now);
        self.timers.insert(pod.to_owned(), if due { Timer::Refused(tolerates) } else { timer });
        if due {
            self.bed.api.modify("pods", "default", pod, |p| {
                let condition =
                    serde_json::json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"});
                p["status"]["conditions"].as_array_mut().unwrap().push(condition);
                if p["metadata"]["annotations"][UNTIL].is_null() {
                    p["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z".into();
                }
            });
        }
    }

    /// No pod goes while its node was heard of within its autonomy.
    fn look(&self) {
        for node in self.heard.keys() {
            for pod in pods(node).into_iter().filter(|pod| is_deleted(self.bed, pod)) {
                assert!(self.silence(node) >= AUTONOMY, "{pod} goes after {} s", self.silence(node));
            }
        }
    }

    /// What has to hold when nothing disturbed for a while.
    async fn settled(&self) {
        for node in self.heard.keys().filter(|node| self.given_up.contains(*node)) {
            let silence = self.silence(node);
            for pod in pods(node) {
                if silence > GRACE + SETTLED && silence < AUTONOMY {
                    until("a protected pod to be ready", || ready(self.bed, &pod)).await;
                } else if silence > AUTONOMY + 2 * SETTLED && self.now - self.broken > silence {
                    until("a dead node to be empty", || is_deleted(self.bed, &pod)).await;
                }
            }
        }
    }
}

fn pods(node: &str) -> [String; 2] {
    [format!("{node}-a"), format!("{node}-b")]
}

fn is_deleted(bed: &Bed, pod: &str) -> bool {
    bed.pod_now(pod)["metadata"]["deletionTimestamp"].is_string()
}

fn ready(bed: &Bed, pod: &str) -> bool {
    Bed::condition(&bed.pod_now(pod), "Ready").as_deref() == Some("True")
}

/// As nodes and pods are when there was no outage.
fn is_ordinary(bed: &Bed, node: &str) -> bool {
    let object = bed.node_now(node);
    let pods = pods(node).map(|pod| bed.pod_now(&pod));
    object["metadata"]["annotations"][SINCE].is_null()
        && Bed::condition(&object, "NetworkUnavailable").is_none()
        && pods.iter().all(|pod| {
            pod["metadata"]["annotations"][UNTIL].is_null()
                && Bed::condition(pod, "DisruptionTarget").is_none()
                && pod["spec"]["tolerations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|t| t["tolerationSeconds"] == AUTONOMY)
        })
}

async fn chance(dice: &mut Dice, world: &mut World<'_>, manager: Manager) -> Manager {
    let bed = world.bed;
    for node in world.heard.keys().cloned().collect::<Vec<_>>() {
        let awake = world.awake.contains(&node);
        // Half of them flap, the others stay away.
        let long = node.ends_with(['1', '3', '5', '7', '9']);
        if awake && dice.one_in(30) {
            world.awake.remove(&node);
            bed.silence(&node);
        } else if !awake && dice.one_in(if long { 150 } else { 8 }) {
            world.awake.insert(node.clone());
            bed.wake(&node);
        }
    }
    let writes = |method: &str, _: &str| ["PATCH", "DELETE"].contains(&method);
    match dice.throw(80) {
        0 => drop(bed.api.fault_times(5, Fault::Fail(500, "InternalError"), writes)),
        1 => drop(bed.api.fault_times(5, Fault::TooManyRequests(1), writes)),
        2 => bed.api.end_watches(),
        3 => world.set_clock(3_600),
        4 => world.set_clock(0),
        5 | 6 => {
            manager.kill().await;
            // The next one runs on a machine whose clock is right.
            world.set_clock(0);
            for _ in 0..dice.throw(12) {
                bed.renew();
                bed.clock.advance(5);
                world.step();
            }
            (world.disturbed, world.broken) = (world.now, world.now);
            return bed.manager(&[]).await;
        }
        _ => return manager,
    };
    world.disturbed = world.now;
    manager
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn whatever_happens_no_pod_goes_before_its_time_and_nothing_is_left() {
    let seed = number("YURT_SOAK_SEED", 20_261_130).max(1);
    println!("YURT_SOAK_SEED={seed}");
    let (bed, mut dice) = (Bed::new().await, Dice(seed));
    let names: Vec<String> = (0..NODES).map(|n| format!("n{n}")).collect();
    for name in &names {
        bed.node(name, &[(DURATION, "10m")]);
        pods(name).iter().for_each(|pod| bed.pod(pod, name, Some(tolerations(5))));
    }
    let mut manager = bed.manager(&[]).await;
    until("tolerations", || names.iter().all(|name| is_ordinary(&bed, name))).await;
    let mut world = World {
        bed: &bed,
        now: 0,
        awake: names.iter().cloned().collect(),
        heard: names.iter().map(|name| (name.clone(), 0)).collect(),
        given_up: BTreeSet::new(),
        timers: BTreeMap::new(),
        disturbed: 0,
        broken: 0,
        wrong: 0,
    };
    for _ in 0..number("YURT_SOAK_STEPS", 200) {
        manager = chance(&mut dice, &mut world, manager).await;
        bed.pass(&manager, 5).await;
        world.step();
        if world.now - world.disturbed > SETTLED {
            world.settled().await;
        }
    }
    for name in &names {
        world.awake.insert(name.clone());
        bed.wake(name);
    }
    world.step();
    bed.until(&manager, "ordinary nodes", || names.iter().all(|name| is_ordinary(&bed, name))).await;
    manager.stop().await;
}
