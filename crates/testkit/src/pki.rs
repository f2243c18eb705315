//! A test PKI: one cluster CA and what it signs. Files are written below one folder as PEM.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// How long certificates are valid when a test does not say otherwise.
pub const ONE_DAY: Duration = Duration::from_secs(24 * 3600);

/// A cluster CA and the folder where its certificates are kept.
pub struct Pki {
    dir: PathBuf,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in memory and as files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS #8 PEM.
    pub key_pem: String,
    /// Where the certificate is kept.
    pub cert_file: PathBuf,
    /// Where the key is kept.
    pub key_file: PathBuf,
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// Not before.
    pub from: OffsetDateTime,
    /// Not after.
    pub until: OffsetDateTime,
}

impl Validity {
    /// Valid since an hour and for `left` from now.
    pub fn lasting(left: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        Self { from: now - time::Duration::HOUR, until: now + left }
    }

    /// Ended `ago` before now; it was valid for a day.
    pub fn expired(ago: Duration) -> Self {
        let until = OffsetDateTime::now_utc() - ago;
        Self { from: until - time::Duration::DAY, until }
    }
}

impl Pki {
    /// A new CA named `kubernetes`, written to `dir/ca.crt` and `dir/ca.key`.
    pub fn create(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
        let key = KeyPair::generate().expect("a key for the test CA");
        let mut params = CertificateParams::default();
        params.distinguished_name = name("kubernetes", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let validity = Validity::lasting(ONE_DAY * 365);
        (params.not_before, params.not_after) = (validity.from, validity.until);
        let cert = params.self_signed(&key).expect("a self-signed test CA");
        let pki = Self {
            dir: dir.to_owned(),
            ca_pem: cert.pem(),
            ca_der: cert.der().clone(),
            issuer: Issuer::new(params, key),
        };
        pki.write("ca.crt", &pki.ca_pem);
        pki.write("ca.key", &pki.issuer.key().serialize_pem());
        pki
    }

    /// The folder of the files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The file with the CA certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A client certificate: `cn` is the user, `orgs` are the groups.
    pub fn client(&self, cn: &str, orgs: &[&str], validity: Validity) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(cn, orgs);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&cn.replace([':', '/'], "-"), params, validity)
    }

    /// The client certificate of the kubelet of `node`, valid for a day.
    pub fn node(&self, node: &str) -> Identity {
        self.client(&format!("system:node:{node}"), &["system:nodes"], Validity::lasting(ONE_DAY))
    }

    /// A client certificate that may do everything, valid for a day.
    pub fn admin(&self) -> Identity {
        self.client("kubernetes-admin", &["system:masters"], Validity::lasting(ONE_DAY))
    }

    /// A serving certificate for loopback (127.0.0.1, 127.0.0.2, ::1, localhost, kubernetes.default.svc).
    pub fn server(&self, file: &str, validity: Validity) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("kube-apiserver", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = ["127.0.0.1", "127.0.0.2", "::1"]
            .map(|ip| SanType::IpAddress(ip.parse().unwrap()))
            .into_iter()
            .chain(["localhost", "kubernetes.default.svc"].map(|n| SanType::DnsName(n.try_into().unwrap())))
            .collect();
        self.sign(file, params, validity)
    }

    fn sign(&self, file: &str, mut params: CertificateParams, validity: Validity) -> Identity {
        let key = KeyPair::generate().expect("a key");
        (params.not_before, params.not_after) = (validity.from, validity.until);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate signed by the test CA");
        let (cert_pem, key_pem) = (cert.pem(), key.serialize_pem());
        let cert_file = self.write(&format!("{file}.crt"), &cert_pem);
        let key_file = self.write(&format!("{file}.key"), &key_pem);
        Identity { cert_pem, key_pem, cert_file, key_file }
    }

    /// A TLS server that asks for client certificates of this CA, tolerates none, and speaks h2 and HTTP/1.1.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let server = self.server("apiserver", Validity::lasting(ONE_DAY));
        let (chain, key) = server.der();
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone()).expect("the test CA as a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .expect("a verifier of client certificates");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("the serving certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.dir.join(file);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        path
    }
}

impl Identity {
    /// Reads an identity from its two files.
    pub fn read(cert_file: &Path, key_file: &Path) -> Self {
        Self {
            cert_pem: read(cert_file),
            key_pem: read(key_file),
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
        }
    }

    /// Chain and key as rustls takes them.
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        use rustls_pki_types::pem::PemObject;
        let chain =
            CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).map(|c| c.expect("a PEM certificate"));
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap_or_else(|_| {
            PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a PEM key").into()
        });
        (chain.collect(), key)
    }
}

/// The one TLS provider of the tree.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn name(cn: &str, orgs: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for org in orgs {
        name.push(DnType::OrganizationName, *org);
    }
    name.push(DnType::CommonName, cn);
    name
}
