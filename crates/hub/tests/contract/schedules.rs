//! Watches under any order of events: the cloud changes, the link goes and comes back, the hub dies and starts again,
//! the cloud forgets its history, a client does not read. Clients as informers are: list, watch from there, go on from
//! the last version when a stream ends, list again when they are told to.
//!
//! What must hold (P4): an object is added once and only when it is not there, changed and deleted only when it is, its
//! versions grow, and in the end every client has exactly what the cloud has. A failure names its seed: run it again
//! with `YURT_SEED`; `YURT_SCHEDULES` runs more of them.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use yurt_testkit::client::{Client, Event, Protocol};
use yurt_testkit::cluster::Cluster;
use yurt_testkit::objects;

use crate::bed::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const COLORS: [&str; 3] = ["red", "green", "blue"];
const STEPS: usize = 40;
/// Who asks again when nothing was answered waits so long.
const AGAIN: Duration = Duration::from_millis(50);

/// Numbers that follow from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

/// What a client asks for.
#[derive(Clone, Copy)]
struct Asked {
    who: &'static str,
    selector: &'static str,
    accept: &'static str,
    slow: bool,
}

const CLIENTS: [Asked; 5] = [
    Asked { who: "plain", selector: "", accept: JSON, slow: false },
    Asked { who: "protobuf", selector: "", accept: PROTOBUF, slow: false },
    Asked { who: "reds", selector: "labelSelector=color%3Dred", accept: JSON, slow: false },
    Asked { who: "metadata", selector: "labelSelector=color%21%3Dgreen", accept: METADATA, slow: false },
    Asked { who: "slow", selector: "", accept: JSON, slow: true },
];

/// What a client has: the version of each object, and what went wrong.
#[derive(Default)]
struct Has {
    objects: BTreeMap<String, u64>,
    version: u64,
    lists: usize,
    log: Vec<String>,
    wrong: Option<String>,
}

impl Has {
    fn listed(&mut self, list: &Value) {
        let newer = version(list);
        if newer < self.version {
            self.complain(format!("a list of {newer} after version {}", self.version));
        }
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let named = |i: &Value| (i["metadata"]["name"].as_str().unwrap().to_owned(), version(i));
        self.objects = items.iter().map(named).collect();
        self.version = newer;
        self.lists += 1;
        self.log.push(format!("list of {newer}: {:?}", self.objects));
    }

    fn saw(&mut self, event: &Event) {
        let (name, at) = (event.name().to_owned(), event.version());
        self.log.push(format!("{} {name} {at}", event.kind));
        let held = self.objects.get(&name).copied();
        let fits = match event.kind.as_str() {
            "ADDED" => held.is_none(),
            "MODIFIED" | "DELETED" => held.is_some_and(|held| at > held),
            _ => true,
        };
        if !fits {
            self.complain(format!("{} {name} of {at}, held {held:?}", event.kind));
        }
        match event.kind.as_str() {
            "BOOKMARK" => {}
            "DELETED" => drop(self.objects.remove(&name)),
            _ => drop(self.objects.insert(name, at)),
        }
        self.version = self.version.max(at);
    }

    fn complain(&mut self, what: String) {
        let tail = self.log.len().saturating_sub(20);
        self.wrong.get_or_insert(format!("{what}; before it: {:#?}", &self.log[tail..]));
    }
}

/// A client of whatever process the hub is now.
#[derive(Clone)]
struct Informer {
    asked: Asked,
    has: Arc<Mutex<Has>>,
    hub: watch::Receiver<Client>,
    reading: watch::Receiver<bool>,
}

impl Informer {
    /// Lists and watches for ever.
    async fn run(mut self) {
        loop {
            let client = self.hub.borrow_and_update().token("ann-token");
            let path = format!("{MAPS}?{}", self.asked.selector);
            match client.get_as(&path, self.asked.accept).await {
                Ok(list) if list.code() == 200 => self.has.lock().unwrap().listed(&decoded(&list)),
                _ => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
            while self.watch().await {}
        }
    }

    /// One stream from the last version on; false when everything has to be listed again.
    async fn watch(&mut self) -> bool {
        let client = self.hub.borrow_and_update().token("ann-token");
        let from = self.has.lock().unwrap().version;
        let path = format!(
            "{MAPS}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&{}",
            self.asked.selector
        );
        let Ok(mut stream) = client.watch(&path, &single(self.asked.accept)).await else {
            tokio::time::sleep(AGAIN).await;
            return true;
        };
        loop {
            if self.asked.slow && self.reading.wait_for(|reading| *reading).await.is_err() {
                return false;
            }
            match stream.next().await {
                Ok(Some(event)) if event.kind == "ERROR" => {
                    if event.object["code"] != 410 {
                        self.has.lock().unwrap().complain(event.object.to_string());
                    }
                    return false;
                }
                Ok(Some(event)) => self.has.lock().unwrap().saw(&event),
                _ => return true,
            }
        }
    }
}

/// The stage of one schedule.
struct Story {
    cluster: Cluster,
    dice: Dice,
    hub: watch::Sender<Client>,
    reading: watch::Sender<bool>,
    informers: Vec<Informer>,
    cut: bool,
    done: Vec<String>,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let cluster = online().await;
        reader(&cluster, "ann", &["configmaps"]);
        let client = cluster.client(Protocol::Http2).timeout(Duration::from_secs(120));
        let (hub, of_hub) = watch::channel(client);
        let (reading, is_reading) = watch::channel(true);
        let informer =
            |asked| Informer { asked, has: Arc::default(), hub: of_hub.clone(), reading: is_reading.clone() };
        let informers: Vec<Informer> = CLIENTS.into_iter().map(informer).collect();
        for informer in &informers {
            tokio::spawn(informer.clone().run());
        }
        Story { cluster, dice: Dice(seed | 1), hub, reading, informers, cut: false, done: Vec::new() }
    }

    async fn step(&mut self) {
        let step = match self.dice.roll(20) {
            0..=10 => self.put(),
            11..=13 => {
                let name = self.dice.of(&NAMES);
                self.cluster.api.delete("configmaps", "default", name);
                format!("delete {name}")
            }
            14 => self.kill().await,
            15 | 16 => self.toggle_link().await,
            17 => {
                let reads = !*self.reading.borrow();
                self.reading.send_replace(reads);
                format!("the slow one reads: {reads}")
            }
            18 if self.dice.roll(3) == 0 => {
                self.cluster.api.compact();
                "compact".to_owned()
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(self.dice.roll(300) as u64)).await;
                "wait".to_owned()
            }
        };
        self.done.push(step);
    }

    fn put(&mut self) -> String {
        let (name, color) = (self.dice.of(&NAMES), self.dice.of(&COLORS));
        let api = &self.cluster.api;
        if api.exists("configmaps", "default", name) {
            let at = version(&api.modify("configmaps", "default", name, |o| {
                o["metadata"]["labels"] = json!({"color": color});
                o["data"]["turn"] = json!(self.done.len().to_string());
            }));
            return format!("{name} is {color} at {at}");
        }
        let mut object = objects::config_map("default", name, &[("turn", "0")]);
        object["metadata"]["labels"] = json!({"color": color});
        format!("{name} is new and {color} at {}", version(&api.create(object)))
    }

    async fn kill(&mut self) -> String {
        self.cluster.hub.crash_and_restart().await;
        let client = self.cluster.client(Protocol::Http2).timeout(Duration::from_secs(120));
        self.hub.send_replace(client);
        "kill".to_owned()
    }

    async fn toggle_link(&mut self) -> String {
        self.cut = !self.cut;
        if !self.cut {
            self.cluster.relay.heal();
            return "heal".to_owned();
        }
        match self.dice.roll(2) {
            0 => self.cluster.relay.refuse().await,
            _ => self.cluster.relay.hold(),
        }
        "cut".to_owned()
    }

    /// Whether every client has what the cloud has; or what went wrong before.
    fn all_have_the_truth(&self) -> Result<bool, String> {
        let truth = self.cluster.api.list("configmaps");
        let mut all = true;
        for informer in &self.informers {
            let has = informer.has.lock().unwrap();
            if let Some(wrong) = &has.wrong {
                return Err(format!("{}: {wrong}", informer.asked.who));
            }
            let matches = |o: &&Value| match informer.asked.who {
                "reds" => o["metadata"]["labels"]["color"] == "red",
                "metadata" => o["metadata"]["labels"]["color"] != "green",
                _ => true,
            };
            let mine = truth.iter().filter(|o| o["metadata"]["namespace"] == "default").filter(matches);
            let named = |o: &Value| (o["metadata"]["name"].as_str().unwrap().to_owned(), version(o));
            all &= has.objects == mine.map(named).collect();
        }
        Ok(all)
    }

    async fn end(mut self) -> Result<String, String> {
        self.reading.send_replace(true);
        self.cluster.relay.heal();
        until_link(&self.cluster, "Online").await;
        self.put();
        let same = tokio::time::timeout(SOON, async {
            while !self.all_have_the_truth()? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, String>(())
        });
        let has = |i: &Informer| {
            let has = i.has.lock().unwrap();
            let tail = has.log.len().saturating_sub(8);
            format!("{} has {:?} after {:#?}", i.asked.who, has.objects, &has.log[tail..])
        };
        match same.await {
            Ok(Ok(())) => {
                let lists: usize = self.informers.iter().map(|i| i.has.lock().unwrap().lists).sum();
                Ok(format!("{lists} lists of {} clients", CLIENTS.len()))
            }
            Ok(Err(wrong)) => Err(wrong),
            Err(_) => Err(self.informers.iter().map(has).collect::<Vec<_>>().join("\n")),
        }
    }
}

#[tokio::test]
async fn any_schedule_ends_with_the_truth() {
    let given = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let schedules = given("YURT_SCHEDULES").unwrap_or(1);
    for n in 0..schedules {
        let seed = given("YURT_SEED").unwrap_or_else(|| RandomState::new().hash_one(n));
        println!("YURT_SEED={seed}");
        let mut story = Story::begin(seed).await;
        for _ in 0..STEPS {
            story.step().await;
            if let Err(wrong) = story.all_have_the_truth() {
                panic!("YURT_SEED={seed}: {wrong}\nsteps: {:#?}", story.done);
            }
        }
        let steps = story.done.clone();
        match story.end().await {
            Ok(said) => println!("{said}"),
            Err(wrong) => panic!("YURT_SEED={seed}: {wrong}\nsteps: {steps:#?}"),
        }
    }
}
