//! From Go declarations to the lines of `schema.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::go::{self, Declaration, GoField, Package, Shape};

/// The release whose types are described.
pub const VERSION: &str = "v0.34.4";

const HEADER: &str = "\
# Facts about the API types of Kubernetes: made by `cargo run -p yurt-api --example generate_schema`, not by hand.
# kind <apiVersion> <Kind> <message>          what an object of that type is on the wire
# resource <apiVersion> <resource> <Kind>     what a URL names
# message <name>, then one line a field in the order of its JSON:
#  <JSON name or -> <field number> [*|[]|map:|inline:]<type> [flags: omitempty omitzero merge merge=<key> replace retainKeys]
";

/// Kinds that every group version knows (apimachinery, meta/v1/register.go, AddToGroupVersion).
const OPTIONS: [&str; 7] = [
    "WatchEvent",
    "ListOptions",
    "GetOptions",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
];
/// Kinds without a group, registered as `v1`.
const UNVERSIONED: [&str; 5] = ["Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"];
/// Kinds of the group meta.k8s.io.
const META: [&str; 2] = ["PartialObjectMetadata", "PartialObjectMetadataList"];

/// Types whose JSON is written by hand in Go, with the token that stands for them.
const SPECIAL: [(&str, &str); 11] = [
    ("meta/v1.Time", "time"),
    ("meta/v1.MicroTime", "microtime"),
    ("meta/v1.Duration", "duration"),
    ("meta/v1.FieldsV1", "raw"),
    ("apimachinery/pkg/runtime.RawExtension", "raw"),
    ("apiextensions/v1.JSON", "raw"),
    ("apimachinery/pkg/api/resource.Quantity", "quantity"),
    ("apimachinery/pkg/util/intstr.IntOrString", "intorstring"),
    ("apiextensions/v1.JSONSchemaPropsOrArray", "schemaorarray"),
    ("apiextensions/v1.JSONSchemaPropsOrBool", "schemaorbool"),
    ("apiextensions/v1.JSONSchemaPropsOrStringArray", "schemaorstrings"),
];

/// The package of UID and NodeName: strings, and nothing that is an object.
const SIMPLE: &str = "apimachinery/pkg/types";

/// The whole text of `schema.txt`.
pub fn schema() -> Result<String, String> {
    let mut source = Source::load()?;
    let mut text = format!("{HEADER}# Modules: k8s.io/... {VERSION}\n");
    let kinds = source.kinds();
    for (api_version, kind, message) in &kinds {
        let _ = writeln!(text, "kind {api_version} {kind} {message}");
    }
    for line in source.resources() {
        let _ = writeln!(text, "{line}");
    }
    let mut waiting: Vec<String> = kinds.into_iter().map(|(_, _, message)| message).collect();
    while let Some(name) = waiting.pop() {
        waiting.extend(source.describe(&name)?);
    }
    for (name, fields) in &source.done {
        let _ = writeln!(text, "message {name}\n{}", fields.join("\n"));
    }
    Ok(text.replace("\n\n", "\n"))
}

struct Source {
    packages: BTreeMap<String, Package>,
    done: BTreeMap<String, Vec<String>>,
}

impl Source {
    fn load() -> Result<Self, String> {
        let mut packages = BTreeMap::new();
        for module in ["api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"] {
            let folder = PathBuf::from(go::module_folder(&format!("k8s.io/{module}"), VERSION)?);
            for path in package_folders(&folder) {
                let import =
                    format!("k8s.io/{module}/{}", path.strip_prefix(&folder).unwrap_or(&path).display());
                if let Some(name) = short(&import) {
                    packages.insert(name, go::read_package(&path)?);
                }
            }
            if module == "apimachinery" {
                packages.insert(SIMPLE.to_owned(), go::read_package(&folder.join("pkg/types"))?);
            }
        }
        Ok(Self { packages, done: BTreeMap::new() })
    }

    fn declaration(&self, name: &str) -> Option<&Declaration> {
        let (package, name) = name.rsplit_once('.')?;
        self.packages.get(package)?.types.get(name)
    }

    /// (apiVersion, Kind, message) of everything that can be an object of its own.
    fn kinds(&self) -> BTreeSet<(String, String, String)> {
        let mut kinds = BTreeSet::new();
        for (package, content) in self.packages.iter().filter(|(name, _)| !name.starts_with("meta/")) {
            let typed = content.types.iter().filter(|(_, declaration)| has_type_meta(declaration));
            for (kind, _) in typed {
                kinds.insert((api_version(package, content), kind.clone(), format!("{package}.{kind}")));
            }
        }
        let mut add = |version: &str, kind: &str| {
            kinds.insert((version.to_owned(), kind.to_owned(), format!("meta/v1.{kind}")));
        };
        OPTIONS.iter().for_each(|kind| add("*", kind));
        UNVERSIONED.iter().for_each(|kind| add("v1", kind));
        META.iter().for_each(|kind| add("meta.k8s.io/v1", kind));
        add("meta.k8s.io/v1beta1", META[0]);
        add("v1", "List");
        kinds.insert(("meta.k8s.io/v1beta1".into(), META[1].into(), format!("meta/v1beta1.{}", META[1])));
        kinds
    }

    /// Types with a client have a resource, named by the plural of the kind.
    fn resources(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (package, content) in &self.packages {
            for (kind, declaration) in &content.types {
                let client = declaration.markers.iter().any(|marker| marker == "+genclient");
                if client && has_type_meta(declaration) {
                    lines.insert(format!(
                        "resource {} {} {kind}",
                        api_version(package, content),
                        plural(kind)
                    ));
                }
            }
        }
        lines.insert("resource v1 bindings Binding".to_owned());
        lines
    }

    /// Describes the message `name`; returns the messages that it refers to.
    fn describe(&mut self, name: &str) -> Result<Vec<String>, String> {
        if self.done.contains_key(name) {
            return Ok(Vec::new());
        }
        let declaration = self.declaration(name).ok_or_else(|| format!("no type {name}"))?;
        let fields = match &declaration.shape {
            Shape::Struct(fields) => fields,
            Shape::Other(_) => return Err(format!("{name} is no struct")),
        };
        let (mut lines, mut found) = (Vec::new(), Vec::new());
        for field in fields.iter().filter(|field| field.tags.contains_key("protobuf")) {
            let (line, message) = self.field(name, declaration, field)?;
            lines.push(line);
            found.extend(message);
        }
        self.done.insert(name.to_owned(), lines);
        Ok(found)
    }

    fn field(
        &self,
        owner: &str,
        from: &Declaration,
        field: &GoField,
    ) -> Result<(String, Option<String>), String> {
        let json = field.tags.get("json").map_or("", String::as_str);
        let (name, options) = json.split_once(',').unwrap_or((json, ""));
        let number = field.tags.get("protobuf").and_then(|tag| tag.split(',').nth(1)).unwrap_or("?");
        let inline = field.embedded && name.is_empty();
        let token = self.token(owner, from, &field.go_type)?;
        let name = match (inline, name) {
            (true, _) => "-",
            (false, "") => &field.name,
            (false, name) => name,
        };
        let mut line = format!(" {name} {number} {}{token}", if inline { "inline:" } else { "" });
        for option in options.split(',').filter(|option| option.starts_with("omit")) {
            let _ = write!(line, " {option}");
        }
        for strategy in
            field.tags.get("patchStrategy").map_or("", String::as_str).split(',').filter(|s| !s.is_empty())
        {
            let _ = write!(line, " {strategy}");
            if let ("merge", Some(key)) = (strategy, field.tags.get("patchMergeKey")) {
                let _ = write!(line, "={key}");
            }
        }
        let base =
            token.trim_start_matches(['*', '[', ']']).trim_start_matches("map:").trim_start_matches("[]");
        Ok((line, base.contains('.').then(|| base.to_owned())))
    }

    /// The token of a Go type expression, seen from a file of the package of `owner`.
    fn token(&self, owner: &str, from: &Declaration, go_type: &str) -> Result<String, String> {
        if go_type == "[]byte" {
            return Ok("bytes".to_owned());
        }
        if let Some(pointed) = go_type.strip_prefix('*') {
            return Ok(format!("*{}", self.token(owner, from, pointed)?));
        }
        if let Some(element) = go_type.strip_prefix("[]") {
            return Ok(format!("[]{}", self.token(owner, from, element.trim_start_matches('*'))?));
        }
        if let Some((_, value)) = go_type.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return Ok(format!("map:{}", self.token(owner, from, value)?));
        }
        if ["string", "bool", "int32", "int64"].contains(&go_type) {
            return Ok(go_type.to_owned());
        }
        if go_type == "float64" {
            return Ok("double".to_owned());
        }
        self.named(&self.qualify(owner, from, go_type)?)
    }

    fn qualify(&self, owner: &str, from: &Declaration, go_type: &str) -> Result<String, String> {
        let Some((package, name)) = go_type.split_once('.') else {
            let package = owner.rsplit_once('.').map_or("", |(package, _)| package);
            return Ok(format!("{package}.{go_type}"));
        };
        let import = from.imports.get(package).ok_or_else(|| format!("{owner}: import of {go_type}"))?;
        let package = short(import).unwrap_or_else(|| import.trim_start_matches("k8s.io/").to_owned());
        Ok(format!("{package}.{name}"))
    }

    fn named(&self, name: &str) -> Result<String, String> {
        if let Some((_, token)) = SPECIAL.iter().find(|(special, _)| *special == name) {
            return Ok((*token).to_owned());
        }
        let declaration = self.declaration(name).ok_or_else(|| format!("no type {name}"))?;
        match &declaration.shape {
            Shape::Struct(_) => Ok(name.to_owned()),
            // A slice type that must tell nil from empty is a message with one repeated field.
            Shape::Other(other) if other == "[]string" => Ok("strings".to_owned()),
            Shape::Other(other) => self.token(name, declaration, other),
        }
    }
}

fn has_type_meta(declaration: &Declaration) -> bool {
    let Shape::Struct(fields) = &declaration.shape else { return false };
    let wire = fields.iter().any(|field| field.tags.contains_key("protobuf"));
    wire && fields.iter().any(|field| field.embedded && field.name == "TypeMeta")
}

fn api_version(package: &str, content: &Package) -> String {
    let version = package.rsplit('/').next().unwrap_or("");
    if content.group.is_empty() { version.to_owned() } else { format!("{}/{version}", content.group) }
}

/// `core/v1` for k8s.io/api/core/v1, `meta/v1` for k8s.io/apimachinery/pkg/apis/meta/v1; None for other packages.
fn short(import: &str) -> Option<String> {
    let roots = [
        "k8s.io/apimachinery/pkg/apis/",
        "k8s.io/apiextensions-apiserver/pkg/apis/",
        "k8s.io/kube-aggregator/pkg/apis/",
        "k8s.io/api/",
    ];
    let name = roots.iter().find_map(|root| import.strip_prefix(root))?;
    let known = name.contains("/v") && name != "apiextensions/v1beta1" && !name.starts_with("testapigroup");
    known.then(|| name.to_owned())
}

/// Folders two levels below `folder` or its `pkg/apis` that hold a wire description.
fn package_folders(folder: &Path) -> Vec<PathBuf> {
    let subfolders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let roots = [folder.to_owned(), folder.join("pkg/apis")];
    let groups = roots.iter().flat_map(|root| subfolders(root));
    groups.flat_map(|group| subfolders(&group)).filter(|path| path.join("generated.proto").exists()).collect()
}

/// The resource of a kind (apimachinery, meta.UnsafeGuessKindToResource).
fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_bytes().last() {
        _ if lower == "endpoints" => lower,
        Some(b's') => format!("{lower}es"),
        Some(b'y') => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    }
}
