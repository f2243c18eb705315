//! The rows: a table for people, a file for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was measured; begins with the name of its case.
    pub name: String,
    /// The figure; nothing when it could not be measured.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// What it must not be above; nothing when it is told only to be known.
    pub limit: Option<f64>,
    /// It was measured and is not above its limit.
    pub ok: bool,
    /// What it stands beside, for the table.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub beside: String,
}

impl Row {
    /// A figure without a limit.
    pub fn told(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            name: name.into(),
            value: Some(value),
            unit: unit.into(),
            limit: None,
            ok: true,
            beside: String::new(),
        }
    }

    /// A figure that must not be above `limit`.
    pub fn limited(name: impl Into<String>, value: f64, unit: &str, limit: f64) -> Self {
        Self { limit: Some(limit), ok: value <= limit, ..Self::told(name, value, unit) }
    }

    /// A figure that could not be measured, and why.
    pub fn unmeasured(name: impl Into<String>, unit: &str, why: impl Into<String>) -> Self {
        Self { value: None, ok: false, beside: why.into(), ..Self::told(name, 0.0, unit) }
    }

    /// The same with what it stands beside.
    pub fn beside(self, text: impl Into<String>) -> Self {
        Self { beside: text.into(), ..self }
    }
}

/// All rows of a run.
#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Takes in the rows of a case, or its failure.
    pub fn add(&mut self, case: &str, rows: Result<Vec<Row>>) {
        match rows {
            Ok(rows) => self.0.extend(rows),
            Err(error) => self.0.push(Row::unmeasured(case, "", format!("failed: {error:#}"))),
        }
    }

    /// No case was run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows are not ok.
    pub fn missed(&self) -> usize {
        self.0.iter().filter(|r| !r.ok).count()
    }

    /// The table and one closing line.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let width = self.0.iter().map(|r| r.name.len()).max().unwrap_or(0);
        for row in &self.0 {
            let value = row.value.map_or("-".to_owned(), number);
            let limit = row.limit.map_or(String::new(), |l| format!("<= {}", number(l)));
            let verdict = match (row.ok, row.limit) {
                (false, _) => "missed",
                (true, Some(_)) => "ok",
                (true, None) => "",
            };
            let line = format!(
                "{:width$}  {value:>9} {:6} {limit:>9}  {verdict:6}  {}",
                row.name, row.unit, row.beside
            );
            writeln!(out, "{}", line.trim_end()).ok();
        }
        let limited = self.0.iter().filter(|r| r.limit.is_some() || !r.ok).count();
        let missed = self.missed();
        writeln!(out, "\n{} within their limits, {missed} missed", limited - missed).ok();
        out
    }

    /// Writes the rows; `merge` keeps those of an earlier run that this one did not measure.
    pub fn write(&self, path: &Path, merge: bool) -> Result<()> {
        let at = || path.display().to_string();
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).with_context(at)?;
        let earlier = std::fs::read(path).ok().filter(|_| merge);
        let earlier: Vec<Row> =
            earlier.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let new: BTreeMap<&str, ()> = self.0.iter().map(|r| (r.name.as_str(), ())).collect();
        let kept = earlier.iter().filter(|r| !new.contains_key(r.name.as_str()));
        let all: Vec<&Row> = kept.chain(&self.0).collect();
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n").with_context(at)
    }
}

/// Three significant digits, as people read them.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 || (v >= 1.0 && v.fract() == 0.0) => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_figure_is_said_and_counted() {
        let mut report = Report::default();
        report.add("a", Ok(vec![Row::limited("a x", 2.0, "ms", 1.0), Row::limited("a y", 1.0, "ms", 1.0)]));
        report.add("b", Err(anyhow::anyhow!("broken")));
        assert_eq!(report.missed(), 2);
        let table = report.table();
        assert!(table.contains("missed") && table.contains("failed: broken"), "{table}");
        assert!(table.ends_with("1 within their limits, 2 missed\n"), "{table}");
    }

    #[test]
    fn a_part_of_a_run_replaces_only_its_own_rows() {
        let path = std::env::temp_dir().join(format!("yurt-bench-report-{}.json", std::process::id()));
        let one = |name: &str, value| Report(vec![Row::told(name, value, "ms")]);
        one("a", 1.0).write(&path, false).unwrap();
        one("b", 2.0).write(&path, true).unwrap();
        one("a", 3.0).write(&path, true).unwrap();
        let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let values: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.value)).collect();
        assert_eq!(values, [("b", Some(2.0)), ("a", Some(3.0))]);
    }
}
