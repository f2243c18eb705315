//! `deploy/` is what the code says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::Value;

#[test]
fn deploy_is_what_the_code_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for (name, documents) in yurt_controller_manager::manifests::files() {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let written: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let run = "run: cargo run -p yurt-controller-manager --example manifests -- deploy";
        assert_eq!(written, documents, "deploy/{name} differs from the code; {run}");
    }
}
