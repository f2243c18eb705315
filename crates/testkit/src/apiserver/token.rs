//! Bearer tokens: fixed ones of a test, and ServiceAccount tokens signed with a key of this server (ES256).

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use serde_json::{Value, json};

use super::auth::Principal;

/// The issuer of the tokens and the audience of a token that names none.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// What a new ServiceAccount token is for.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Namespace of the account.
    pub namespace: String,
    /// Name of the account.
    pub account: String,
    /// Uid of the account.
    pub account_uid: String,
    /// Audiences; empty = the server itself.
    pub audiences: Vec<String>,
    /// Seconds until it expires.
    pub lifetime: i64,
    /// Bound pod: name and uid.
    pub pod: Option<(String, String)>,
}

/// All tokens that the server accepts.
pub struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    fixed: Mutex<BTreeMap<String, Principal>>,
    revoked: Mutex<Vec<String>>,
}

impl Tokens {
    /// A new signing key and no tokens.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a signing key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .expect("the key");
        Self { key, random, fixed: Mutex::default(), revoked: Mutex::default() }
    }

    /// Accepts a fixed token for a user.
    pub fn add(&self, token: &str, principal: Principal) {
        self.fixed.lock().unwrap().insert(token.to_owned(), principal);
    }

    /// No longer accepts a token.
    pub fn revoke(&self, token: &str) {
        self.fixed.lock().unwrap().remove(token);
        self.revoked.lock().unwrap().push(token.to_owned());
    }

    /// Signs a ServiceAccount token; returns it and its end in unix seconds.
    pub fn issue(&self, claims: &Claims) -> (String, i64) {
        let now = now();
        let expires = now + claims.lifetime;
        let audiences =
            if claims.audiences.is_empty() { vec![ISSUER.to_owned()] } else { claims.audiences.clone() };
        let mut private = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
        });
        if let Some((name, uid)) = &claims.pod {
            private["pod"] = json!({"name": name, "uid": uid});
        }
        let payload = json!({
            "aud": audiences, "exp": expires, "iat": now, "iss": ISSUER, "nbf": now, "jti": super::uid(),
            "kubernetes.io": private,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        });
        (self.sign(&payload), expires)
    }

    /// The caller behind a token, when it is for one of the audiences (empty = the server's own).
    pub fn principal(&self, token: &str, audiences: &[String]) -> Option<Principal> {
        if let Some(principal) = self.fixed.lock().unwrap().get(token) {
            return Some(principal.clone());
        }
        let payload = self.verify(token)?;
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let held = payload["aud"].as_array()?;
        if payload["exp"].as_i64()? <= now() || !held.iter().any(|a| wanted.iter().any(|w| a == w)) {
            return None;
        }
        let private = &payload["kubernetes.io"];
        let groups = format!("system:serviceaccounts:{}", private["namespace"].as_str()?);
        let mut principal = Principal::user(payload["sub"].as_str()?, &["system:serviceaccounts", &groups]);
        principal.uid = private["serviceaccount"]["uid"].as_str()?.to_owned();
        Some(principal)
    }

    /// The public key, as `/openid/v1/jwks` answers it.
    pub fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": "testkit", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    fn sign(&self, payload: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "testkit"});
        let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!("{}.{}", part(&header), part(payload));
        let signature = self.key.sign(&self.random, signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(&self, token: &str) -> Option<Value> {
        if self.revoked.lock().unwrap().iter().any(|t| t == token) {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock before the year 292277026596")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims { namespace: "default".into(), account: "web".into(), lifetime: 600, ..Claims::default() }
    }

    #[test]
    fn an_issued_token_is_its_account_for_its_audience_only() {
        let tokens = Tokens::new();
        let (token, _) = tokens.issue(&claims());
        let principal = tokens.principal(&token, &[]).unwrap();
        assert_eq!(principal.name, "system:serviceaccount:default:web");
        assert!(principal.is_in("system:serviceaccounts:default"));
        let (other, _) = tokens.issue(&Claims { audiences: vec!["vault".into()], ..claims() });
        assert!(tokens.principal(&other, &[]).is_none());
        assert!(tokens.principal(&other, &["vault".into()]).is_some());
    }

    #[test]
    fn expired_revoked_and_foreign_tokens_are_nobody() {
        let tokens = Tokens::new();
        let (expired, _) = tokens.issue(&Claims { lifetime: -1, ..claims() });
        assert!(tokens.principal(&expired, &[]).is_none());
        let (revoked, _) = tokens.issue(&claims());
        tokens.revoke(&revoked);
        assert!(tokens.principal(&revoked, &[]).is_none());
        let (foreign, _) = Tokens::new().issue(&claims());
        assert!(tokens.principal(&foreign, &[]).is_none());
    }
}
