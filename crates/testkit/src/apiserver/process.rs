//! The apiserver as a process of its own.

use std::{path::PathBuf, time::Duration};

use serde_json::json;

use super::{Apiserver, Options, Principal};

/// Runs an apiserver until the process is killed:
/// `--dir DIR [--address ADDR:PORT] [--objects FILE] [--node NAME] [--admin-token TOKEN]`.
///
/// Its PKI goes to `DIR/pki`, with identities `kubernetes-admin` and, for each `--node NAME`, `system-node-NAME`;
/// `TOKEN` is accepted for the user `kubernetes-admin`, too. When it serves, `DIR/apiserver.json` says
/// `{"url", "pid"}`. `FILE` is a JSON array of objects to begin with.
/// Errors: an argument that is not known or a file that cannot be read, as text.
pub fn run_from_args(arguments: impl IntoIterator<Item = String>) -> Result<(), String> {
    let mut arguments = arguments.into_iter();
    let (mut dir, mut objects, mut nodes, mut options) = (None, None, Vec::new(), Options::default());
    let mut admin_token = None;
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--objects" => objects = Some(value),
            "--node" => nodes.push(value),
            "--admin-token" => admin_token = Some(value),
            "--address" => options.address = value.parse().map_err(|e| format!("--address {value}: {e}"))?,
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    let api = Apiserver::start_in(&dir.join("pki"), options);
    if let Some(file) = objects {
        load(&api, &file)?;
    }
    api.pki().admin();
    if let Some(token) = admin_token {
        api.add_token(&token, Principal::user("kubernetes-admin", &["system:masters"]));
    }
    for node in nodes {
        api.pki().node(&node);
    }
    let ready = json!({"url": api.url(), "pid": std::process::id()});
    let (file, part) = (dir.join("apiserver.json"), dir.join("apiserver.json.part"));
    std::fs::write(&part, ready.to_string()).map_err(|e| format!("{}: {e}", part.display()))?;
    std::fs::rename(&part, &file).map_err(|e| format!("{}: {e}", file.display()))?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn load(api: &Apiserver, file: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let objects: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|e| format!("{file}: {e}"))?;
    for object in objects {
        api.create(object);
    }
    Ok(())
}
