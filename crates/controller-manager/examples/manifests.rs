//! Writes `deploy/` from the code: `cargo run -p yurt-controller-manager --example manifests -- deploy`.
//! Without a folder it prints the files.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    for (name, documents) in yurt_controller_manager::manifests::files() {
        let text: String = documents.iter().map(|d| format!("---{}\n", block(d, 0))).collect();
        match &folder {
            None => println!("# {name}\n{text}"),
            Some(folder) => {
                let path = folder.join(name);
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// A value in YAML's block style, for people; scalars and what is empty as JSON, which is YAML.
fn block(value: &Value, depth: usize) -> String {
    let line = |head: String| format!("\n{}{head}", "  ".repeat(depth));
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| line(format!("{}:{}", scalar(key), block(value, depth + 1))))
            .collect(),
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(|value| line(format!("-{}", block(value, depth + 1)))).collect()
        }
        Value::String(text) => format!(" {}", scalar(text)),
        other => format!(" {other}"),
    }
}

/// Words need no quotes; all else has those of JSON.
fn scalar(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-./$()_".contains(c));
    let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = word && !means_else.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
