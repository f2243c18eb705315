//! The certificates and kubeconfigs of a cluster.

use crate::files;
use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// Who a client certificate speaks for: file name, organization, common name.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("admin", "system:masters", "admin"),
    ("controller-manager", "", "system:kube-controller-manager"),
    ("scheduler", "", "system:kube-scheduler"),
    ("apiserver-kubelet-client", "system:masters", "kube-apiserver-kubelet-client"),
];

/// The folder that holds a cluster's certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes the authority and every certificate of a cluster with one node.
    pub fn create(folder: &Path, node: &str, node_address: &str) -> Result<Pki> {
        files::folder(folder)?;
        let pki = Pki { folder: folder.to_path_buf() };
        let authority = pki.authority()?;
        for (name, organization, common_name) in CLIENTS {
            pki.leaf(&authority, name, organization, common_name, &[])?;
        }
        let names = ["127.0.0.1", crate::link::CLOUD, node_address, "10.96.0.1", "localhost", "kubernetes"];
        pki.leaf(&authority, "apiserver", "", "kube-apiserver", &names)?;
        let user = format!("system:node:{node}");
        pki.leaf(&authority, "kubelet", "system:nodes", &user, &["127.0.0.1", node_address, node])?;
        let signer = KeyPair::generate()?;
        files::write(&pki.key("service-accounts"), signer.serialize_pem())?;
        files::write(&pki.public("service-accounts"), signer.public_key_pem())?;
        Ok(pki)
    }

    /// A certificate's file.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// A private key's file.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// A bare public key's file.
    pub fn public(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pub"))
    }

    /// Writes a kubeconfig that uses the client certificate `name` and trusts `authority`.
    pub fn kubeconfig(&self, file: &str, name: &str, server: &str, authority: &Path) -> Result<PathBuf> {
        let user = serde_json::json!({
            "client-certificate": self.certificate(name),
            "client-key": self.key(name),
        });
        kubeconfig(&self.folder.join(file), server, authority, &user)
    }

    fn authority(&self) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes-ca");
        files::write(&self.certificate("ca"), params.self_signed(&key)?.pem())?;
        files::write(&self.key("ca"), key.serialize_pem())?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(
        &self,
        authority: &Issuer<'static, KeyPair>,
        file: &str,
        organization: &str,
        common_name: &str,
        names: &[&str],
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        if !organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        files::write(&self.certificate(file), params.signed_by(&key, authority)?.pem())?;
        files::write(&self.key(file), key.serialize_pem())
    }
}

/// Writes a kubeconfig for one server and one user.
pub fn kubeconfig(file: &Path, server: &str, authority: &Path, user: &serde_json::Value) -> Result<PathBuf> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    });
    files::write(file, serde_json::to_vec_pretty(&config)?)?;
    Ok(file.to_path_buf())
}
