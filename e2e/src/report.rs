//! What a run found: lines for people while it goes on, a file for scripts at the end.

use anyhow::Result;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// One figure, or one case as passed (1) or not (0).
#[derive(Debug, Clone, Serialize)]
struct Entry {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<f64>,
    ok: bool,
}

/// The entries of a run.
#[derive(Debug, Default)]
pub struct Report {
    entries: Vec<Entry>,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Notes a figure in seconds that should not exceed `limit`; missing it fails no case.
    pub fn seconds(&mut self, name: &str, value: Duration, limit: Option<Duration>) {
        self.figure(name, value.as_secs_f64(), "s", limit.map(|limit| limit.as_secs_f64()));
    }

    /// Notes a figure that should not exceed `limit`; missing it fails no case.
    pub fn figure(&mut self, name: &str, value: f64, unit: &'static str, limit: Option<f64>) {
        let ok = limit.is_none_or(|limit| value <= limit);
        let (said, mark) = match limit {
            Some(limit) => (format!(" (limit {limit:.3} {unit})"), if ok { "" } else { " MISSED" }),
            None => (String::new(), ""),
        };
        println!("      {name}: {value:.3} {unit}{said}{mark}");
        self.entries.push(Entry { name: name.to_string(), value, unit, limit, ok });
    }

    /// Notes how many there were of something.
    pub fn count(&mut self, name: &str, value: usize) {
        self.figure(name, f64::from(u32::try_from(value).unwrap_or(u32::MAX)), "", None);
    }

    /// Notes how a case ended.
    pub fn case(&mut self, name: &str, outcome: &Result<()>, took: Duration) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok     {name} ({:.0} s)", took.as_secs_f64());
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED {name} ({:.0} s): {error:#}", took.as_secs_f64());
            }
        }
        self.cell(&format!("case {name}"), outcome.is_ok());
    }

    /// Notes a part of a case that prints its own table, as passed or not.
    pub fn cell(&mut self, name: &str, ok: bool) {
        let value = f64::from(u8::from(ok));
        self.entries.push(Entry { name: name.to_string(), value, unit: "passed", limit: Some(1.0), ok });
    }

    /// Writes the file, prints the closing line and returns the number of failed cases.
    pub fn close(&self, file: &Path) -> Result<usize> {
        if let Some(folder) = file.parent() {
            crate::files::folder(folder)?;
        }
        crate::files::write(file, serde_json::to_vec_pretty(&self.entries)?)?;
        println!("{} passed, {} failed", self.passed, self.failed);
        Ok(self.failed)
    }
}
