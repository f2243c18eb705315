//! Reads Go declarations: just the part of the syntax that the Kubernetes `types.go` files use.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// One Go package: what its `type` declarations say.
pub struct Package {
    /// `apps` for k8s.io/api/apps/v1; `` for core.
    pub group: String,
    /// Declarations by type name.
    pub types: BTreeMap<String, Declaration>,
}

/// `type Name <shape>` with the marker comments above it.
pub struct Declaration {
    /// Lines such as `+genclient` and `+protobuf.nullable=true`, without `// `.
    pub markers: Vec<String>,
    /// What is declared.
    pub shape: Shape,
    /// Import path by the name the file uses.
    pub imports: BTreeMap<String, String>,
}

/// The right hand side of a declaration.
pub enum Shape {
    /// `struct { ... }`
    Struct(Vec<GoField>),
    /// Any other type expression.
    Other(String),
}

/// One field of a struct.
pub struct GoField {
    /// Name in Go; the type's own name for an embedded field.
    pub name: String,
    /// Type expression as written.
    pub go_type: String,
    /// No name of its own: embedded.
    pub embedded: bool,
    /// Struct tags by key.
    pub tags: BTreeMap<String, String>,
}

/// The folder in the module cache of `module@version`, downloaded if need be.
pub fn module_folder(module: &str, version: &str) -> Result<String, String> {
    let folder = std::env::temp_dir();
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        .current_dir(folder)
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .output()
        .map_err(|error| format!("go: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.split('"').next().map(str::to_owned))
        .ok_or_else(|| format!("go mod download {module}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Parses all hand written files of the package in `folder`.
pub fn read_package(folder: &Path) -> Result<Package, String> {
    let mut package = Package { group: String::new(), types: BTreeMap::new() };
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let made = name.ends_with("_test.go") || name.contains("generated");
        if name.ends_with(".go") && !made {
            let text = std::fs::read_to_string(entry.path()).map_err(|error| format!("{name}: {error}"))?;
            read_file(&text, &mut package);
        }
    }
    Ok(package)
}

fn read_file(text: &str, package: &mut Package) {
    let imports = imports(text);
    let mut markers = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(group) =
            line.strip_prefix("const GroupName = ").or(line.strip_prefix("const GroupName string = "))
        {
            package.group = group.trim().trim_matches('"').to_owned();
        } else if let Some(comment) = line.strip_prefix("//") {
            markers.push(comment.trim().to_owned());
            continue;
        } else if let Some((name, rest)) = line.strip_prefix("type ").and_then(|rest| rest.split_once(' ')) {
            let rest = without_comment(rest).trim_start_matches("= ").trim();
            let shape = match rest {
                "struct {" => {
                    Shape::Struct(lines.by_ref().take_while(|line| *line != "}").filter_map(field).collect())
                }
                "struct{}" => Shape::Struct(Vec::new()),
                other => Shape::Other(other.to_owned()),
            };
            let declaration = Declaration { markers: markers.clone(), shape, imports: imports.clone() };
            package.types.insert(name.to_owned(), declaration);
        }
        // A blank line between the marker block and the doc comment is common: only code ends it.
        if !line.trim().is_empty() {
            markers.clear();
        }
    }
}

fn imports(text: &str) -> BTreeMap<String, String> {
    let body =
        text.split_once("import (").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(body, _)| body);
    let single =
        text.lines().filter_map(|line| line.strip_prefix("import ")).filter(|line| line.contains('"'));
    body.lines().chain(single).filter_map(import).collect()
}

fn import(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.trim().split_once('"')?;
    let path = rest.split('"').next()?;
    let name = if name.is_empty() { path.rsplit('/').next()? } else { name.trim() };
    Some((name.to_owned(), path.to_owned()))
}

fn field(line: &str) -> Option<GoField> {
    let line = line.trim();
    if line.starts_with("//") {
        return None;
    }
    let (declaration, rest) = line.split_once('`').unwrap_or((without_comment(line), ""));
    let tags = tags(rest.split('`').next().unwrap_or(""));
    let words: Vec<&str> = declaration.split_whitespace().collect();
    let (name, go_type, embedded) = match words.as_slice() {
        [one] => (one.rsplit('.').next()?, *one, true),
        [name, go_type] => (*name, *go_type, false),
        _ => return None,
    };
    Some(GoField { name: name.to_owned(), go_type: go_type.to_owned(), embedded, tags })
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn tags(mut text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some((key, rest)) = text.split_once(":\"") {
        let (value, rest) = rest.split_once('"').unwrap_or((rest, ""));
        found.insert(key.trim().to_owned(), value.to_owned());
        text = rest;
    }
    found
}
