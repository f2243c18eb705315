//! What became of the specs: read from the program's file, joined over the lanes of a side, and judged.

use crate::report::Report;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What became of one spec.
#[derive(Debug, Deserialize)]
pub struct Spec {
    name: String,
    state: String,
    seconds: f64,
    attempts: u32,
    #[serde(default)]
    message: String,
}

/// Specs by name.
pub type Specs = BTreeMap<String, Spec>;

impl Spec {
    fn passed(&self) -> bool {
        self.state == "passed"
    }

    /// Whether it came to an end of its own.
    fn ended(&self) -> bool {
        !matches!(self.state.as_str(), "interrupted" | "aborted" | "timedout")
    }

    fn said(&self) -> String {
        format!("{} {} after {:.0} s: {}", self.name, self.state, self.seconds, self.message)
    }
}

/// Reads what the program wrote, one JSON object a line.
pub fn read(file: &Path) -> Result<Vec<Spec>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// An error unless the lanes of a side have run each planned spec to its end, and each once.
pub fn joined(planned: &[Spec], lanes: impl IntoIterator<Item = Vec<Spec>>) -> Result<Specs> {
    let mut all = Specs::new();
    for spec in lanes.into_iter().flatten() {
        if let Some(twice) = all.insert(spec.name.clone(), spec) {
            bail!("two lanes have run {}", twice.name);
        }
    }
    let cut: Vec<_> = planned.iter().filter(|spec| !all.get(&spec.name).is_some_and(Spec::ended)).collect();
    match cut.first() {
        None => Ok(all),
        Some(first) => bail!("{} of {} specs have no end, such as {}", cut.len(), planned.len(), first.name),
    }
}

/// An error when a spec passes direct and not through the hub; what fails direct is told.
pub fn judge(report: &mut Report, direct: &Specs, through: &Specs) -> Result<()> {
    let passed = |specs: &Specs| specs.values().filter(|spec| spec.passed()).count();
    report.count("upstream specs that pass direct", passed(direct));
    report.count("upstream specs that pass through the hub", passed(through));
    for (side, specs) in [("direct", direct), ("through the hub", through)] {
        let again: Vec<_> = specs.values().filter(|spec| spec.passed() && spec.attempts > 1).collect();
        report.count(&format!("upstream specs that pass {side} at the second attempt"), again.len());
        again.iter().for_each(|spec| println!("      at the second attempt {side}: {}", spec.name));
    }
    for (name, spec) in direct.iter().filter(|(_, spec)| !spec.passed()) {
        let same = through.get(name).map_or("not run", |same| same.state.as_str());
        println!("      direct: {}; through the hub: {same}", spec.said());
    }
    let lost = only(direct, through);
    if !lost.is_empty() {
        bail!("{} specs pass direct and not through the hub: {}", lost.len(), lost.join("; "));
    }
    if passed(direct) == 0 {
        bail!("no spec passed: {direct:?}");
    }
    Ok(())
}

/// What the second says of the specs that pass in the first only.
fn only(first: &Specs, second: &Specs) -> Vec<String> {
    let other = |spec: &Spec| match second.get(&spec.name) {
        Some(same) if same.passed() => None,
        Some(other) => Some(other.said()),
        None => Some(format!("{} was not run", spec.name)),
    };
    first.values().filter(|spec| spec.passed()).filter_map(other).collect()
}
