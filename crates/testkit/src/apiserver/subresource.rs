//! Subresources that are no view of their object: tokens, bindings, evictions, logs.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use futures_util::stream;
use http::{Response, header};
use serde_json::{Value, json};

use super::{
    delete::{DeleteOptions, delete},
    error::Refusal,
    object::Key,
    registry::Kind,
    request::Query,
    respond::Reply,
    server::Server,
    token::Claims,
};

/// POST `serviceaccounts/NAME/token`.
pub fn token(server: &Server, kind: &Kind, key: &Key, mut body: Value) -> Result<Reply, Refusal> {
    let account = server.read(|s| s.get("serviceaccounts", key).cloned());
    let account = account.ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    let spec = &body["spec"];
    let lifetime = spec["expirationSeconds"].as_i64().unwrap_or(3600);
    if lifetime < 600 {
        let problem = format!("Invalid value: {lifetime}: may not specify a duration less than 10 minutes");
        return Err(Refusal::invalid(kind, &key.name, "spec.expirationSeconds", &problem));
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let claims = Claims {
        namespace: key.namespace.clone(),
        account: key.name.clone(),
        account_uid: account.uid().to_owned(),
        audiences: audiences.filter_map(|a| a.as_str().map(str::to_owned)).collect(),
        lifetime,
        pod: bound_pod(server, key, &spec["boundObjectRef"])?,
    };
    let (token, expires) = server.tokens.issue(&claims);
    body["kind"] = "TokenRequest".into();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["metadata"] =
        json!({"name": key.name, "namespace": key.namespace, "creationTimestamp": super::timestamp(0)});
    if claims.audiences.is_empty() {
        body["spec"]["audiences"] = json!([super::token::ISSUER]);
    }
    body["spec"]["expirationSeconds"] = lifetime.into();
    body["status"] = json!({"token": token, "expirationTimestamp": super::rfc3339(expires)});
    Ok(Reply::Value(201, body))
}

fn bound_pod(server: &Server, key: &Key, bound: &Value) -> Result<Option<(String, String)>, Refusal> {
    let Some(name) = bound["name"].as_str() else { return Ok(None) };
    let pod = server.read(|s| s.get("pods", &Key::new(&key.namespace, name)).cloned());
    let pod = pod.ok_or_else(|| Refusal::new(404, "NotFound", format!("pods {name:?} not found")))?;
    match bound["uid"].as_str() {
        Some(uid) if uid != pod.uid() => {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            let text = format!("Operation cannot be fulfilled on Pod {name:?}: {why}");
            Err(Refusal::new(409, "Conflict", text))
        }
        _ => Ok(Some((name.to_owned(), pod.uid().to_owned()))),
    }
}

/// POST `pods/NAME/binding`.
pub fn binding(server: &Server, kind: &Kind, key: &Key, body: &Value) -> Result<Reply, Refusal> {
    server.write(|storage| {
        let pod = storage.get("pods", key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name))?;
        let bound = pod.text("/spec/nodeName");
        if !bound.is_empty() {
            let why = format!("pod {} is already assigned to node {bound:?}", key.name);
            return Err(Refusal::conflict(kind, &key.name, &why));
        }
        let mut value = pod.value().clone();
        value["spec"]["nodeName"] = body["target"]["name"].clone();
        let scheduled =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": super::timestamp(0)});
        value["status"]["conditions"] = json!([scheduled]);
        storage.put("pods", key.clone(), value);
        Ok(())
    })?;
    Ok(done())
}

/// POST `pods/NAME/eviction`.
pub fn eviction(server: &Server, kind: &Kind, key: &Key, body: &Value) -> Result<Reply, Refusal> {
    let options = DeleteOptions::of_request(&body["deleteOptions"], &Query::default())?;
    server.write(|storage| delete(storage, kind, key, &options))?;
    Ok(done())
}

fn done() -> Reply {
    Reply::Value(
        201,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    )
}

/// GET `pods/NAME/log`: three lines, and with `follow` one more every 100 ms without end.
pub fn log(server: &Server, kind: &Arc<Kind>, key: &Key, query: &Query) -> Result<Reply, Refusal> {
    server.read(|s| s.get("pods", key).cloned()).ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    let follow = query.flag("follow");
    let name = key.name.clone();
    let lines = stream::unfold(0_u64, move |n| {
        let line = format!("{name} line {n}\n");
        async move {
            if n >= 3 {
                if !follow {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some((Ok::<_, std::io::Error>(line), n + 1))
        }
    });
    let response =
        Response::builder().header(header::CONTENT_TYPE, "text/plain").body(Body::from_stream(lines));
    Ok(Reply::Raw(response.unwrap()))
}
