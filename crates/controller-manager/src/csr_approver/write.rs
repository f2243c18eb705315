//! The writes: an approval, and an Event that says why there is none.

use http::{Method, Request};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Error;
use serde_json::{Value, json};

use super::decide::Reason;
use crate::clock::rfc3339;
use crate::controllers::Context;
use crate::write::event::Event;

/// Approves exactly this version of the request; false when it has changed, is gone, or this process leads no more.
pub async fn approve(
    context: &Context,
    request: &CertificateSigningRequest,
    message: &str,
) -> Result<bool, Error> {
    let now = rfc3339(context.clock.now().unix);
    let metadata = &request.metadata;
    let patch = json!({
        "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": {"conditions": [{
            "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
            "lastUpdateTime": now, "lastTransitionTime": now,
        }]},
    });
    let name = metadata.name.as_deref().unwrap_or_default();
    let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval");
    let written = send(context, Method::PATCH, &path, "application/merge-patch+json", &patch).await?;
    if written {
        tracing::info!(request = name, message, "approved");
    }
    Ok(written)
}

/// Says why a request is left for a human; once, whoever leads.
pub async fn leave(
    context: &Context,
    request: &CertificateSigningRequest,
    reason: &Reason,
) -> Result<(), Error> {
    let metadata = &request.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    tracing::info!(request = name, reason = reason.label(), "left for a human");
    let event = Event {
        kind: "CertificateSigningRequest",
        api_version: "certificates.k8s.io/v1",
        namespace: String::new(),
        name,
        uid: metadata.uid.clone().unwrap_or_default(),
        level: "Warning",
        reason: "LeftForHuman",
        message: format!("not approved by yurt-controller-manager: {reason}"),
        occasion: reason.label().to_owned(),
    };
    let mut object = event.object();
    let now = Value::from(rfc3339(context.clock.now().unix));
    object["firstTimestamp"] = now.clone();
    object["lastTimestamp"] = now;
    let path = format!("/api/v1/namespaces/{}/events", event.place());
    send(context, Method::POST, &path, "application/json", &object).await.map(drop)
}

/// Whether it was written; not when the object has changed, is gone, or is there already.
async fn send(
    context: &Context,
    method: Method,
    path: &str,
    content: &str,
    body: &Value,
) -> Result<bool, Error> {
    context.pace.wait().await;
    if !context.leadership.leads(context.clock.now().since_start) {
        return Ok(false);
    }
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content);
    let request = request.body(body.to_string().into_bytes()).map_err(Error::HttpError)?;
    match context.client.request_text(request).await {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}
