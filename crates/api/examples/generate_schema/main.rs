//! Writes `src/proto/schema.txt` anew from the Go types of the Kubernetes modules:
//!
//! ```text
//! cargo run -p yurt-api --example generate_schema
//! ```
//!
//! Needs Go and, for modules that are not in its cache, the Go module proxy. Afterwards run the crate's tests:
//! `tests/proto_testdata.rs` converts the modules' own samples with the new table.
// A tool: it reads and writes files.
#![allow(clippy::disallowed_methods)]

mod generate;
mod go;

fn main() -> Result<(), String> {
    let text = generate::schema()?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto/schema.txt");
    std::fs::write(path, &text).map_err(|error| format!("{path}: {error}"))?;
    println!("{path}: {} lines", text.lines().count());
    Ok(())
}
