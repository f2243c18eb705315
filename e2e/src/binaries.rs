//! Where the programs come from: Kubernetes and etcd from the Go modules beside this crate, the hub from
//! cargo, kubectl from `.ci/install`. What takes minutes to build is kept outside the tree, under a name
//! that changes with its sources.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Clients refuse to parse the version that an unstamped build reports.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.34.4 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34";

/// The folder for what outlives a build tree: `YURT_CACHE`, else `~/.cache/yurt`.
pub fn cache() -> Result<PathBuf> {
    let folder = match std::env::var_os("YURT_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("neither YURT_CACHE nor HOME is set")?)
            .join(".cache/yurt"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The binary of the Go module in `source`, built when the cache does not hold it for these sources.
pub fn go(source: &Path, name: &str, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("{name}-{}", fingerprint(source)?));
    let binary = folder.join(name);
    if !binary.exists() {
        println!("building {name} from {} (minutes when cold)", source.display());
        std::fs::create_dir_all(&folder)?;
        let unfinished = folder.join(format!("{name}.{}", std::process::id()));
        build_go(source, &unfinished)?;
        std::fs::rename(&unfinished, &binary)?;
    }
    Ok(binary)
}

/// Builds a binary of the workspace with cargo and returns its path.
pub fn cargo(top: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "-p", package, "--bin", name]).current_dir(top);
    succeed(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    let binary = top.join(target).join("release").join(name);
    if !binary.exists() {
        bail!("cargo built no {}", binary.display());
    }
    Ok(binary)
}

/// Builds an integration test of the workspace with cargo, as `cargo test` does, and returns the path of its program.
pub fn cargo_test(top: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--no-run", "--message-format=json", "-p", package, "--test", name]).current_dir(top);
    let output = cargo.stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("{cargo:?}: {}", output.status);
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let built = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).find_map(|message| {
        let ours = message["target"]["name"] == name && message["target"]["kind"][0] == "test";
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    built.with_context(|| format!("cargo built no test {name}"))
}

/// The kubectl that `.ci/install` put into the cache.
pub fn kubectl(cache: &Path) -> Result<PathBuf> {
    std::fs::read_dir(cache)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl-")))
        .map(|path| path.join("bin/kubectl"))
        .find(|path| path.exists())
        .with_context(|| format!("no kubectl in {}: run .ci/install", cache.display()))
}

fn build_go(source: &Path, output: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(source)
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .args(["build", "-trimpath", "-ldflags", &format!("-s -w {KUBERNETES_VERSION}"), "-o"])
        .arg(output)
        .arg(".");
    succeed(&mut go)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

fn fingerprint(source: &Path) -> Result<String> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let entries = std::fs::read_dir(source).with_context(|| format!("reading {}", source.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "go" || kind == "mod" || kind == "sum"));
    files.sort();
    for file in files {
        digest.update(&std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    digest.update(KUBERNETES_VERSION.as_bytes());
    Ok(crate::files::hex(&digest.finish().as_ref()[..8]))
}
