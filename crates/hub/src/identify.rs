//! Who asks. A caller is what it proved, never what it says of itself: no User-Agent, no header but
//! `Authorization`, and no identity that it did not present (P8).

use http::{HeaderMap, HeaderValue, header};
use ring::digest;
use rustls_pki_types::CertificateDer;

use crate::cloud::Identity;

/// What a TLS handshake proved about the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The subject of a certificate that the cluster's CA signed.
    pub subject: Option<Subject>,
}

/// User and groups of a client certificate (CN and O).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub user: String,
    /// The organizations.
    pub groups: Vec<String>,
}

impl Peer {
    /// Reads the leaf of a verified chain.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let subject = chain.and_then(|c| c.first()).and_then(|leaf| subject_of(leaf));
        Peer { subject }
    }

    /// Whether it is this node.
    pub fn is_node(&self, node_name: &str) -> bool {
        self.subject.as_ref().is_some_and(|subject| is_node(subject, node_name))
    }
}

fn subject_of(leaf: &CertificateDer<'_>) -> Option<Subject> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(Subject { user, groups })
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// This node: its certificate was shown.
    Node,
    /// A bearer token, by its SHA-256, and the header to pass on.
    Token {
        /// SHA-256 of the token.
        hash: [u8; 32],
        /// The `Authorization` header as it came.
        header: HeaderValue,
    },
    /// A certificate of somebody else; the hub has no key to speak for it.
    Foreign(String),
    /// No credential at all.
    Anonymous,
}

impl Caller {
    /// In whose name the hub may ask the cloud for this caller.
    pub fn identity(&self) -> Identity {
        match self {
            Caller::Node => Identity::Node,
            Caller::Token { header, .. } => Identity::Bearer(header.clone()),
            Caller::Foreign(_) | Caller::Anonymous => Identity::Anonymous,
        }
    }
}

/// The caller behind a request: the certificate first, as the apiserver tries them.
pub fn identify(peer: &Peer, headers: &HeaderMap, node_name: &str) -> Caller {
    let bearer = headers.get(header::AUTHORIZATION).and_then(bearer);
    match (&peer.subject, bearer) {
        (Some(subject), _) if is_node(subject, node_name) => Caller::Node,
        (_, Some(caller)) => caller,
        (Some(subject), None) => Caller::Foreign(subject.user.clone()),
        (None, None) => Caller::Anonymous,
    }
}

/// The user name of a node (KEP-279, the node authorizer's rule).
pub fn node_user(node_name: &str) -> String {
    format!("system:node:{node_name}")
}

fn is_node(subject: &Subject, node_name: &str) -> bool {
    subject.user == node_user(node_name) && subject.groups.iter().any(|g| g == "system:nodes")
}

fn bearer(value: &HeaderValue) -> Option<Caller> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return None;
    }
    let mut header = value.clone();
    header.set_sensitive(true);
    Some(Caller::Token { hash: sha256(token.as_bytes()), header })
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: Option<(&str, &str)>, authorization: Option<&'static str>) -> Caller {
        let subject = subject.map(|(u, g)| Subject { user: u.to_owned(), groups: vec![g.to_owned()] });
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("kubelet/v1.34.4"));
        headers.extend(authorization.map(|a| (header::AUTHORIZATION, HeaderValue::from_static(a))));
        identify(&Peer { subject }, &headers, "edge-1")
    }

    #[test]
    fn only_the_nodes_certificate_is_the_node() {
        assert_eq!(caller(Some(("system:node:edge-1", "system:nodes")), None), Caller::Node);
        assert_eq!(
            caller(Some(("system:node:edge-2", "system:nodes")), None),
            Caller::Foreign("system:node:edge-2".into())
        );
        assert_eq!(
            caller(Some(("system:node:edge-1", "people")), None),
            Caller::Foreign("system:node:edge-1".into())
        );
        assert_eq!(caller(None, None), Caller::Anonymous);
        assert_eq!(caller(None, Some("Basic eDp5")), Caller::Anonymous);
        assert_eq!(caller(None, Some("Bearer ")), Caller::Anonymous);
    }

    #[test]
    fn a_token_is_known_by_its_hash_and_never_printed() {
        let token = caller(None, Some("bearer abc"));
        let Caller::Token { hash, .. } = &token else { panic!("{token:?}") };
        assert_eq!(*hash, sha256(b"abc"));
        assert!(!format!("{token:?}").contains("abc"), "{token:?}");
        assert!(matches!(caller(Some(("someone", "people")), Some("Bearer abc")), Caller::Token { .. }));
    }
}
