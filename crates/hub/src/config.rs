//! Flags and the configuration file. A flag wins over the file; an unknown key is an error.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use clap::error::ErrorKind;
use rustls_pki_types::ServerName;
use serde::Deserialize;

use crate::cloud::{Mode, ServerAddress};
use crate::credential::CredentialFiles;

/// A port on the node: HTTPS for local clients.
const SECURE_PORT: u16 = 10268;
/// A port on the node: health, metrics and status.
const ADMIN_PORT: u16 = 10267;
/// Addresses for local clients: loopback, a dummy interface and their like in both families.
const MAX_ADDRESSES: usize = 8;
/// The default bound on what the cache keeps of reads that nobody watches, in bytes.
const CACHE_BYTES: u64 = 512 << 20;
/// With less than this not even the node's own pods would fit, in bytes.
const CACHE_BYTES_LEAST: u64 = 1 << 20;

/// yurthub: the Kubernetes API of an edge node, with or without its cloud.
#[derive(Debug, Default, Parser)]
#[command(name = "yurthub", version)]
pub struct Flags {
    /// A YAML file with the same keys as the flags; a flag wins over the file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    values: Values,
}

/// Every setting, absent where neither said.
#[derive(clap::Args, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Values {
    /// The apiservers: https URLs, separated by commas.
    #[arg(long, value_name = "URLS")]
    server_addr: Option<String>,
    /// How several apiservers are used: rr (requests take turns) or priority (the first that is well) [default: rr].
    #[arg(long, value_name = "MODE")]
    lb_mode: Option<String>,
    /// The node's name in the cluster.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Folder for everything the hub keeps [default: /var/lib/yurthub].
    #[arg(long, value_name = "DIR")]
    root_dir: Option<PathBuf>,
    /// Folder of the durable store [default: ROOT-DIR/cache].
    #[arg(long, value_name = "DIR")]
    disk_cache_path: Option<PathBuf>,
    /// Addresses that local clients connect to, separated by commas [default: 127.0.0.1].
    #[arg(long, value_name = "IPS")]
    bind_proxy_address: Option<Addresses>,
    /// HTTPS port for local clients; 0 takes a free one [default: 10268].
    #[arg(long, value_name = "PORT")]
    proxy_secure_port: Option<u16>,
    /// HTTP port on 127.0.0.1 for health, metrics and status; 0 takes a free one [default: 10267].
    #[arg(long, value_name = "PORT")]
    serve_port: Option<u16>,
    /// PEM of the cluster's CA [default: /etc/kubernetes/pki/ca.crt].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM of the kubelet's client certificate [default: /var/lib/kubelet/pki/kubelet-client-current.pem].
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// PEM of its key [default: the certificate's file].
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// More names and addresses for the serving certificate, separated by commas.
    #[arg(long, value_name = "NAMES")]
    hub_cert_sans: Option<String>,
    /// Bound in bytes on cached reads that nobody watches [default: 536870912].
    #[arg(long, value_name = "BYTES")]
    cache_max_bytes: Option<u64>,
    /// What is logged: error, warn, info, debug, or such with targets: info,yurt_hub=debug [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// The settings of one run, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The apiservers, in the order given.
    pub servers: Vec<ServerAddress>,
    /// How several of them are used.
    pub lb_mode: Mode,
    /// The node's name.
    pub node_name: String,
    /// Where the hub keeps its CA and its run files.
    pub root_dir: PathBuf,
    /// Where the store is.
    pub store_dir: PathBuf,
    /// Addresses of the HTTPS listener: one at least, each once.
    pub bind_addresses: Vec<IpAddr>,
    /// Port of the HTTPS listener.
    pub secure_port: u16,
    /// Port of the admin listener on 127.0.0.1.
    pub admin_port: u16,
    /// The node's credentials.
    pub credentials: CredentialFiles,
    /// More names for the serving certificate.
    pub extra_names: Vec<String>,
    /// Bound on the cache in bytes.
    pub cache_max_bytes: u64,
    /// Filter of the log.
    pub log: String,
}

/// A setting that cannot be used; its text is one line that names it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(String);

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// To run with these flags.
    Run(Box<Flags>),
    /// To print this (help, version) and end.
    Print(String),
}

impl Flags {
    /// Reads a command line. The error is one line that names the flag, without clap's usage and tips.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Asked, ConfigError> {
        match Flags::try_parse_from(args) {
            Ok(flags) => Ok(Asked::Run(Box::new(flags))),
            Err(told) if matches!(told.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                Ok(Asked::Print(told.to_string()))
            }
            Err(error) => {
                Err(ConfigError(first_line(&error.to_string()).trim_start_matches("error: ").to_owned()))
            }
        }
    }

    /// The flags over the file over the defaults.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            None => Values::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| ConfigError(format!("--config {}: {e}", path.display())))?;
                parse_file(&text).map_err(|e| ConfigError(format!("--config {}: {e}", path.display())))?
            }
        };
        self.values.over(file).check()
    }
}

fn parse_file(text: &str) -> Result<Values, String> {
    if text.trim().is_empty() {
        return Ok(Values::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let wrong =
            error.location().and_then(|l| text.lines().nth(usize::try_from(l.line()).ok()?.checked_sub(1)?));
        // The parser's own message goes on with an excerpt of several lines.
        let said = error.to_string();
        let said = first_line(&said).trim_start_matches("error: ");
        wrong.map_or(said.to_owned(), |line| format!("{said}: {:?}", line.trim()))
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("it cannot be read")
}

impl Values {
    fn over(self, file: Values) -> Values {
        Values {
            server_addr: self.server_addr.or(file.server_addr),
            lb_mode: self.lb_mode.or(file.lb_mode),
            node_name: self.node_name.or(file.node_name),
            root_dir: self.root_dir.or(file.root_dir),
            disk_cache_path: self.disk_cache_path.or(file.disk_cache_path),
            bind_proxy_address: self.bind_proxy_address.or(file.bind_proxy_address),
            proxy_secure_port: self.proxy_secure_port.or(file.proxy_secure_port),
            serve_port: self.serve_port.or(file.serve_port),
            ca_file: self.ca_file.or(file.ca_file),
            client_cert: self.client_cert.or(file.client_cert),
            client_key: self.client_key.or(file.client_key),
            hub_cert_sans: self.hub_cert_sans.or(file.hub_cert_sans),
            cache_max_bytes: self.cache_max_bytes.or(file.cache_max_bytes),
            log: self.log.or(file.log),
        }
    }

    fn check(self) -> Result<Config, ConfigError> {
        let root_dir = self.root_dir.unwrap_or_else(|| "/var/lib/yurthub".into());
        let certificate =
            self.client_cert.unwrap_or_else(|| "/var/lib/kubelet/pki/kubelet-client-current.pem".into());
        let secure_port = self.proxy_secure_port.unwrap_or(SECURE_PORT);
        let admin_port = self.serve_port.unwrap_or(ADMIN_PORT);
        if secure_port != 0 && secure_port == admin_port {
            return Err(ConfigError(format!("proxy-secure-port and serve-port are both {secure_port}")));
        }
        Ok(Config {
            servers: parse_servers(self.server_addr.as_deref())?,
            lb_mode: parse_lb_mode(self.lb_mode.as_deref())?,
            node_name: parse_node_name(self.node_name)?,
            store_dir: self.disk_cache_path.unwrap_or_else(|| root_dir.join("cache")),
            root_dir,
            bind_addresses: self.bind_proxy_address.map_or(vec![IpAddr::from([127, 0, 0, 1])], |a| a.0),
            secure_port,
            admin_port,
            credentials: CredentialFiles {
                ca: self.ca_file.unwrap_or_else(|| "/etc/kubernetes/pki/ca.crt".into()),
                key: self.client_key.unwrap_or_else(|| certificate.clone()),
                certificate,
            },
            extra_names: parse_names(self.hub_cert_sans.as_deref())?,
            cache_max_bytes: parse_cache_bytes(self.cache_max_bytes)?,
            log: self.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Addresses separated by commas, each once.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
struct Addresses(Vec<IpAddr>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for text in split(Some(list)) {
            let address = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.len() {
            1..=MAX_ADDRESSES => Ok(Self(addresses)),
            many => Err(format!("it has {many} addresses instead of 1 to {MAX_ADDRESSES}")),
        }
    }
}

impl TryFrom<String> for Addresses {
    type Error = String;

    fn try_from(list: String) -> Result<Self, String> {
        list.parse().map_err(|error| format!("bind-proxy-address: {error}"))
    }
}

fn parse_servers(list: Option<&str>) -> Result<Vec<ServerAddress>, ConfigError> {
    let urls = split(list);
    if urls.is_empty() {
        return Err(ConfigError("server-addr is missing: the URL of an apiserver".to_owned()));
    }
    urls.iter()
        .map(|u| ServerAddress::parse(u).map_err(|e| ConfigError(format!("server-addr: {e}"))))
        .collect()
}

fn parse_lb_mode(mode: Option<&str>) -> Result<Mode, ConfigError> {
    let wrong = |m| ConfigError(format!("lb-mode: {m:?} is neither \"rr\" nor \"priority\""));
    mode.map_or(Ok(Mode::default()), |m| Mode::parse(m).ok_or_else(|| wrong(m)))
}

/// A node's name is a DNS subdomain (RFC 1123), as the apiserver checks it.
fn parse_node_name(name: Option<String>) -> Result<String, ConfigError> {
    let name = name.ok_or_else(|| ConfigError("node-name is missing".to_owned()))?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |l: &str| l.starts_with(inner) && l.ends_with(inner) && l.chars().all(|c| inner(c) || c == '-');
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(name),
        false => Err(ConfigError(format!("node-name: {name:?} is not a DNS subdomain"))),
    }
}

/// Names that a certificate can carry: addresses, and DNS names with or without a leading wildcard.
fn parse_names(list: Option<&str>) -> Result<Vec<String>, ConfigError> {
    let names = split(list);
    let named = |n: &&String| ServerName::try_from(n.strip_prefix("*.").unwrap_or(n).to_owned()).is_err();
    match names.iter().find(named) {
        Some(bad) => Err(ConfigError(format!("hub-cert-sans: {bad:?} is neither an address nor a DNS name"))),
        None => Ok(names),
    }
}

fn parse_cache_bytes(bytes: Option<u64>) -> Result<u64, ConfigError> {
    let bytes = bytes.unwrap_or(CACHE_BYTES);
    match bytes >= CACHE_BYTES_LEAST {
        true => Ok(bytes),
        false => Err(ConfigError(format!("cache-max-bytes: {bytes} is less than {CACHE_BYTES_LEAST}"))),
    }
}

fn split(list: Option<&str>) -> Vec<String> {
    list.unwrap_or("").split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str]) -> Result<Config, String> {
        let flags = Flags::try_parse_from([&["yurthub"], args].concat()).map_err(|e| e.to_string())?;
        flags.resolve().map_err(|e| e.to_string())
    }

    #[test]
    fn the_least_is_a_server_and_a_name() {
        let config = resolve(&["--server-addr", "https://a,https://b:1", "--node-name", "edge-1"]).unwrap();
        assert_eq!((config.servers.len(), config.lb_mode), (2, Mode::RoundRobin));
        assert_eq!((config.secure_port, config.admin_port), (10268, 10267));
        assert_eq!(config.credentials.key, config.credentials.certificate);
    }

    #[test]
    fn local_clients_may_have_several_addresses() {
        let with = |list: &str| {
            let list = format!("--bind-proxy-address={list}");
            resolve(&["--server-addr=https://a", "--node-name=n", &list]).map(|c| c.bind_addresses)
        };
        let two: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "169.254.2.1".parse().unwrap()];
        assert_eq!(with("127.0.0.1, 169.254.2.1,127.0.0.1").unwrap(), two);
        let file: Values = parse_file("bind-proxy-address: 127.0.0.1,169.254.2.1").unwrap();
        assert_eq!(file.bind_proxy_address.unwrap().0, two);
        let nine = (1..=9).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>().join(",");
        for wrong in ["", ",", "127.0.0.1,nowhere", &nine] {
            assert!(with(wrong).unwrap_err().contains("--bind-proxy-address"), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_in_one_line() {
        let cases: [(&[&str], &str); 6] = [
            (
                &["--server-addr", "https://a", "--node-name", "n", "--lb-mode", "random"],
                "lb-mode: \"random\"",
            ),
            (&[], "server-addr is missing"),
            (&["--server-addr", "https://a"], "node-name is missing"),
            (&["--server-addr", "http://a", "--node-name", "n"], "server-addr: \"http://a\""),
            (&["--server-addr", "https://a", "--node-name", "No_Name"], "node-name: \"No_Name\""),
            (
                &[
                    "--server-addr",
                    "https://a",
                    "--node-name",
                    "n",
                    "--serve-port",
                    "9",
                    "--proxy-secure-port",
                    "9",
                ],
                "both 9",
            ),
        ];
        for (args, expected) in cases {
            let error = resolve(args).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{args:?}: {error}");
        }
    }

    #[test]
    fn the_file_has_the_same_keys_and_flags_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.yaml");
        std::fs::write(&path, "server-addr: https://a\nnode-name: from-file\nserve-port: 0\n").unwrap();
        let config = resolve(&["--config", path.to_str().unwrap(), "--node-name", "from-flag"]).unwrap();
        assert_eq!((config.node_name.as_str(), config.admin_port), ("from-flag", 0));
        std::fs::write(&path, "server-addr: https://a\nnode-nam: x\n").unwrap();
        let error = resolve(&["--config", path.to_str().unwrap()]).unwrap_err();
        assert!(error.contains("node-nam") && error.lines().count() == 1, "{error}");
    }
}
