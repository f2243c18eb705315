//! Informers of client-go, in a program of their own (`e2e/clientgo`).

use crate::changes::NAMESPACE;
use crate::informers::Informers;
use crate::process::lines;
use crate::world::World;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// The longest that the program may think about a question.
const ANSWER: Duration = Duration::from_secs(20);

/// A running program with informers; it ends when dropped.
pub struct ClientGo {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl ClientGo {
    /// Starts the program with informers of everything that [`crate::changes`] changes.
    pub fn of_changes(world: &World, config: &Path, streaming: bool) -> Result<ClientGo> {
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let flags = [
            flag("through", config),
            flag("direct", &world.cluster.admin_config),
            format!("--namespace={NAMESPACE}"),
        ];
        let log = world.settings.run.join("logs/clientgo.log");
        ClientGo::start(&world.settings.client_go, streaming, &flags, &log)
    }

    /// Starts the program with these flags; with `streaming` its informers will begin with a streaming list.
    pub fn start(program: &Path, streaming: bool, flags: &[String], log: &Path) -> Result<ClientGo> {
        let mut child = Command::new(program)
            .args(flags)
            .env("KUBE_FEATURE_WatchListClient", streaming.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = lines(child.stdout.take().context("no standard output")?);
        Ok(ClientGo { child, questions, answers })
    }

    /// Starts the informers.
    pub fn begin(&mut self) -> Result<()> {
        self.ask("begin").map(drop)
    }

    /// Lets the informers take what the cloud holds now for their first list.
    pub fn seed(&mut self) -> Result<()> {
        self.ask_without_error("seed")
    }

    /// Lets the informers take an empty list of this version for their first.
    pub fn seed_with_nothing(&mut self, version: u64) -> Result<()> {
        self.ask_without_error(&format!("empty {version}"))
    }

    /// Every informer by its name.
    pub fn state(&mut self) -> Result<Informers> {
        Ok(serde_json::from_value(self.ask("state")?)?)
    }

    /// Remembers what the cloud holds now as the truth.
    pub fn remember_truth(&mut self) -> Result<()> {
        self.ask_without_error("truth")
    }

    /// An error that says where an informer's store is not the truth.
    pub fn equals_truth(&mut self) -> Result<()> {
        let differences = self.ask("compare")?;
        match differences.as_object().is_some_and(serde_json::Map::is_empty) {
            true => Ok(()),
            false => bail!("stores differ from the truth: {differences}"),
        }
    }

    fn ask_without_error(&mut self, question: &str) -> Result<()> {
        let answer = self.ask(question)?;
        if answer["error"].is_string() { bail!("{question}: {answer}") } else { Ok(()) }
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        writeln!(self.questions, "{question}").context("the program with client-go has ended")?;
        let line = self.answers.recv_timeout(ANSWER).with_context(|| format!("no answer to {question}"))?;
        serde_json::from_str(&line).with_context(|| format!("answer to {question}: {line}"))
    }
}

impl Drop for ClientGo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
