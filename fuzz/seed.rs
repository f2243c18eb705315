//! Writes the seeds into the folders where cargo-fuzz looks for them: `cargo run --bin seeds` in `fuzz/`.

#[path = "seeds.rs"]
mod seeds;

fn main() -> std::io::Result<()> {
    for (target, inputs) in seeds::all() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), input)?;
        }
    }
    Ok(())
}
