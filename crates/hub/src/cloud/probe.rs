//! The probe: a connection and one small question that only a Kubernetes API answers rightly.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;

use super::{Cloud, CloudError, Identity, Lane, Received};
use crate::connectivity::Failure;
use crate::credential::Protocol;

/// A version answer is a few hundred bytes; a portal's page can be anything.
const MAX_BODY: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    git_version: Option<String>,
    kind: Option<String>,
}

impl Cloud {
    /// Asks `/version`: `Ok` when a Kubernetes API answers, be it with a refusal of our certificate.
    /// `bound` is that of the whole probe, connecting included.
    pub async fn probe(&self, bound: Duration) -> Result<(), Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = http::Uri::from_static("/version");
        let asked = async {
            match self.send(&self.prober(), Lane::Requests, request).await {
                Ok(answer) => judge(answer).await,
                // Connections that did not answer their pings would not be there any more.
                Err(CloudError::Busy) => Ok(()),
                Err(error) => Err(failure_of(&error)),
            }
        };
        let told = tokio::time::timeout(bound, asked).await;
        match told.unwrap_or_else(|_| Err((Failure::Timeout, format!("no answer within {bound:?}")))) {
            Ok(()) => {
                self.trouble.worked();
                Ok(())
            }
            Err((failure, why)) => {
                self.trouble.failed(&why);
                Err(failure)
            }
        }
    }

    /// In whose name is asked: the node's, or nobody's as long as it has no certificate that can be used. `/version`
    /// is for everybody, and the link is there for callers with credentials of their own: without it the node could
    /// not even ask for its first certificate.
    fn prober(&self) -> Identity {
        match self.credentials.client_config(true, Protocol::Http2) {
            Ok(_) => Identity::Node,
            Err(_) => Identity::Anonymous,
        }
    }
}

fn failure_of(error: &CloudError) -> (Failure, String) {
    let failure = match error {
        CloudError::Unreachable(_) | CloudError::Lost(_) | CloudError::Busy => Failure::Refused,
        CloudError::Connecting(_) => Failure::Timeout,
        CloudError::Credential(_) => Failure::NotServing,
    };
    (failure, error.to_string())
}

async fn judge(answer: Response<Received>) -> Result<(), (Failure, String)> {
    let status = answer.status();
    let not_kubernetes =
        || (Failure::NotServing, format!("something that is not the Kubernetes API answers {status}"));
    if status.is_server_error() {
        return Err(not_kubernetes());
    }
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|_| not_kubernetes())?;
    let answer: Answer = serde_json::from_slice(&body.to_bytes()).map_err(|_| not_kubernetes())?;
    let speaks = answer.git_version.is_some() || answer.kind.as_deref() == Some("Status");
    speaks.then_some(()).ok_or_else(not_kubernetes)
}
