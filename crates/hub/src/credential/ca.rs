//! The hub's own CA: made once on the node, so that no local client ever needs the cloud to trust it.
//!
//! Its certificates are valid from 1970 on: a machine whose clock was never set must still be able
//! to talk to itself.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Names under which pods know the API.
const SERVICE_NAMES: [&str; 4] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of the CA is not what it was. It is not made anew: every local client trusts the one that was.
    #[error("{path}: {error}")]
    Broken {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        error: rcgen::Error,
    },
    /// A certificate cannot be made.
    #[error("the hub's CA: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A serving certificate and its key.
pub struct Serving {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

/// Reads the CA in `dir` (`ca.crt`, `ca.key`) or makes one, and signs a serving certificate for `names`.
pub fn serving_certificate(dir: &Path, names: &[String]) -> Result<Serving, CaError> {
    let (certificate, key) = load_or_create(dir)?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, key)
        .map_err(|error| CaError::Broken { path: dir.join("ca.crt"), error })?;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf_params(names)?.signed_by(&leaf_key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    Ok(Serving { chain: vec![leaf.der().clone()], key })
}

fn load_or_create(dir: &Path) -> Result<(String, KeyPair), CaError> {
    let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    if cert_path.exists() && key_path.exists() {
        narrow(&key_path)?;
        let key = KeyPair::from_pem(&read(&key_path)?);
        return Ok((read(&cert_path)?, key.map_err(|error| CaError::Broken { path: key_path, error })?));
    }
    let key = KeyPair::generate()?;
    let certificate = ca_params()?.self_signed(&key)?.pem();
    let at = |error| CaError::File { path: dir.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
    // The key first: a certificate without its key would be taken for a whole CA.
    write_new(&key_path, &key.serialize_pem(), 0o600)?;
    write_new(&cert_path, &certificate, 0o644)?;
    tracing::info!(path = %cert_path.display(), "made a CA for this node; local clients have to trust it");
    Ok((certificate, key))
}

fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "yurthub");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    for_ever(&mut params);
    Ok(params)
}

fn leaf_params(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let all = SERVICE_NAMES.iter().map(|n| (*n).to_owned()).chain(names.iter().cloned());
    let mut params = CertificateParams::new(all.collect::<Vec<_>>())?;
    // Not the CA's own name: OpenSSL takes a certificate whose subject is its issuer for a self-signed one, and with it
    // curl, Python and Node.js refuse it. The key's identifier is what Python's strict mode asks for (RFC 5280 4.2.1.1).
    params.distinguished_name.push(DnType::CommonName, "yurthub serving");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for_ever(&mut params);
    Ok(params)
}

fn for_ever(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
}

/// Only its owner reads a key, whoever opened it for others.
fn narrow(key: &Path) -> Result<(), CaError> {
    let narrowed = fs::set_permissions(key, fs::Permissions::from_mode(0o600));
    narrowed.map_err(|error| CaError::File { path: key.to_owned(), error })
}

fn read(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|error| CaError::File { path: path.to_owned(), error })
}

#[allow(clippy::disallowed_methods)]
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| CaError::File { path: path.to_owned(), error })
}

/// The names and addresses a serving certificate has to carry for a listener on all of `bind`.
pub fn serving_names(bind: &[IpAddr], node_name: &str, extra: &[String]) -> Vec<String> {
    let fixed = ["127.0.0.1".to_owned(), "localhost".to_owned(), node_name.to_owned()];
    let bound = bind.iter().map(IpAddr::to_string);
    let mut names: Vec<String> = fixed.into_iter().chain(bound).chain(extra.iter().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn the_serving_certificate_is_nobodys_own() {
        let dir = tempfile::tempdir().unwrap();
        let serving = serving_certificate(dir.path(), &["edge-1".to_owned()]).unwrap();
        let (_, leaf) = X509Certificate::from_der(&serving.chain[0]).unwrap();
        let ca = fs::read(dir.path().join("ca.crt")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&ca).unwrap();
        let ca = pem.parse_x509().unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert_ne!(leaf.subject(), leaf.issuer(), "OpenSSL would take it for self-signed");
        let key_of = |certificate: &X509Certificate<'_>| {
            certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|k| k.0.to_vec())
                }
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
        };
        assert!(key_of(&leaf).is_some() && key_of(&leaf) == key_of(&ca));
    }
}
