//! nginx as a plain reverse proxy: TLS on both sides, the node's certificate upstream, connections kept.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const BINARY: &str = "/usr/sbin/nginx";

/// What it is started with.
pub struct Options<'a> {
    /// Where its files go.
    pub folder: &'a Path,
    /// The folder of the cluster's certificates.
    pub pki: &'a Path,
    /// The apiserver.
    pub upstream: SocketAddr,
    /// The node's certificate and key.
    pub identity: [PathBuf; 2],
}

/// A running nginx: one process. It ends with this value.
pub struct Nginx {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts it; nothing when it is not installed.
    pub async fn start(options: Options<'_>) -> Result<Option<Self>> {
        if !Path::new(BINARY).exists() {
            return Ok(None);
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = options.folder.join("nginx.conf");
        std::fs::write(&file, configuration(&options, address))?;
        let log = std::fs::File::create(options.folder.join("nginx.log"))?;
        let mut command = Command::new(BINARY);
        command.arg("-p").arg(options.folder).arg("-e").arg(options.folder.join("nginx-error.log"));
        command
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let mut nginx = Self { child: command.spawn().context(BINARY)?, address };
        nginx.wait_serving(options.folder).await?;
        Ok(Some(nginx))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    async fn wait_serving(&mut self, folder: &Path) -> Result<()> {
        for _ in 0..500 {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(folder.join("nginx.log")).unwrap_or_default();
                bail!("nginx has ended: {status}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("nginx does not listen on {}", self.address)
    }
}

fn configuration(options: &Options<'_>, address: SocketAddr) -> String {
    let (folder, pki) = (options.folder.display(), options.pki.display());
    let [certificate, key] = options.identity.each_ref().map(|p| p.display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.map(|t| format!("  {t}_temp_path {folder}/nginx-{t};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nevents {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n{temporary}  keepalive_requests 100000000;\n  keepalive_timeout 600s;\n\
         \x20 upstream apiserver {{ server {upstream}; keepalive 16; keepalive_requests 100000000; }}\n\
         \x20 server {{\n    listen {address} ssl http2;\n    http2_max_requests 100000000;\n\
         \x20   ssl_certificate {pki}/apiserver.crt;\n    ssl_certificate_key {pki}/apiserver.key;\n\
         \x20   ssl_client_certificate {pki}/ca.crt;\n    ssl_verify_client optional;\n\
         \x20   location / {{\n      proxy_pass https://apiserver;\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n      proxy_buffering off;\n      proxy_read_timeout 600s;\n\
         \x20     proxy_ssl_certificate {certificate};\n      proxy_ssl_certificate_key {key};\n\
         \x20     proxy_ssl_trusted_certificate {pki}/ca.crt;\n      proxy_ssl_verify on;\n\
         \x20     proxy_ssl_name localhost;\n    }}\n  }}\n}}\n",
        upstream = options.upstream,
    )
}
