//! Looks whether the admission policy is there, and says so when it is not: marks alone refuse nothing.

use std::time::Duration;

use serde_json::Value;

use crate::controllers::Context;
use crate::manifests::POLICY;

/// The name of the part in `/readyz`.
const PART: &str = "deletion-policy";
/// Time between looks.
const PERIOD: Duration = Duration::from_secs(60);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks every minute, for ever.
pub async fn watch(context: Context) {
    loop {
        let off = missing(&context.client).await;
        if let Some(known) = off
            && context.health.part(PART, known.clone())
            && let Some(why) = known
        {
            tracing::warn!(why, "deletions of protected pods are not refused");
        }
        context.clock.sleep(PERIOD).await;
    }
}

/// What is missing, if anything; nothing is known when there is no answer.
async fn missing(client: &kube::Client) -> Option<Option<String>> {
    for plural in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}/{POLICY}");
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        match tokio::time::timeout(PATIENCE, client.request::<Value>(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return Some(Some(format!(
                    "there is no {plural} {POLICY}, or the cluster does not serve them"
                )));
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the admission policy cannot be read");
                return None;
            }
            Err(_) => return None,
        }
    }
    Some(None)
}
