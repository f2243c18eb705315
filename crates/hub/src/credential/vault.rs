//! The token vault: the last real token of every (ServiceAccount, audiences, bound object).
//!
//! A token is never forged and never thrown away while it is the last one: offline the pod that asks
//! gets its own back, with a time to refresh that lies a little ahead, so that the kubelet asks again
//! soon and gets a new one as soon as there is a link (P7).

use bytes::Bytes;
use serde_json::{Value, json};
use yurt_api::request::ResourceRequest;
use yurt_api::resource::TypeMeta;
use yurt_store::VaultedToken;

use crate::cache::{Front, FrontError};
use crate::clock;
use crate::identify::sha256;

/// Seconds after which the kubelet shall ask again for a token that was answered offline.
const REFRESH: i64 = 300;

/// Whether a request asks for a ServiceAccount's token.
pub fn is_token_request(request: &ResourceRequest) -> bool {
    request.resource.is("", "serviceaccounts") && request.subresource.as_deref() == Some("token")
}

/// Kind and apiVersion of a token request.
pub fn token_kind() -> TypeMeta {
    TypeMeta::new("authentication.k8s.io/v1", "TokenRequest")
}

/// What makes two token requests ask for the same token.
pub fn slot(request: &ResourceRequest, body: &Value) -> [u8; 32] {
    let mut audiences: Vec<&str> = body
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    audiences.sort_unstable();
    let bound = body.pointer("/spec/boundObjectRef/uid").and_then(Value::as_str);
    let namespace = request.namespace.as_deref();
    sha256(json!([namespace, request.name, audiences, bound]).to_string().as_bytes())
}

/// Keeps an answer of the cloud. Durable when this returns.
pub async fn keep(front: &Front, slot: [u8; 32], answer: &Value) -> Result<(), FrontError> {
    let text = |at: &str| answer.pointer(at).and_then(Value::as_str).unwrap_or_default();
    if text("/status/token").is_empty() {
        return Ok(());
    }
    let token = VaultedToken {
        slot,
        expires_at: clock::parse_rfc3339(text("/status/expirationTimestamp")).unwrap_or(0),
        body: answer.to_string().into_bytes(),
        observed_at: clock::unix(),
    };
    front.write(move |w| w.put_token(&token)).await
}

/// The last real answer for this slot, made to be refreshed soon; `None` when there never was one.
pub async fn last(front: &Front, slot: [u8; 32]) -> Result<Option<Value>, FrontError> {
    let Some(held) = front.read(move |r| r.token(&slot)).await? else { return Ok(None) };
    let Ok(mut answer) = serde_json::from_slice::<Value>(&held.body) else { return Ok(None) };
    refresh_soon(&mut answer, held.expires_at, clock::unix());
    Ok(Some(answer))
}

/// The kubelet refreshes when a fifth of the asked lifetime is left
/// (`pkg/kubelet/token/token_manager.go`): the end is set so that this is [`REFRESH`] seconds away,
/// unless the real one is later.
fn refresh_soon(answer: &mut Value, expires_at: i64, now: i64) {
    let asked = answer.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    let end = expires_at.max(now + asked / 5 + REFRESH);
    if let Some(status) = answer.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("expirationTimestamp".to_owned(), json!(clock::rfc3339(end)));
    }
}

/// A body as bytes for [`crate::respond`].
pub fn bytes(answer: &Value) -> Bytes {
    Bytes::from(answer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use yurt_api::request::RequestInfo;

    fn request(account: &str) -> ResourceRequest {
        let path = format!("/api/v1/namespaces/d/serviceaccounts/{account}/token");
        RequestInfo::parse("POST", &path, "").unwrap().resource().unwrap().clone()
    }

    fn spec(audiences: &[&str], uid: &str) -> Value {
        json!({"spec": {"audiences": audiences, "boundObjectRef": {"uid": uid}, "expirationSeconds": 3607}})
    }

    #[test]
    fn each_account_audience_and_pod_has_its_own_slot() {
        let base = slot(&request("a"), &spec(&["x", "y"], "1"));
        assert_eq!(base, slot(&request("a"), &spec(&["y", "x"], "1")));
        let others = [
            slot(&request("b"), &spec(&["x", "y"], "1")),
            slot(&request("a"), &spec(&["x"], "1")),
            slot(&request("a"), &spec(&[], "1")),
            slot(&request("a"), &spec(&["x", "y"], "2")),
        ];
        assert!(others.iter().all(|o| *o != base));
    }

    #[test]
    fn an_old_token_is_to_be_refreshed_soon_and_a_good_one_in_its_time() {
        let now = 1_800_000_000;
        let end = |expires: i64| {
            let mut answer = spec(&[], "1");
            answer["status"] = json!({"token": "t", "expirationTimestamp": "x"});
            refresh_soon(&mut answer, expires, now);
            clock::parse_rfc3339(answer["status"]["expirationTimestamp"].as_str().unwrap()).unwrap()
        };
        assert_eq!(end(now - 5000), now + 3607 / 5 + REFRESH);
        assert_eq!(end(now + 3600), now + 3600);
    }
}
