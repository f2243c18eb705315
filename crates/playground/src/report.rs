//! What the reader sees: chapters, a line per check, a progress bar on a terminal.
//!
//! Finished lines go to stdout as plain text, so that a log of the run reads like the run itself.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stdout},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A check of the chapter has failed: what follows stands on it, so the story ends here.
pub struct Broken;

/// The state of the telling.
pub struct Report {
    bar: ProgressBar,
    colors: bool,
    begun: Instant,
    passed: usize,
    failed: usize,
}

impl Report {
    /// A story of so many chapters.
    pub fn new(chapters: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(chapters), ProgressDrawTarget::stdout());
        let style =
            ProgressStyle::with_template("{spinner} {bar:16} {pos}/{len} chapters, {elapsed}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(100));
        let colors = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { bar, colors, begun: Instant::now(), passed: 0, failed: 0 }
    }

    /// Text between the checks.
    pub fn say(&self, text: &str) {
        // A reader who has gone (`| head`) is no reason to fail.
        self.bar.suspend(|| drop(writeln!(stdout(), "{text}")));
    }

    /// A new chapter: its title, and what it is about.
    pub fn chapter(&self, title: &str, about: &str) {
        self.say(&format!("\n{}\n{about}", self.paint("1", title)));
    }

    /// Runs a check and tells how it ended: `claim` is what is checked, the step's value the evidence.
    pub async fn check<T: Display>(&mut self, claim: &str, step: impl Future<Output = anyhow::Result<T>>) {
        self.bar.set_message(claim.to_owned());
        match step.await {
            Ok(evidence) => {
                self.passed += 1;
                self.say(&format!(
                    "  {} {claim}{}",
                    self.paint("32", "✓"),
                    after_colon(&evidence.to_string())
                ));
            }
            Err(error) => {
                self.failed += 1;
                let why = format!("{error:#}").replace('\n', "\n      ");
                self.say(&format!("  {} {claim}\n      {why}", self.paint("31", "✗ FAILED")));
            }
        }
    }

    /// The end of a chapter.
    pub fn turn_page(&self) -> Result<(), Broken> {
        self.bar.inc(1);
        if self.failed == 0 { Ok(()) } else { Err(Broken) }
    }

    /// The closing line.
    pub fn close(&self) {
        self.bar.finish_and_clear();
        if self.failed > 0 {
            self.say("\nThe story ends here: what follows stands on what has failed.");
        }
        let line = format!("{} passed, {} failed", self.passed, self.failed);
        let color = if self.failed == 0 { "1;32" } else { "1;31" };
        self.say(&format!(
            "\nTold in {:.1} s.\n{}",
            self.begun.elapsed().as_secs_f64(),
            self.paint(color, &line)
        ));
    }

    /// Checks that failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn after_colon(evidence: &str) -> String {
    if evidence.is_empty() { String::new() } else { format!(": {evidence}") }
}

/// A span of time as people read it.
pub fn time(span: Duration) -> String {
    match span.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.01 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}
