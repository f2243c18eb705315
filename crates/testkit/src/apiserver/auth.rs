//! Who asks: client certificate, bearer token or nobody.

use http::HeaderMap;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{error::Refusal, token::Tokens};

/// An authenticated caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// User name.
    pub name: String,
    /// User id, "" when unknown.
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` included.
    pub groups: Vec<String>,
}

impl Principal {
    /// A user with groups; `system:authenticated` is added.
    pub fn user(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&["system:authenticated"]).map(|g| (*g).to_owned()).collect();
        Self { name: name.into(), uid: String::new(), groups }
    }

    /// Nobody.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
        }
    }

    /// Member of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node behind a kubelet's identity.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }

    /// The `UserInfo` of reviews.
    pub fn user_info(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        info["groups"] = self.groups.clone().into();
        info
    }

    /// Common name and organizations of a verified client certificate.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<_> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        Some(Self::user(name, &groups))
    }
}

/// The certificate wins over the token; a token that is not valid is 401, no credential is anonymous.
pub fn authenticate(
    certificate: Option<&Principal>,
    headers: &HeaderMap,
    tokens: &Tokens,
) -> Result<Principal, Refusal> {
    if let Some(principal) = certificate {
        return Ok(principal.clone());
    }
    let header = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            tokens.principal(token.trim(), &[]).ok_or_else(Refusal::unauthorized)
        }
        _ => Ok(Principal::anonymous()),
    }
}
