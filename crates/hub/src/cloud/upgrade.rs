//! Upgraded requests (exec, attach, port-forward: WebSocket and SPDY): an HTTP/1.1 connection of their
//! own, and bytes both ways after the 101.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Cloud, CloudError, Identity, Lane, Received};
use crate::credential::Protocol;
use crate::tasks;

/// The read buffer of one upgraded connection in bytes.
const BUFFER: usize = 16 << 10;

impl Cloud {
    /// Sends an upgrade request on a connection of its own; the answer can be upgraded in turn.
    pub async fn send_upgrade(
        &self,
        identity: &Identity,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, CloudError> {
        let mut last = CloudError::Unreachable("no server is configured".to_owned());
        for backend in self.in_order(Lane::Requests) {
            let stream = match backend.connect(self, identity.is_node(), Protocol::Http1).await {
                Ok(stream) => stream,
                Err(error) => {
                    self.failed(backend, &error);
                    last = error;
                    continue;
                }
            };
            if let Ok(host) = backend.authority().parse() {
                request.headers_mut().insert(header::HOST, host);
            }
            let lost = |e: hyper::Error| CloudError::Lost(e.to_string());
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(lost)?;
            tasks::spawn("upgraded connection", tasks::Failure::Local, async move {
                let _ = connection.with_upgrades().await;
            });
            let answer = sender.send_request(request).await.map_err(lost)?;
            return Ok(answer.map(Received::alone));
        }
        Err(last)
    }
}
