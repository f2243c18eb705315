//! Combinations of the parameters of lists and watches, as a line says them: what the simulated apiserver, the real one
//! and the hub are held against.

use serde_json::Value;

/// The resourceVersion that a combination asks for: `now`, `old`, or what it says.
pub fn number(asked: &str, old: u64, now: u64) -> String {
    match asked {
        "now" => now.to_string(),
        "old" => old.to_string(),
        other => other.to_owned(),
    }
}

/// What the frames of a watch tell; bookmarks only where they end the initial events.
pub fn events(frames: &str) -> String {
    let mut told: Vec<String> = Vec::new();
    for frame in frames.lines() {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let (kind, meta) = (frame["type"].as_str().unwrap(), &frame["object"]["metadata"]);
        match kind {
            "BOOKMARK" if meta["annotations"]["k8s.io/initial-events-end"] == "true" => {
                told.push("end".into())
            }
            "BOOKMARK" => {}
            "ERROR" => told.push(format!("ERROR {}", frame["object"]["code"])),
            _ => told.push(format!("{kind} {}", meta["name"].as_str().unwrap())),
        }
    }
    format!("[{}]", told.join(", "))
}
