//! CertificateSigningRequests: who asked is written by the server, and approving needs the signer's permission.
//! Sources: pkg/registry/certificates/certificates/strategy.go and
//! plugin/pkg/admission/certificates/approval/admission.go. Nothing here signs: that is a controller's work.

use serde_json::{Map, Value, json};

use super::{
    auth::Principal, authorize::Attributes, error::Refusal, object::Key, registry::Kind, server::Server,
};

/// The subresource that approvals are written through.
pub const APPROVAL: &str = "approval";

/// Whether objects of this kind are such requests.
pub fn is_request(kind: &Kind) -> bool {
    kind.group_resource() == "certificatesigningrequests.certificates.k8s.io"
}

/// Writes into a new request who made it.
pub fn sign(object: &mut Value, principal: &Principal) {
    object["spec"]["username"] = principal.name.clone().into();
    object["spec"]["groups"] = json!(principal.groups);
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.shift_remove("uid");
        spec.shift_remove("extra");
    }
    if !principal.uid.is_empty() {
        object["spec"]["uid"] = principal.uid.clone().into();
    }
}

/// A 403 unless the caller may approve what the request's signer signs.
pub fn may_approve(server: &Server, principal: &Principal, kind: &Kind, key: &Key) -> Result<(), Refusal> {
    let request = server.read(|s| s.get(&kind.group_resource(), key).cloned());
    let request = request.ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    let signer = request.text("/spec/signerName");
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let allowed = [signer, domain.as_str()].into_iter().any(|name| {
        let asked = Attributes {
            verb: "approve".into(),
            group: "certificates.k8s.io".into(),
            resource: "signers".into(),
            name: name.into(),
            ..Attributes::default()
        };
        server.read(|s| server.rules.allows(principal, &asked, s))
    });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName {signer:?}");
    Err(Refusal::forbidden(kind, &key.name, &why))
}

/// The new state of a request whose conditions `new` brings: only `Approved` and `Denied` are taken.
pub fn approved(previous: &Value, new: &Value) -> Value {
    let is_approval = |condition: &&Value| matches!(condition["type"].as_str(), Some("Approved" | "Denied"));
    let conditions = |object: &Value| object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let (before, after) = (conditions(previous), conditions(new));
    let others = before.iter().filter(|c| !is_approval(c));
    let all: Vec<Value> = others.chain(after.iter().filter(is_approval)).cloned().collect();
    let mut merged = previous.clone();
    if !merged["status"].is_object() {
        merged["status"] = Value::Object(Map::new());
    }
    merged["status"]["conditions"] = all.into();
    merged
}
