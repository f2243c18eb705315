//! The probe: a connection and one small question that only a Kubernetes API answers rightly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::backend::{Backend, SendError};
use super::health::{self, Health};
use super::pace::{PATIENT_PROBE, PROBE};
use super::{Cloud, CloudError, Identity, Lane, Received};
use crate::clock;
use crate::connectivity::Failure;
use crate::credential::Protocol;
use crate::tasks::{self, Shutdown};

/// A version answer is a few hundred bytes; a portal's page can be anything.
const MAX_BODY: usize = 64 << 10;
/// How often it is looked whether a server that failed is due for another look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a probe failed, as the link sees it and in words.
type Failed = (Failure, String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    git_version: Option<String>,
    kind: Option<String>,
}

impl Cloud {
    /// Asks every server for `/version`: `Ok` as soon as a Kubernetes API answers, be it with a refusal of our
    /// certificate. `patient` is for a link that is lost already: nobody waits for it.
    pub async fn probe(self: &Arc<Self>, patient: bool) -> Result<(), Failure> {
        let (sender, mut told) = mpsc::channel(self.backends.len().max(1));
        for index in 0..self.backends.len() {
            let (cloud, sender) = (Arc::clone(self), sender.clone());
            // One that hangs goes to its end, for its health, also when another has answered.
            tasks::spawn("probe", tasks::Failure::Local, async move {
                let _ = sender.send(cloud.probe_one(index, patient).await).await;
            });
        }
        drop(sender);
        let mut failed: Option<Failed> = None;
        while let Some(answer) = told.recv().await {
            match answer {
                Ok(()) => {
                    self.trouble.worked();
                    return Ok(());
                }
                // Who is silent says more about the link than who refuses.
                Err(worse) if failed.is_none() || worse.0 == Failure::Timeout => failed = Some(worse),
                Err(_) => {}
            }
        }
        let (failure, why) = failed.unwrap_or((Failure::Refused, "no server is configured".to_owned()));
        self.trouble.failed(&why);
        Err(failure)
    }

    /// Looks again and again after servers that failed, until the shutdown.
    pub async fn look_after_servers(self: Arc<Self>, mut shutdown: Shutdown) {
        while self.backends.len() > 1 {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for (index, backend) in self.backends.iter().enumerate() {
                let due =
                    matches!(backend.health(), Health::Ill { again, .. } if again <= clock::monotonic());
                if due {
                    let _ = self.probe_one(index, true).await;
                }
            }
        }
    }

    /// Asks one server. Its health takes note of the answer.
    async fn probe_one(&self, index: usize, patient: bool) -> Result<(), Failed> {
        let Some(backend) = self.backends.get(index) else {
            return Err((Failure::Refused, "no such server".to_owned()));
        };
        let bound = backend.line.pace.bound(if patient { PATIENT_PROBE } else { PROBE });
        let before = backend.line.heard.bytes();
        let told = tokio::time::timeout(bound, self.ask_version(backend)).await;
        let told = told.unwrap_or_else(|_| Err((Failure::Timeout, format!("no answer within {bound:?}"))));
        let told = match told {
            // On a slow link the answer waits behind others' bytes, and they have come.
            Err((Failure::Timeout, _)) if backend.line.is_at_work_since(before) => Ok(()),
            told => told,
        };
        let event = if told.is_ok() { health::Event::Worked } else { health::Event::Failed };
        self.note(backend, event);
        if !self.is_used(backend) {
            // The connection was for this question only.
            backend.renew();
        }
        told
    }

    async fn ask_version(&self, backend: &Backend) -> Result<(), Failed> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = http::Uri::from_static("/version");
        let node = self.prober().is_node();
        let (connected, asked) = (backend.is_connected(node, Lane::Requests), clock::monotonic());
        match backend.send(self, node, Lane::Requests, request).await {
            Ok(answer) => {
                if connected {
                    backend.line.pace.measured(asked.elapsed());
                }
                judge(answer).await
            }
            // Connections that did not answer their pings would not be there any more.
            Err(SendError::NotSent(_, CloudError::Busy)) => Ok(()),
            Err(SendError::NotSent(_, error) | SendError::Sent(error)) => Err(failure_of(&error)),
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

fn failure_of(error: &CloudError) -> Failed {
    let failure = match error {
        CloudError::Unreachable(_) | CloudError::Lost(_) | CloudError::Busy => Failure::Refused,
        CloudError::Connecting(_) => Failure::Timeout,
        CloudError::Credential(_) => Failure::NotServing,
    };
    (failure, error.to_string())
}

async fn judge(answer: Response<Received>) -> Result<(), Failed> {
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
