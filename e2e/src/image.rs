//! Container images without a registry: an OCI layout in a tar file, made from one static busybox.

use crate::files;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

/// What holds a pod's namespaces open.
pub const PAUSE: &str = "registry.local/pause:1";
/// A web server on port 8080 with a shell and its usual tools beside it.
pub const WEB: &str = "registry.local/web:1";
/// The command of a running application container, as the kernel names it.
pub const WEB_COMMAND: &str = "httpd";

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 6] = ["sh", "sleep", "httpd", "cat", "echo", "env"];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes both images into `folder`; returns their files.
pub fn write_all(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    files::folder(folder)?;
    let images = [
        (PAUSE, vec!["/bin/sleep", "2147483647"]),
        (WEB, vec!["/bin/httpd", "-f", "-v", "-p", "8080", "-h", "/www"]),
    ];
    let busybox = std::fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}"))?;
    let mut written = Vec::new();
    for (index, (name, command)) in images.into_iter().enumerate() {
        let file = folder.join(format!("image-{index}.tar"));
        files::write(&file, layout(name, &command, &busybox)?)?;
        written.push(file);
    }
    Ok(written)
}

fn layout(name: &str, command: &[&str], busybox: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Tar::default();
    let layer = layer(busybox);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    }))?;
    let mut reference = descriptor(MANIFEST, &manifest);
    reference["annotations"] = json!({"io.containerd.image.name": name});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [reference]}))?;
    for blob in [&layer, &config, &manifest] {
        tar.file(&format!("blobs/sha256/{}", hash(blob)), 0o644, blob);
    }
    tar.file("index.json", 0o644, &index);
    tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    Ok(tar.finish())
}

fn layer(busybox: &[u8]) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.file("bin/busybox", 0o755, busybox);
    for applet in APPLETS {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.file("www/index.html", 0o644, b"hello from the edge\n");
    tar.finish()
}

/// Go's name of this machine's architecture, which image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hash(bytes))
}

fn hash(bytes: &[u8]) -> String {
    files::hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// A tar archive in the ustar format (POSIX.1-1988), as much of it as an image needs.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.header(name, mode, content.len(), b'0', "");
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.header(name, 0o777, 0, b'2', target);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    fn header(&mut self, name: &str, mode: u32, size: usize, kind: u8, target: &str) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000");
        // The checksum is taken with its own field filled by blanks.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(block);
    }
}
