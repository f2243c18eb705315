//! Scenario 13: the link comes and goes every few seconds for minutes while the cloud changes objects beside many
//! large ones. Streams stay, nobody lists again, each change is told once, and what crosses the link is close
//! to what changed.

use crate::changes::{self, Changes};
use crate::client::Client;
use crate::group::Group;
use crate::informers::Informers;
use crate::link::{self, Cut};
use crate::node::HUB_ADMIN_PORT;
use crate::world::{HOMECOMING, World};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const FLAPPING: Duration = Duration::from_secs(120);
/// The link stays as it is for so many seconds at the least and at the most.
const STAYS: (u64, u64) = (1, 20);
/// Objects that do not change, and the size of each: a list of them would be seen on the link.
const FILLER: (usize, usize) = (300, 8_192);
/// The forms that informers read: each is a collection with a watch of its own.
const FORMS: u64 = 3;
/// What a return of the link may cost beside the changes: connections with their certificates, watches that are
/// taken up again, probes.
const BYTES_PER_FLAP: u64 = 250_000;

pub fn run(world: &mut World) -> Result<()> {
    world.dark()?;
    link::heal()?;
    world.node.start_hub()?;
    changes::with(world, story)
}

fn story(world: &mut World, changes: &mut Changes) -> Result<()> {
    changes.fill(FILLER.0, FILLER.1)?;
    world.wait_for("Online", HOMECOMING)?;
    let (config, _) = world.operator_configs()?;
    let mut informers = Group::prepare(world, &config, "flapping")?;
    informers.begin(changes.record.count())?;
    changes.round()?;
    informers.is_true(world, changes).context("before")?;
    let streams = informers.state()?;
    let cost = Cost::begin(changes)?;
    let flaps = flap(world, changes)?;
    informers.is_true(world, changes).context("after the flapping")?;
    let cost = cost.end(world, changes, flaps)?;
    informers.listed_once()?;
    stayed(&streams, &informers.state()?)?;
    cost.is_small(flaps).with_context(|| listed(world))
}

/// What the hub says of its lists.
fn listed(world: &World) -> String {
    let log = std::fs::read_to_string(world.settings.run.join("logs/yurthub.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains("listed anew")).collect::<Vec<_>>().join("\n")
}

/// An error when a stream has ended: its client would have begun another one.
fn stayed(before: &Informers, after: &Informers) -> Result<()> {
    for (name, informer) in after {
        if before.get(name).is_none_or(|before| before.watches != informer.watches) {
            bail!("the stream of {name} ended: {:?}", informer.failed);
        }
    }
    Ok(())
}

/// What crossed the link beside what changed in the cloud.
struct Cost {
    lists: usize,
    changed: u64,
    crossed: u64,
}

impl Cost {
    fn begin(changes: &Changes) -> Result<Cost> {
        link::count_bytes()?;
        Ok(Cost { lists: upstream_lists()?, changed: changes.record.bytes(), crossed: 0 })
    }

    fn end(self, world: &mut World, changes: &Changes, flaps: usize) -> Result<Cost> {
        let cost = Cost {
            lists: upstream_lists()? - self.lists,
            changed: changes.record.bytes() - self.changed,
            crossed: link::bytes_from_cloud()?,
        };
        world.report.count("flapping, times that the link came back", flaps);
        world.report.figure("flapping, bytes of changed objects (JSON)", float(cost.changed), "B", None);
        world.report.figure("flapping, bytes from the cloud", float(cost.crossed), "B", None);
        world.report.count("flapping, lists of the hub", cost.lists);
        Ok(cost)
    }

    fn is_small(&self, flaps: usize) -> Result<()> {
        if self.lists > 0 {
            bail!("the hub listed {} times", self.lists);
        }
        let limit = FORMS * self.changed + BYTES_PER_FLAP * u64::try_from(flaps)?;
        if self.crossed > limit {
            bail!("{} bytes came from the cloud, and at most {limit} should", self.crossed);
        }
        Ok(())
    }
}

/// Takes the link away and back for a while, with changes in both states; how often it came back.
fn flap(world: &World, changes: &mut Changes) -> Result<usize> {
    let start = Instant::now();
    let mut random = Random::new();
    println!("       flapping with seed {}", random.0);
    let mut flaps = 0;
    while start.elapsed() < FLAPPING {
        link::cut(if random.next(2) == 0 { Cut::BlackHole } else { Cut::Refused })?;
        changes.round()?;
        std::thread::sleep(Duration::from_secs(STAYS.0 + random.next(STAYS.1)));
        link::heal()?;
        flaps += 1;
        changes.round()?;
        std::thread::sleep(Duration::from_secs(STAYS.0 + random.next(STAYS.1)));
    }
    world.wait_for("Online", HOMECOMING)?;
    Ok(flaps)
}

/// Lists that the hub's reflectors made so far.
fn upstream_lists() -> Result<usize> {
    let answer = Client::plain(HUB_ADMIN_PORT).get("/metrics")?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("yurthub_upstream_lists_total "));
    line.with_context(|| format!("no count of lists in {text}"))?.trim().parse().context("a count of lists")
}

fn float(bytes: u64) -> f64 {
    u32::try_from(bytes).map_or(f64::INFINITY, f64::from)
}

/// Pseudo-random numbers (xorshift, Marsaglia 2003), enough for intervals.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Random(u64::from(since.subsec_nanos()) | 1)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % below
    }
}
