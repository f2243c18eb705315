//! Reviews: asking the cloud who a token stands for and what a caller may read, and remembering what
//! it said to the kubelet's own reviews.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use yurt_api::request::ResourceRequest;
use yurt_store::KnownPrincipal;

use base64::Engine;

use crate::clock;
use crate::cloud::{Cloud, Identity, Lane};
use crate::identify::sha256;

/// A review is a few hundred bytes; more is not one.
const MAX_BODY: usize = 256 << 10;

/// Whether a request is a review whose decision can be remembered.
pub fn is_review(request: &ResourceRequest) -> bool {
    request.resource.is("authorization.k8s.io", "subjectaccessreviews")
        || request.resource.is("authentication.k8s.io", "tokenreviews")
}

/// What makes two reviews the same: their resource and spec. Only the hash is kept, a TokenReview's
/// spec is a secret.
pub fn key(request: &ResourceRequest, body: &Value) -> [u8; 32] {
    let spec = body.get("spec").unwrap_or(&Value::Null);
    sha256(format!("{}\n{spec}", request.resource).as_bytes())
}

/// The answer to a review that was never decided: an explicit no.
pub fn undecided(request: &ResourceRequest, mut body: Value) -> Value {
    let status = match request.resource.resource.as_str() {
        "tokenreviews" => json!({"authenticated": false, "error": "the cloud cannot be reached"}),
        _ => json!({"allowed": false, "reason": "the cloud cannot be reached and never decided this"}),
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    body
}

/// Asks the cloud, as the node, who a token stands for; `None` when it is nobody or cannot be asked.
pub async fn who_is(
    cloud: &Cloud,
    authorization: &HeaderValue,
    token_hash: [u8; 32],
) -> Option<KnownPrincipal> {
    let token = authorization.to_str().ok()?.split_once(' ')?.1.trim();
    let spec =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = post(cloud, &Identity::Node, "/apis/authentication.k8s.io/v1/tokenreviews", &spec).await?;
    if answer.pointer("/status/authenticated") != Some(&Value::Bool(true)) {
        return None;
    }
    let text = |at: &str| answer.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let groups = answer.pointer("/status/user/groups").and_then(Value::as_array);
    Some(KnownPrincipal {
        token_hash,
        user: text("/status/user/username"),
        uid: text("/status/user/uid"),
        groups: groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        expires_at: expiry(token),
        observed_at: clock::unix(),
    })
}

/// Who the token stands for that the cloud has just given out (`k8s.io/apiserver/pkg/authentication/
/// serviceaccount`); `None` when it is not for the apiserver.
pub fn of_token_request(request: &ResourceRequest, asked: &Value, answer: &Value) -> Option<KnownPrincipal> {
    let others = asked.pointer("/spec/audiences").and_then(Value::as_array).is_some_and(|a| !a.is_empty());
    let token = answer.pointer("/status/token").and_then(Value::as_str).filter(|t| !t.is_empty())?;
    let (namespace, account) = (request.namespace.as_deref()?, request.name.as_deref()?);
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
    (!others).then(|| KnownPrincipal {
        token_hash: sha256(token.as_bytes()),
        user: format!("system:serviceaccount:{namespace}:{account}"),
        uid: String::new(),
        groups: groups.map(str::to_owned).to_vec(),
        expires_at: expiry(token),
        observed_at: clock::unix(),
    })
}

/// Asks the cloud in the caller's own name whether it may do this read; `None` when it did not say.
pub async fn may(cloud: &Cloud, identity: &Identity, request: &ResourceRequest) -> Option<bool> {
    let mut attributes = json!({
        "verb": request.verb.as_str(),
        "group": request.resource.group,
        "version": request.resource.version,
        "resource": request.resource.resource,
        "subresource": request.subresource,
        "namespace": request.authorization_namespace(),
        "name": request.authorization_name(),
    });
    // KEP-4601: authorizers may look at selectors.
    let selectors = [
        ("fieldSelector", request.options.field_selector.canonical()),
        ("labelSelector", request.options.label_selector.canonical()),
    ];
    for (field, text) in selectors {
        if let (false, Some(fields)) = (text.is_empty(), attributes.as_object_mut()) {
            fields.insert(field.to_owned(), json!({"rawSelector": text}));
        }
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let answer =
        post(cloud, identity, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await;
    answer?.pointer("/status/allowed")?.as_bool()
}

async fn post(cloud: &Cloud, identity: &Identity, path: &'static str, body: &Value) -> Option<Value> {
    let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Identity::Bearer(value) = identity {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    let answer = cloud.send(identity, Lane::Requests, request).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok()
}

/// The `exp` claim of a JWT (RFC 7519), unverified: upstream has just vouched for the token.
fn expiry(token: &str) -> Option<i64> {
    let claims = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok()?.get("exp")?.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yurt_api::request::RequestInfo;

    fn review(resource: &str) -> ResourceRequest {
        RequestInfo::parse("POST", resource, "").unwrap().resource().unwrap().clone()
    }

    #[test]
    fn an_undecided_review_is_an_explicit_no() {
        let tokens = review("/apis/authentication.k8s.io/v1/tokenreviews");
        let access = review("/apis/authorization.k8s.io/v1/subjectaccessreviews");
        assert!(is_review(&tokens) && is_review(&access));
        assert_eq!(undecided(&tokens, json!({}))["status"]["authenticated"], json!(false));
        assert_eq!(undecided(&access, json!({}))["status"]["allowed"], json!(false));
        let spec = |u: &str| json!({"spec": {"user": u}});
        assert_ne!(key(&access, &spec("a")), key(&access, &spec("b")));
        assert_ne!(key(&access, &spec("a")), key(&tokens, &spec("a")));
    }

    #[test]
    fn the_end_of_a_token_is_read_from_its_claims() {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1800000000}"#);
        assert_eq!(expiry(&format!("h.{claims}.s")), Some(1_800_000_000));
        assert_eq!(expiry("opaque"), None);
    }
}
