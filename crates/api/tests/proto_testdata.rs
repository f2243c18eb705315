//! The samples that the Kubernetes modules carry of every built-in kind, as JSON and as protobuf: each is converted
//! both ways, to equal JSON and to the same bytes.
//!
//! The modules come from the Go module cache or proxy. Without Go or network the test says so and passes; where
//! `CI=true` is set it fails instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use yurt_api::proto;
use yurt_api::resource::TypeMeta;

#[allow(dead_code)]
#[path = "../examples/generate_schema/generate.rs"]
mod generate;
#[allow(dead_code)]
#[path = "../examples/generate_schema/go.rs"]
mod go;

/// The folder of a Kubernetes module, or None with a loud word when it cannot be had.
fn module(name: &str) -> Option<PathBuf> {
    match go::module_folder(&format!("k8s.io/{name}"), generate::VERSION) {
        Ok(folder) => Some(PathBuf::from(folder)),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("NOT TESTED: {why}"),
        Err(why) => {
            eprintln!("NOT TESTED, k8s.io/{name} cannot be had: {why}");
            None
        }
    }
}

#[test]
fn the_schema_is_what_the_modules_say() {
    if module("api").is_some() {
        let fresh = generate::schema().unwrap();
        let kept = include_str!("../src/proto/schema.txt");
        assert!(
            fresh == kept,
            "src/proto/schema.txt is stale: cargo run -p yurt-api --example generate_schema"
        );
    }
}

#[test]
fn every_sample_converts_both_ways() {
    let Some(api) = module("api") else { return };
    for (folder, at_least) in [("HEAD", 180), ("v1.33.0", 100), ("v1.32.0", 100)] {
        let mut seen = 0;
        for pb in samples(&api.join("testdata").join(folder)) {
            seen += usize::from(sample(&pb, folder == "HEAD"));
        }
        assert!(seen >= at_least, "{folder}: {seen} samples");
    }
}

fn samples(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // A file beside the sample of an older release says that this one has lost some of its fields.
    let mut found: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(".pb")).collect();
    let changed = |path: &PathBuf| {
        ["pb", "json"].iter().any(|e| path.with_extension(format!("after_roundtrip.{e}")).exists())
    };
    found.retain(|path| !path.to_string_lossy().contains("after_roundtrip") && !changed(path));
    found
}

/// Checks one sample; false when it is of a kind that this release has no more.
fn sample(pb: &Path, current: bool) -> bool {
    let (mut tm, message) = envelope(&std::fs::read(pb).unwrap());
    let untyped = tm.kind.is_empty();
    if untyped {
        tm = TypeMeta::new("v1", "WatchEvent"); // the one object that does not say what it is
    }
    if !proto::knows(&tm) {
        assert!(!current, "{}: {tm:?}", pb.display());
        return false;
    }
    let expected = std::fs::read(pb.with_extension("json")).unwrap();
    let made = proto::to_json(&tm, &message).unwrap_or_else(|error| panic!("{}: {error}", pb.display()));
    let (mut made, expected_value): (Value, Value) =
        (serde_json::from_slice(&made).unwrap(), serde_json::from_slice(&expected).unwrap());
    if untyped {
        made.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    }
    assert_eq!(made, expected_value, "{}", pb.display());
    // Compact: embedded JSON (RawExtension) is kept with its white space.
    let compact = serde_json::to_vec(&expected_value).unwrap();
    let back = proto::from_json(&tm, &compact).unwrap_or_else(|error| panic!("{}: {error}", pb.display()));
    assert!(back == message, "{}: other bytes than Go's", pb.display());
    true
}

/// Opens runtime.Unknown: the type and the bare message.
fn envelope(bytes: &[u8]) -> (TypeMeta, Vec<u8>) {
    let fields = fields(bytes.strip_prefix(b"k8s\0").expect("the magic number"));
    let part = |number| fields.iter().find(|(n, _)| *n == number).map_or(&[][..], |(_, bytes)| bytes);
    let type_meta = self::fields(part(1));
    let text = |index: usize| String::from_utf8(type_meta[index].1.to_vec()).unwrap();
    (TypeMeta { api_version: text(0), kind: text(1) }, part(2).to_vec())
}

/// Fields of a message that has only strings and messages.
fn fields(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [tag, rest @ ..] = bytes {
        let (mut length, mut shift, mut used) = (0usize, 0, 0);
        for byte in rest {
            length |= usize::from(byte & 0x7f) << shift;
            (shift, used) = (shift + 7, used + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (value, next) = rest[used..].split_at(length);
        found.push((tag >> 3, value));
        bytes = next;
    }
    found
}
