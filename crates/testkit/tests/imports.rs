//! The tables of imports in ARCHITECTURE.md are the truth: a crate or a module of the hub uses what its row allows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each name uses, or may use.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The rows under the heading: the name in the first cell, and the names in each other cell.
fn table(document: &str, heading: &str) -> Vec<(String, Vec<BTreeSet<String>>)> {
    let section = document.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading:?}"));
    let rows = section.lines().skip_while(|l| !l.starts_with('|')).take_while(|l| l.starts_with('|')).skip(2);
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(quoted);
        (cells.next().unwrap().into_iter().next().expect("a row begins with its name"), cells.collect())
    })
    .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn column(rows: &[(String, Vec<BTreeSet<String>>)], cell: usize) -> Uses {
    rows.iter().map(|(name, cells)| (name.clone(), cells[cell].clone())).collect()
}

/// Every use that no row allows, every name without a row, every row without a name.
fn violations(allowed: &Uses, found: &Uses) -> Vec<String> {
    let mut wrong: Vec<String> =
        allowed.keys().filter(|n| !found.contains_key(*n)).map(|n| format!("{n} does not exist")).collect();
    for (name, uses) in found {
        match allowed.get(name) {
            None => wrong.push(format!("{name} has no row")),
            Some(row) => wrong.extend(uses.difference(row).map(|u| format!("{name} uses {u}"))),
        }
    }
    wrong
}

/// Names of the packages in a table of a manifest, such as `dependencies`.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|l| l.trim() != format!("[{table}]")).skip(1);
    let lines = lines.take_while(|l| !l.starts_with('[')).filter(|l| !l.trim_start().starts_with('#'));
    lines
        .filter_map(|l| l.split(['.', ' ', '=']).next())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

fn package(manifest: &str) -> String {
    let line = manifest.lines().find(|l| l.starts_with("name = ")).expect("a name");
    line.split('"').nth(1).unwrap().to_owned()
}

/// The manifests of the workspace.
fn manifests() -> Vec<String> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|e| e.unwrap().path());
    let others = ["e2e", "bench"].map(|d| root().join(d));
    let folders = crates.chain(others).filter(|d| d.join("Cargo.toml").exists());
    folders.map(|d| read(&d.join("Cargo.toml"))).collect()
}

fn among(names: &BTreeSet<String>, all: &BTreeSet<String>) -> BTreeSet<String> {
    names.intersection(all).cloned().collect()
}

#[test]
fn crates_use_what_their_rows_allow() {
    let rows = table(&read(&root().join("ARCHITECTURE.md")), "\n## Crates\n");
    let (code, tests) = (column(&rows, 1), column(&rows, 2));
    let manifests = manifests();
    let ours: BTreeSet<String> = manifests.iter().map(|m| package(m)).collect();
    let used = |table: &str| -> Uses {
        manifests.iter().map(|m| (package(m), among(&dependencies(m, table), &ours))).collect()
    };
    assert_eq!(violations(&code, &used("dependencies")), Vec::<String>::new());
    assert_eq!(violations(&tests, &used("dev-dependencies")), Vec::<String>::new());
    assert_eq!(used("build-dependencies").into_values().flatten().count(), 0);
}

#[test]
fn modules_of_the_hub_use_what_their_rows_allow() {
    let rows = table(&read(&root().join("ARCHITECTURE.md")), "\n## Modules of the hub\n");
    let allowed = column(&rows, 2);
    let source = root().join("crates/hub/src");
    let mut found = Uses::new();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["lib", "main"].contains(&name.as_str()) {
            let uses = found.entry(name.clone()).or_default();
            files(&path).iter().for_each(|f| uses.extend(imported(&read(f))));
            uses.remove(&name);
        }
    }
    assert_eq!(violations(&allowed, &found), Vec::<String>::new());
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path).unwrap().flat_map(|e| files(&e.unwrap().path())).collect()
}

/// The root modules that a source file names by `crate::`, its tests and comments left out.
fn imported(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    code.split("crate::").skip(1).flat_map(first_names).collect()
}

/// The names that a path after `crate::` begins with: one, or those of a group.
fn first_names(path: &str) -> Vec<String> {
    let ident = |text: &str| {
        let text = text.trim_start();
        text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())].to_owned()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![ident(path)] };
    let (mut depth, mut names, mut from) = (0, vec![ident(group)], 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => from = at + 1,
            _ => continue,
        }
        if c == ',' && depth == 0 {
            names.push(ident(&group[from..]));
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

#[test]
fn what_no_row_allows_is_found() {
    let uses = |pairs: &[(&str, &[&str])]| -> Uses {
        pairs.iter().map(|(n, u)| ((*n).to_owned(), u.iter().map(|u| (*u).to_owned()).collect())).collect()
    };
    let allowed = uses(&[("a", &["b"]), ("b", &[]), ("gone", &[])]);
    let found = uses(&[("a", &["b", "c"]), ("b", &[]), ("c", &[])]);
    assert_eq!(violations(&allowed, &found), ["gone does not exist", "a uses c", "c has no row"]);
}

#[test]
fn imports_are_read_wherever_they_stand() {
    let source = "
        use crate::{clock, cloud::{self, Lane}, tasks};
        // crate::admin is only spoken of.
        fn f() { crate::respond::full(crate::metrics::x()) }
        #[cfg(test)]
        mod tests { use crate::hub; }";
    let names: Vec<String> = imported(source).into_iter().collect();
    assert_eq!(names, ["clock", "cloud", "metrics", "respond", "tasks"]);
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nyurt-api.workspace = true\nb = { a = 1 }\n[dev-dependencies]\nc = \"1\"\n";
    assert_eq!(dependencies(manifest, "dependencies").into_iter().collect::<Vec<_>>(), ["b", "yurt-api"]);
    let table = table(
        "x\n## T\ntext\n| n | u |\n|---|---|\n| `a` | `b` and `c` |\n| `d` | |\n\n| `no` |",
        "\n## T\n",
    );
    assert_eq!(table.len(), 2);
    assert_eq!(quoted("`b` and `c`").len(), 2);
}
