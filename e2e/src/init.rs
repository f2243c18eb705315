//! The namespaces of a run, from outside and from within. Outside: `enter` becomes `unshare`. Within: `run`
//! is process 1, which prepares mounts and network, starts the cases, buries orphans, and whatever happened
//! kills what is left and removes the cgroups. The kernel ends every process with process 1.

use crate::settings::Settings;
use crate::{cgroup, container, files, process};
use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// A run that takes longer hangs: the suite's own waits add up to less.
const DEADLINE: Duration = Duration::from_secs(40 * 60);
const POLL: Duration = Duration::from_millis(50);

/// Folders at fixed places that kubelet, containerd and the CNI plugins write to; a run has its own there.
const PRIVATE: [&str; 5] =
    ["/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers"];

/// What a kubelet sets for the whole machine, network namespace or not; put back at the end.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Replaces this process by `unshare`, which starts `init` in new namespaces. Returns only an error.
pub fn enter(settings: &Settings) -> Result<ExitCode> {
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"])
        .arg("--kill-child=KILL")
        .arg("--")
        .arg(std::env::current_exe()?)
        .arg("init")
        .arg(settings.file())
        .exec();
    Err(error).context("starting unshare")
}

/// Process 1: prepares, runs the cases, cleans up. The exit code is that of the cases.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let lock = File::create(&settings.lock)?;
    lock.try_lock().with_context(|| format!("another run holds {}", settings.lock.display()))?;
    let before = SYSCTLS.map(|name| (name, fs::read_to_string(sysctl(name)).ok()));
    let outcome = prepare(settings).and_then(|()| cases(settings));
    let cleaned = kill_everything().and_then(|()| cgroup::remove());
    for (name, value) in before {
        restore(name, value.as_deref());
    }
    let passed = matches!(outcome, Ok(0));
    tidy(settings, passed);
    cleaned?;
    Ok(ExitCode::from(outcome?))
}

fn prepare(settings: &Settings) -> Result<()> {
    cgroup::remove().context("the cgroups of an earlier run")?;
    cgroup::create()?;
    mounts(&settings.run)?;
    network()
}

fn mounts(run: &Path) -> Result<()> {
    for place in PRIVATE {
        let own = run.join(place.trim_start_matches('/').replace('/', "-"));
        files::folder(&own)?;
        files::folder(Path::new(place))?;
        mount_bind(&own, place).with_context(|| format!("mounting {} at {place}", own.display()))?;
    }
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), c"mode=755").context("mounting /run")
}

/// Loopback, and an interface for the node's own address: the kubelet refuses a loopback one.
fn network() -> Result<()> {
    let steps = [
        "link set lo up".to_string(),
        "link add node0 type bridge".to_string(),
        format!("addr add {}/24 dev node0", container::NODE_ADDRESS),
        "link set node0 up".to_string(),
        // Where the addresses of Services would be looked for: kube-proxy turns them into pods' before.
        "route add 10.96.0.0/16 dev node0".to_string(),
    ];
    for step in steps {
        process::quick("ip", &step.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Starts the cases and buries every orphan until they end; their exit code.
fn cases(settings: &Settings) -> Result<u8> {
    let mut command = Command::new(std::env::current_exe()?);
    let child: Child = command.arg("cases").arg(settings.file()).spawn().context("starting the cases")?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((id, status))) if id.as_raw_pid().unsigned_abs() == child.id() => {
                return Ok(code(status));
            }
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() > deadline && !settings.keep => {
                bail!("the cases took longer than {} min", DEADLINE.as_secs() / 60)
            }
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return Err(error).context("waiting for the cases"),
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Kills all that is left in this process namespace and waits until it is gone.
fn kill_everything() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left: Vec<Pid> = container::processes().into_iter().filter(|id| !id.is_init()).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{} processes do not end", left.len());
        }
        for id in left {
            let _ = kill_process(id, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        std::thread::sleep(POLL);
    }
}

fn sysctl(name: &str) -> String {
    format!("/proc/sys/{name}")
}

fn restore(name: &str, value: Option<&str>) {
    if let Some(value) = value
        && fs::read_to_string(sysctl(name)).ok().as_deref() != Some(value)
        && let Err(error) = fs::write(sysctl(name), value)
    {
        eprintln!("e2e: {name} could not be put back to {}: {error}", value.trim());
    }
}

/// After a pass the folder goes; after a failure the logs stay and what is merely large goes.
fn tidy(settings: &Settings, passed: bool) {
    let unmounted: Vec<_> = PRIVATE.iter().map(|place| unmount(place)).collect();
    if unmounted.contains(&false) {
        return;
    }
    if passed && !settings.keep {
        let _ = fs::remove_dir_all(&settings.run);
        return;
    }
    for large in ["var-lib-containerd", "var-lib-kubelet", "etcd"] {
        let _ = fs::remove_dir_all(settings.run.join(large));
    }
    eprintln!("e2e: logs are in {}", settings.run.display());
}

/// Detaches a private folder with everything mounted below it, so that removing files cannot reach a mount.
fn unmount(place: &str) -> bool {
    crate::node::unmount_below(place).is_ok()
        && rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH).is_ok()
}
