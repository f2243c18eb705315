//! Packs `src/proto/schema.txt` into arrays without pointers: nothing to relocate and nothing to parse at run time.
// Building reads and writes files; what is built does not.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt::Write;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=src/proto/schema.txt");
    let text = std::fs::read_to_string("src/proto/schema.txt").map_err(|error| error.to_string())?;
    let folder = std::env::var("OUT_DIR").map_err(|error| error.to_string())?;
    let packed = Packer::default().pack(&text)?;
    std::fs::write(format!("{folder}/tables.rs"), packed).map_err(|error| error.to_string())
}

/// A field line, taken apart.
struct Line<'a> {
    name: &'a str,
    number: u8,
    shape: &'static str,
    kind: &'static str,
    message: u16,
    flags: u8,
    merge_key: &'a str,
}

#[derive(Default)]
struct Packer<'a> {
    pool: String,
    offsets: BTreeMap<&'a str, usize>,
    numbers: BTreeMap<&'a str, u16>,
    messages: Vec<(&'a str, Vec<Line<'a>>)>,
}

impl<'a> Packer<'a> {
    fn pack(mut self, text: &'a str) -> Result<String, String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("message "));
        self.numbers = names.zip(0..).collect();
        let (mut kinds, mut resources) = (Vec::new(), Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["kind", version, kind, message] => kinds.push((*version, *kind, self.number(message)?)),
                ["resource", version, resource, kind] => resources.push((*version, *resource, *kind)),
                ["message", name] => self.messages.push((*name, Vec::new())),
                ["", name, number, token, flags @ ..] => {
                    let line = self.line(name, number, token, flags)?;
                    self.messages.last_mut().ok_or("a field before the first message")?.1.push(line);
                }
                _ => return Err(format!("schema.txt: {line}")),
            }
        }
        kinds.sort_unstable();
        resources.sort_unstable();
        Ok(self.write(&kinds, &resources))
    }

    fn number(&self, message: &str) -> Result<u16, String> {
        self.numbers.get(message).copied().ok_or_else(|| format!("schema.txt: no message {message}"))
    }

    fn line(&self, name: &'a str, number: &str, token: &str, flags: &[&'a str]) -> Result<Line<'a>, String> {
        let shapes = [("*", "Pointer"), ("[]", "List"), ("map:", "Map"), ("inline:", "Inline")];
        let shape = shapes.iter().find_map(|(mark, shape)| Some((*shape, token.strip_prefix(mark)?)));
        let (shape, base) = shape.unwrap_or(("Value", token));
        let message = match base {
            _ if base.starts_with("schemaor") => self.number("apiextensions/v1.JSONSchemaProps")?,
            _ if base.contains('.') => self.number(base)?,
            _ => 0,
        };
        let number = number.parse().map_err(|_| format!("schema.txt: field number {number}"))?;
        let bit = |flag: &&str| match flag.split('=').next() {
            Some("omitempty") => 1,
            Some("omitzero") => 2,
            Some("merge") => 4,
            Some("retainKeys") => 8,
            Some("replace") => 16,
            _ => 0,
        };
        let merge_key = flags.iter().find_map(|flag| flag.strip_prefix("merge=")).unwrap_or("");
        let flags = flags.iter().map(bit).fold(0, std::ops::BitOr::bitor);
        Ok(Line { name, number, shape, kind: kind(base)?, message, flags, merge_key })
    }

    /// How many slots a message takes when the fields of its inline messages are its own.
    fn slots(&self, message: usize) -> usize {
        self.messages[message].1.iter().map(|line| self.slots_of(line)).sum()
    }

    fn slots_of(&self, line: &Line<'_>) -> usize {
        if line.shape == "Inline" { self.slots(line.message.into()) } else { 1 }
    }

    fn name(&mut self, name: &'a str) -> usize {
        let offset = *self.offsets.entry(name).or_insert_with(|| {
            self.pool.push_str(name);
            self.pool.len() - name.len()
        });
        offset << 8 | name.len()
    }

    fn write(
        mut self,
        kinds: &[(&'a str, &'a str, u16)],
        resources: &[(&'a str, &'a str, &'a str)],
    ) -> String {
        let (mut fields, mut messages, mut order) = (String::new(), String::new(), String::new());
        let (mut first, mut count) = (0, 0);
        let sizes = |lines: &Vec<Line<'_>>| lines.iter().map(|line| self.slots_of(line)).collect();
        let totals: Vec<Vec<usize>> = self.messages.iter().map(|(_, lines)| sizes(lines)).collect();
        for ((_, lines), sizes) in std::mem::take(&mut self.messages).iter().zip(&totals) {
            let mut slot = 0;
            for (line, size) in lines.iter().zip(sizes) {
                let (name, merge_key) = (self.name(line.name), self.name(line.merge_key));
                let Line { number, shape, kind, message, flags, .. } = line;
                let _ = writeln!(
                    fields,
                    "f({name},{merge_key},{message},{number},{slot},Kind::{kind},Shape::{shape},{flags}),"
                );
                slot += size;
                count += 1;
            }
            let _ = writeln!(messages, "Message{{first:{first},count:{},slots:{slot}}},", lines.len());
            let mut by_number: Vec<usize> = (0..lines.len()).collect();
            by_number.sort_by_key(|index| lines[*index].number);
            by_number.iter().for_each(|index| order.push_str(&format!("{index},")));
            first = count;
        }
        let kinds: Vec<_> = kinds.iter().map(|(a, b, m)| (self.name(a), self.name(b), *m)).collect();
        let resources: Vec<_> =
            resources.iter().map(|(a, b, c)| (self.name(a), self.name(b), self.name(c))).collect();
        format!(
            "static NAMES: &str = {:?};\nstatic FIELDS: [Field; {count}] = [\n{fields}];\n\
             static ORDER: [u8; {count}] = [{order}];\nstatic MESSAGES: [Message; {}] = [\n{messages}];\n\
             static KINDS: [(u32, u32, u16); {}] = {kinds:?};\nstatic RESOURCES: [(u32, u32, u32); {}] = {resources:?};\n",
            self.pool,
            totals.len(),
            kinds.len(),
            resources.len(),
        )
    }
}

fn kind(token: &str) -> Result<&'static str, String> {
    Ok(match token {
        "string" => "String",
        "bool" => "Bool",
        "int32" => "Int32",
        "int64" => "Int64",
        "double" => "Double",
        "bytes" => "Bytes",
        "time" => "Time",
        "microtime" => "MicroTime",
        "quantity" => "Quantity",
        "intorstring" => "IntOrString",
        "raw" => "Raw",
        "strings" => "Strings",
        "schemaorarray" => "SchemaOrArray",
        "schemaorbool" => "SchemaOrBool",
        "schemaorstrings" => "SchemaOrStrings",
        message if message.contains('.') => "Message",
        other => return Err(format!("schema.txt: type {other}")),
    })
}
