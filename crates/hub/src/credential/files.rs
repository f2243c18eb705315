//! The node's client certificate and the cluster's CA, as files that others replace while we run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::server_verifier;

/// Where the credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    /// PEM of the cluster's CA: verifies the apiservers and local clients' certificates.
    pub ca: PathBuf,
    /// PEM with the kubelet's client certificate.
    pub certificate: PathBuf,
    /// PEM with its key; the kubelet keeps both in one file.
    pub key: PathBuf,
}

/// What a connection speaks, fixed by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `h2`
    Http2,
    /// `http/1.1`, for upgrades.
    Http1,
}

/// What was read from the files at one moment. Each part has its own error, so that callers with
/// their own tokens go on when the node's certificate is unreadable.
struct Loaded {
    roots: Result<Arc<RootCertStore>, String>,
    /// Indexed by [`Protocol`].
    node: Result<[Arc<ClientConfig>; 2], String>,
    other: Result<[Arc<ClientConfig>; 2], String>,
    /// Files that were replaced by something unusable; what they held before stays in use.
    passed_over: Vec<String>,
}

/// The credentials, swapped as a whole when a file changes.
pub struct Credentials {
    files: CredentialFiles,
    loaded: ArcSwap<Loaded>,
}

impl Credentials {
    /// Reads the files; what cannot be read is an error of the requests that need it, not of the start.
    pub fn load(files: CredentialFiles) -> Self {
        let loaded = ArcSwap::from_pointee(Loaded::read(&files));
        let credentials = Credentials { files, loaded };
        credentials.say();
        credentials
    }

    /// Reads the files again; the old credential stays when the new one cannot be used (P7).
    pub fn reload(&self) {
        let mut fresh = Loaded::read(&self.files);
        let held = self.loaded.load();
        if held.roots.is_ok()
            && let Err(why) = &fresh.roots
        {
            fresh.passed_over.push(format!("{why}; the CA that was read before stays in use"));
            fresh.roots = held.roots.clone();
            fresh.other = held.other.clone();
        }
        if held.node.is_ok()
            && let Err(why) = &fresh.node
        {
            fresh.passed_over.push(format!("{why}; the certificate that was read before stays in use"));
            fresh.node = held.node.clone();
        }
        fresh.passed_over.dedup();
        self.loaded.store(Arc::new(fresh));
        self.say();
    }

    /// The files that were read.
    pub fn files(&self) -> &CredentialFiles {
        &self.files
    }

    /// TLS towards an apiserver: with the node's certificate when `node`, else without any.
    pub fn client_config(&self, node: bool, protocol: Protocol) -> Result<Arc<ClientConfig>, String> {
        let loaded = self.loaded.load();
        let pair = if node { &loaded.node } else { &loaded.other };
        let [http2, http1] = pair.as_ref().map_err(Clone::clone)?;
        Ok(Arc::clone(match protocol {
            Protocol::Http2 => http2,
            Protocol::Http1 => http1,
        }))
    }

    /// The cluster's CA.
    pub fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        self.loaded.load().roots.clone()
    }

    /// What is missing, for `/v1/readyz`: without it the node cannot speak to the cloud.
    pub fn missing(&self) -> Vec<String> {
        let loaded = self.loaded.load();
        let both = [loaded.roots.as_ref().err(), loaded.node.as_ref().err()];
        let mut said: Vec<String> = both.into_iter().flatten().cloned().collect();
        said.dedup();
        said
    }

    /// All that is wrong with the files, missing or passed over.
    pub fn complaints(&self) -> Vec<String> {
        let passed_over = self.loaded.load().passed_over.clone();
        self.missing().into_iter().chain(passed_over).collect()
    }

    fn say(&self) {
        for complaint in self.complaints() {
            tracing::warn!("{complaint}");
        }
    }
}

impl Loaded {
    fn read(files: &CredentialFiles) -> Self {
        let roots = read_roots(&files.ca).map(Arc::new);
        let verifier = roots
            .clone()
            .and_then(|roots| server_verifier(roots).map_err(|e| format!("{}: {e}", files.ca.display())));
        let other = verifier.clone().and_then(|v| pair(|| Ok(builder(&v).with_no_client_auth())));
        let node = verifier.and_then(|verifier| {
            let (chain, key) = read_pair(&files.certificate, &files.key)?;
            pair(|| {
                builder(&verifier)
                    .with_client_auth_cert(chain.clone(), key.clone_key())
                    .map_err(|e| format!("{} and {}: {e}", files.certificate.display(), files.key.display()))
            })
        });
        Loaded { roots, node, other, passed_over: Vec::new() }
    }
}

fn builder(
    verifier: &Arc<dyn ServerCertVerifier>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::clone(verifier))
}

fn pair(make: impl Fn() -> Result<ClientConfig, String>) -> Result<[Arc<ClientConfig>; 2], String> {
    let mut http2 = make()?;
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let mut http1 = make()?;
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok([Arc::new(http2), Arc::new(http1)])
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| format!("{}: {e}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(found)
}

fn read_pair(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
    Ok((chain, key))
}
