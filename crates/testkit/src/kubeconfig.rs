//! kubeconfig files: who to talk to and as whom.

use std::path::Path;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    client::{Client, Protocol},
    pki::Identity,
};

/// Where an apiserver is, what to trust, who to be.
#[derive(Clone, Debug)]
pub struct Target {
    /// `https://host:port`.
    pub base: String,
    /// CA certificates, PEM.
    pub ca_pem: String,
    /// Client certificate.
    pub identity: Option<Identity>,
    /// Bearer token, "" for none.
    pub token: String,
}

impl Target {
    /// The first cluster and user of a kubeconfig. Errors: a file that cannot be read or says too little.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let config: Value = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let certificate = pem(user, "client-certificate", folder)?;
        let key = pem(user, "client-key", folder)?;
        let identity = certificate.zip(key).map(|(cert_pem, key_pem)| Identity {
            cert_pem,
            key_pem,
            cert_file: folder.join(user["client-certificate"].as_str().unwrap_or_default()),
            key_file: folder.join(user["client-key"].as_str().unwrap_or_default()),
        });
        Ok(Self {
            base: cluster["server"].as_str().context("no server in the kubeconfig")?.to_owned(),
            ca_pem: pem(cluster, "certificate-authority", folder)?.context("no CA in the kubeconfig")?,
            identity,
            token: user["token"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Writes it as a kubeconfig (JSON, which is YAML) that kubectl reads.
    pub fn write(&self, path: &Path) -> Result<()> {
        let data = |pem: &str| STANDARD.encode(pem);
        let mut user = json!({});
        if let Some(identity) = &self.identity {
            user["client-certificate-data"] = data(&identity.cert_pem).into();
            user["client-key-data"] = data(&identity.key_pem).into();
        }
        if !self.token.is_empty() {
            user["token"] = self.token.clone().into();
        }
        let cluster = json!({"server": self.base, "certificate-authority-data": data(&self.ca_pem)});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "testkit",
            "clusters": [{"name": "testkit", "cluster": cluster}],
            "users": [{"name": "testkit", "user": user}],
            "contexts": [{"name": "testkit", "context": {"cluster": "testkit", "user": "testkit"}}],
        });
        std::fs::write(path, format!("{config:#}\n")).with_context(|| path.display().to_string())
    }

    /// A client.
    pub fn client(&self, protocol: Protocol) -> Client {
        let client = Client::new(&self.base, &self.ca_pem, self.identity.as_ref(), protocol);
        if self.token.is_empty() { client } else { client.token(&self.token) }
    }
}

fn pem(section: &Value, field: &str, folder: &Path) -> Result<Option<String>> {
    if let Some(data) = section[format!("{field}-data")].as_str() {
        return Ok(Some(String::from_utf8(STANDARD.decode(data)?)?));
    }
    let Some(file) = section[field].as_str() else { return Ok(None) };
    let path = folder.join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let pki = crate::pki::Pki::create(dir.path());
        let target = Target {
            base: "https://127.0.0.1:1".into(),
            ca_pem: pki.ca_pem().into(),
            identity: Some(pki.admin()),
            token: String::new(),
        };
        let path = dir.path().join("config");
        target.write(&path).unwrap();
        let read = Target::read(&path).unwrap();
        assert_eq!((read.base, read.ca_pem), (target.base, target.ca_pem));
        assert_eq!(read.identity.unwrap().key_pem, target.identity.unwrap().key_pem);
    }
}
