//! Reviews: who is this token, and who may do what.

use serde_json::{Value, json};

use super::{auth::Principal, authorize::Attributes, error::Refusal, server::Server, token::ISSUER};

/// (group, plural) of the resources that are only asked, never stored.
pub const REVIEWS: [(&str, &str); 5] = [
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
];

/// Answers a review.
pub fn review(server: &Server, caller: &Principal, plural: &str, body: Value) -> Result<Value, Refusal> {
    let (kind, group, status) = match plural {
        "tokenreviews" => ("TokenReview", "authentication", token(server, &body["spec"])),
        "selfsubjectreviews" => {
            ("SelfSubjectReview", "authentication", json!({"userInfo": caller.user_info()}))
        }
        "selfsubjectaccessreviews" => {
            ("SelfSubjectAccessReview", "authorization", access(server, caller, &body["spec"]))
        }
        "localsubjectaccessreviews" => {
            ("LocalSubjectAccessReview", "authorization", subject(server, &body["spec"]))
        }
        _ => ("SubjectAccessReview", "authorization", subject(server, &body["spec"])),
    };
    let mut answer = json!({"kind": kind, "apiVersion": format!("{group}.k8s.io/v1"), "metadata": {}});
    if !body["spec"].is_null() {
        answer["spec"] = body["spec"].clone();
    }
    answer["status"] = status;
    Ok(answer)
}

fn token(server: &Server, spec: &Value) -> Value {
    let audiences: Vec<String> = strings(&spec["audiences"]);
    let Some(principal) = server.tokens.principal(spec["token"].as_str().unwrap_or_default(), &audiences)
    else {
        return json!({"user": {}, "error": "invalid bearer token"});
    };
    let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    json!({"authenticated": true, "user": principal.user_info(), "audiences": audiences})
}

fn subject(server: &Server, spec: &Value) -> Value {
    let principal = Principal {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: strings(&spec["groups"]),
    };
    access(server, &principal, spec)
}

fn access(server: &Server, principal: &Principal, spec: &Value) -> Value {
    let asked = attributes(spec);
    if server.read(|storage| server.rules.allows(principal, &asked, storage)) {
        json!({"allowed": true, "reason": "testkit: allowed by a rule"})
    } else {
        json!({"allowed": false})
    }
}

fn attributes(spec: &Value) -> Attributes {
    let resource = &spec["resourceAttributes"];
    let text = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    if resource.is_null() {
        let other = |name: &str| spec["nonResourceAttributes"][name].as_str().unwrap_or_default().to_owned();
        return Attributes { verb: other("verb"), path: other("path"), ..Attributes::default() };
    }
    Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        node_selected: node_selected(&resource["fieldSelector"]),
        path: String::new(),
    }
}

/// `spec.nodeName=x` among the requirements of a review.
fn node_selected(selector: &Value) -> Option<String> {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.split(',').find_map(|p| p.strip_prefix("spec.nodeName=")).map(str::to_owned);
    }
    let requirements = selector["requirements"].as_array()?;
    let on_node = requirements.iter().find(|r| r["key"] == "spec.nodeName" && r["operator"] == "In")?;
    on_node["values"][0].as_str().map(str::to_owned)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}
