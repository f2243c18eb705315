//! The targets of `fuzz/` on their seeds and on a bounded number of mutations of these: what cargo-fuzz does for
//! hours with coverage, for a moment and without. `YURT_FUZZ_SEED` and `YURT_FUZZ_TURNS` choose which and how many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../../../fuzz/properties.rs"]
mod properties;
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Mutations of one target when nothing else is asked for.
const TURNS: u64 = 4000;

/// SplitMix64: all that chance has to be here.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One to four changes of a kind that parsers dislike.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        let end = at + chance.below(input.len() + 1 - at);
        match chance.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end.min(at + 40))),
            2 => input
                .insert(at, [0, b'"', b'{', b'[', b',', b'\\', b'\n', 0x7f, 0x80, 0xff][chance.below(10)]),
            3 => {
                let part = input[at..end.min(at + 200)].to_vec();
                input.splice(at..at, part);
            }
            4 => {
                let other = &others[chance.below(others.len())];
                let from = chance.below(other.len() + 1);
                let until = from + chance.below(other.len() + 1 - from);
                input.splice(at..end, other[from..until].iter().copied());
            }
            5 if at < input.len() => input[at] = input[at].wrapping_add([1, 255, 8, 16][chance.below(4)]),
            6 if at < input.len() => input[at] = chance.next() as u8,
            _ if at < input.len() => input[at] ^= 1 << chance.below(8),
            _ => {}
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn run(name: &str, target: fn(&[u8])) {
    let seeds = seeds::all().into_iter().find(|(of, _)| *of == name).expect("seeds").1;
    seeds.iter().for_each(|seed| target(seed));
    let seed = number("YURT_FUZZ_SEED", std::process::id().into());
    println!("YURT_FUZZ_SEED={seed}");
    let mut chance = Chance(seed);
    for turn in 0..number("YURT_FUZZ_TURNS", TURNS) {
        let mut input = seeds[chance.below(seeds.len())].clone();
        mutate(&mut input, &seeds, &mut chance);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            panic!(
                "YURT_FUZZ_SEED={seed}, turn {turn}: {name} fails on {:?}",
                String::from_utf8_lossy(&input)
            );
        }
    }
}

#[test]
fn requests() {
    run("request", properties::request);
}

#[test]
fn selectors() {
    run("selectors", properties::selectors);
}

#[test]
fn metadata() {
    run("metadata", properties::metadata);
}

#[test]
fn protobuf_to_json() {
    run("to_json", properties::to_json);
}

#[test]
fn json_to_protobuf() {
    run("from_json", properties::from_json);
}

#[test]
fn watches() {
    run("watch", properties::watch);
}

#[test]
fn lists() {
    run("list", properties::list);
}

#[test]
fn patches() {
    run("patch", properties::patch);
}

#[test]
fn statuses() {
    run("status", properties::status);
}

#[test]
fn what_is_deep_is_refused_and_not_the_end() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"metadata\":{\"labels\":", "}}")] {
        let text = deep(open, close);
        properties::metadata(&[&[0, 0], text.as_bytes()].concat());
        properties::from_json(&[&[9], text.as_bytes()].concat());
        properties::watch(&[&[0, 255], text.as_bytes(), b"\n"].concat());
        properties::list(&[&[0], text.as_bytes()].concat());
        properties::status(text.as_bytes());
        properties::patch(&[&[2, 0], text.as_bytes(), b"\n{}"].concat());
    }
    // A schema within schemas, each the first property of the one around it.
    let mut message = Vec::new();
    for _ in 0..5000 {
        let length = message.len();
        let mut outer = vec![0xfa, 0x01];
        let mut rest = length;
        while rest >= 0x80 {
            outer.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        outer.push(rest as u8);
        outer.append(&mut message);
        message = outer;
    }
    properties::to_json(&[&[9], &message[..]].concat());
    properties::metadata(&[&[1, 0], &message[..]].concat());
}
