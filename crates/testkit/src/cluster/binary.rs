//! Where the real binaries are.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The yurthub binary: `YURTHUB_BIN`, else the one beside this executable, built by cargo when it is missing.
pub fn yurthub() -> PathBuf {
    if let Some(path) = std::env::var_os("YURTHUB_BIN") {
        return path.into();
    }
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| beside("yurthub", "yurt-hub")).clone()
}

/// The yurt-controller-manager binary: `YURT_MANAGER_BIN`, else as [`yurthub`].
pub fn manager() -> PathBuf {
    match std::env::var_os("YURT_MANAGER_BIN") {
        Some(path) => path.into(),
        None => beside("yurt-controller-manager", "yurt-controller-manager"),
    }
}

fn beside(binary: &str, package: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("the path of this executable");
    let mut folder = executable.parent().expect("a folder").to_owned();
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.pop();
    }
    let path = folder.join(binary);
    if !path.exists() {
        build(package, &folder);
    }
    assert!(path.exists(), "{} is missing; set YURTHUB_BIN or YURT_MANAGER_BIN", path.display());
    path
}

fn build(package: &str, folder: &Path) {
    let profile = match folder.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = folder.parent().expect("a target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--package", package, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .status();
    assert!(status.is_ok_and(|s| s.success()), "cannot build {package}");
}
