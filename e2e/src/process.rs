//! Processes that a run starts: one-off commands, long-lived components with a log, and components that
//! are started again when they exit, as a service manager would.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause before a component that exited is started again.
const RESTART: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// A program with its arguments, and the file that its output goes to.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file to run; its name is also the component's.
    pub path: PathBuf,
    /// Arguments after the name.
    pub args: Vec<String>,
    /// Where standard output and error are appended.
    pub log: PathBuf,
}

impl Program {
    /// A program whose log is `<logs>/<name>.log`.
    pub fn new(path: &Path, logs: &Path, args: impl IntoIterator<Item = impl Into<String>>) -> Program {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let log = logs.join(format!("{name}.log"));
        Program { path: path.to_path_buf(), args: args.into_iter().map(Into::into).collect(), log }
    }

    fn spawn(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.path.display()))
    }
}

/// A started component, killed when dropped.
pub struct Running {
    program: Program,
    child: Child,
}

impl Running {
    /// Starts the program.
    pub fn start(program: Program) -> Result<Running> {
        let child = program.spawn()?;
        Ok(Running { program, child })
    }

    /// An error with the end of the log when the component has exited.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => {
                bail!("{} ended ({status}): {}", self.program.path.display(), last_lines(&self.program.log))
            }
            None => Ok(()),
        }
    }

    /// What was started.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A component that is started again whenever it exits, until dropped.
pub struct Supervised {
    state: Arc<Mutex<Supervision>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Supervision {
    stopped: bool,
    child: Option<Child>,
}

impl Supervised {
    /// Starts the program and keeps it running.
    pub fn start(program: Program) -> Supervised {
        let state = Arc::new(Mutex::new(Supervision::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || supervise(&program, &shared));
        Supervised { state, thread: Some(thread) }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        if let Some(child) = &mut state.child {
            let _ = child.kill();
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn supervise(program: &Program, shared: &Mutex<Supervision>) {
    let mut start_at = Instant::now();
    loop {
        let mut state = lock(shared);
        let exited = match &mut state.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => false,
        };
        if exited {
            state.child = None;
            start_at = Instant::now() + RESTART;
        }
        if state.stopped && state.child.is_none() {
            return;
        }
        if !state.stopped && state.child.is_none() && Instant::now() >= start_at {
            state.child = program.spawn().ok();
        }
        drop(state);
        std::thread::sleep(POLL);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command to its end, `input` on its standard input; an error holds what it printed.
///
/// # Errors
/// When it does not start, exits with another code than 0 or takes longer than `limit`.
pub fn output(command: &mut Command, input: &str, limit: Duration) -> Result<String> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input closes it, and that is no error of ours.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{shown} took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(POLL);
    };
    let (stdout, stderr) = (joined(stdout), joined(stderr));
    if !status.success() {
        bail!("{shown}: {status}: {}{}", stdout.trim(), stderr.trim());
    }
    Ok(stdout)
}

/// What a process prints, line by line, read by a thread of its own so that a case can do something else.
pub fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    // More than any case lets lie unread.
    let (send, received) = sync_channel(10_000);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// Runs a short command of the machine's, such as `ip` or `iptables`.
pub fn quick(program: &str, args: &[&str]) -> Result<String> {
    output(Command::new(program).args(args), "", Duration::from_secs(20))
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(thread: Option<JoinHandle<String>>) -> String {
    thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// The end of a log file, for error messages.
pub fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
