//! Requests that go to the cloud, and their answers on the way back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{ResourceRequest, Verb};

use super::flow::Flow;
use super::through::{Onward, Through};
use super::{Asked, Pipeline, text};
use crate::cloud::{self, CloudError, Lane, Received};
use crate::connectivity::Event;
use crate::identify::Caller;
use crate::respond::{self, Body, BoxError, Reason, SOURCE};
use crate::tasks;

/// The bound on the first byte of an answer for which nothing is held: the apiserver's own
/// `--request-timeout`.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
/// A body of which nothing comes for this long is broken off.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// A client that takes nothing of a streamed body for this long is cut off.
pub(super) const WRITE_BOUND: Duration = Duration::from_secs(60);
/// The largest body of a single object or a write's answer that is read whole, in bytes.
pub(super) const MAX_OBJECT: usize = 16 << 20;
/// Upgraded connections at one time; each costs a connection on both sides.
pub(super) const MAX_TUNNELS: usize = 128;
/// The largest body that is passed on in one piece, in bytes: half of a stream's window, so that it never waits.
pub(super) const SMALL: u64 = 64 << 10;
/// The buffer of each direction of an upgraded connection, in bytes.
const TUNNEL_BUFFER: usize = 16 << 10;

/// Why the cloud did not answer a request well.
pub(super) enum Trouble {
    /// Nothing came, and whether any of the request may have arrived there.
    Failed(CloudError),
    /// No first byte within the bound.
    Slow,
    /// Something came that is not a working Kubernetes API; as it came.
    Odd(Box<Response<Received>>),
}

impl Pipeline {
    /// Sends and waits for the head of the answer, at most `bound`, and not beyond the loss of the link.
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        body: Bytes,
        bound: Duration,
    ) -> Result<Response<Received>, Trouble> {
        let identity = asked.caller.identity();
        let request = cloud::outgoing(&asked.parts, &identity, body);
        let sent = self.cloud.send(&identity, Lane::Requests, request);
        let answer = tokio::select! {
            answer = tokio::time::timeout(bound, sent) => answer,
            () = self.connectivity.lost() => return Err(Trouble::Failed(CloudError::Lost("the link is lost".to_owned()))),
        };
        match answer {
            Err(_) => {
                self.cloud.signal().report(Event::Doubtful);
                Err(Trouble::Slow)
            }
            Ok(Err(CloudError::Connecting(_))) => Err(Trouble::Slow),
            Ok(Err(error)) => Err(Trouble::Failed(error)),
            Ok(Ok(answer)) if is_odd(&answer) => {
                self.cloud.signal().report(Event::Doubtful);
                Err(Trouble::Odd(Box::new(answer)))
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// The bound for requests that nothing in the store could answer.
    pub(super) fn patient(&self) -> Duration {
        ANSWER_BOUND
    }

    /// Passes a request through, both ways untouched.
    pub(super) async fn pass(&self, asked: Asked, body: Bytes) -> Response<Body> {
        match self.ask(&asked, body, ANSWER_BOUND).await {
            Ok(answer) => self.pass_on(&asked, answer).await,
            Err(trouble) => self.troubled(&asked, trouble).await,
        }
    }

    /// The cloud's answer, its body at the client's pace.
    pub(super) async fn pass_on(&self, asked: &Asked, answer: Response<Received>) -> Response<Body> {
        // A watch is drained at once or cut: it must not hold a place that others wait for.
        if let Some(watch) = asked.resource().filter(|r| r.verb == Verb::Watch) {
            return self.pass_stream(Some(watch), answer, false, None);
        }
        let (mut parts, body) = answer.into_parts();
        cloud::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(SOURCE, HeaderValue::from_static("cloud"));
        if body.size_hint().exact().is_some_and(|length| length <= SMALL) {
            return Response::from_parts(parts, in_one_piece(body).await);
        }
        let Some(place) = self.cloud.pace(&asked.caller.identity()).await else {
            return asked.refuse(Reason::Overload, "too many slow readers: try again");
        };
        Response::from_parts(parts, paced(body, place))
    }

    /// The cloud's answer to a watch, of `tables` if the client asked for them: its own stream, from which `onward` may
    /// take over.
    pub(super) fn pass_stream(
        &self,
        request: Option<&ResourceRequest>,
        answer: Response<Received>,
        tables: bool,
        onward: Option<Onward>,
    ) -> Response<Body> {
        let said = text(answer.headers(), header::CONTENT_TYPE).and_then(Representation::of_content_type);
        let encoding = said.map_or(Encoding::Json, |said| said.encoding);
        let (mut parts, body) = answer.into_parts();
        cloud::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(SOURCE, HeaderValue::from_static("cloud"));
        let through = Through::new(encoding, request, tables, onward, self.shutdown.clone());
        Response::from_parts(parts, through.body(body))
    }

    /// The cloud's answer with a body that was read already.
    pub(super) fn pass_whole(&self, mut parts: http::response::Parts, body: Bytes) -> Response<Body> {
        cloud::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(SOURCE, HeaderValue::from_static("cloud"));
        Response::from_parts(parts, respond::full(body))
    }

    /// What a client gets when the cloud failed and nothing is held.
    pub(super) async fn troubled(&self, asked: &Asked, trouble: Trouble) -> Response<Body> {
        match trouble {
            Trouble::Slow => asked.refuse(Reason::Slow, "the cloud did not answer in time"),
            Trouble::Failed(CloudError::Busy) => asked.refuse(Reason::Overload, CloudError::Busy.to_string()),
            Trouble::Failed(CloudError::Credential(why)) => asked.refuse(Reason::Offline, why),
            Trouble::Failed(error) => asked.refuse(Reason::Offline, error.to_string()),
            // Upstream's own words are better than ours, if they are words of the API.
            Trouble::Odd(answer) if speaks_api(&answer) => self.pass_on(asked, *answer).await,
            Trouble::Odd(answer) => {
                let message =
                    format!("something that is not the Kubernetes API answered {}", answer.status());
                asked.refuse(Reason::Offline, message)
            }
        }
    }

    /// An upgraded request: bytes both ways until one side ends.
    pub(super) async fn tunnel(&self, asked: Asked, body: Bytes) -> Response<Body> {
        let identity = asked.caller.identity();
        let mut request = cloud::outgoing(&asked.parts, &identity, body);
        for name in [header::UPGRADE, header::CONNECTION] {
            for value in asked.parts.headers.get_all(&name) {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        let Ok(place) = Arc::clone(&self.tunnels).try_acquire_owned() else {
            return asked.refuse(Reason::Overload, "too many upgraded connections: try again");
        };
        let sent = tokio::time::timeout(ANSWER_BOUND, self.cloud.send_upgrade(&identity, request));
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return asked.refuse(Reason::Offline, error.to_string()),
            Err(_) => return asked.refuse(Reason::Slow, "the cloud did not answer in time"),
        };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.pass_on(&asked, answer).await;
        }
        let mut response = Response::new(respond::full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        let local = asked.parts.extensions.get::<hyper::upgrade::OnUpgrade>().cloned();
        let connectivity = self.connectivity.clone();
        tasks::spawn("tunnel", tasks::Failure::Local, async move {
            let _place = place;
            let Some(local) = local else { return };
            let (Ok(local), Ok(remote)) = tokio::join!(local, hyper::upgrade::on(answer)) else { return };
            let (mut local, mut remote) = (TokioIo::new(local), TokioIo::new(remote));
            let (size, both) = (TUNNEL_BUFFER, (&mut local, &mut remote));
            tokio::select! {
                _ = tokio::io::copy_bidirectional_with_sizes(both.0, both.1, size, size) => {}
                // The other end may be silent for ever: so the local one learns that nobody listens.
                () = connectivity.lost() => {}
            }
        });
        response
    }
}

/// 502, 503 and 504 and HTML are signs of a failing link, whoever sent them.
fn is_odd(answer: &Response<Received>) -> bool {
    let bad = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    bad.contains(&answer.status())
        || text(answer.headers(), header::CONTENT_TYPE).is_some_and(|t| t.starts_with("text/html"))
}

/// Whether the cloud knows the caller and says no, or does not accept its credential.
pub(super) fn is_refusal(answer: &Response<Received>) -> bool {
    matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && speaks_api(answer)
}

/// Whether the cloud does not accept the node's certificate: its end takes nothing from the node (P7), which boots as if
/// the link were lost.
pub(super) fn refuses_the_node(asked: &Asked, answer: &Response<Received>) -> bool {
    asked.caller == Caller::Node && answer.status() == StatusCode::UNAUTHORIZED
}

/// Whether the body is one of the API's, as far as its type says.
pub(super) fn speaks_api(answer: &Response<Received>) -> bool {
    text(answer.headers(), header::CONTENT_TYPE).and_then(Representation::of_content_type).is_some()
}

/// A small body of known length, sent with its head in one write. What breaks off there breaks off here.
async fn in_one_piece(body: Received) -> Body {
    match whole(body, MAX_OBJECT).await {
        Ok(whole) => respond::full(whole),
        Err(error) => respond::streaming(futures_util::stream::once(async { Err(error) })),
    }
}

/// A body at its client's pace, which holds its place among the paced ones as long as it flows.
fn paced(body: Received, place: OwnedSemaphorePermit) -> Body {
    let (flow, stream) = Flow::new();
    tasks::spawn("paced body", tasks::Failure::Local, pump(body, flow, place));
    stream
}

/// Sends a body as it comes, to its end; it is cut when nobody reads it.
pub(super) async fn pump(mut body: Received, flow: Flow, _place: OwnedSemaphorePermit) {
    loop {
        let next = tokio::select! {
            next = body.frame() => next,
            () = flow.closed() => return,
            () = tokio::time::sleep(SILENCE) => return,
        };
        let chunk = match next.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => return flow.end(),
            Some(Ok(Ok(chunk))) => chunk,
            Some(Ok(Err(_trailers))) => continue,
            Some(Err(_)) => return,
        };
        if flow.send_within(WRITE_BOUND, chunk).await.is_err() {
            return;
        }
    }
}

/// Reads a whole body of at most `bound` bytes, however slowly it comes; `Err` says why it is not whole.
pub(super) async fn whole(body: Received, bound: usize) -> Result<Bytes, BoxError> {
    let (mut body, mut pieces) = (Limited::new(body, bound), Vec::new());
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await? {
        pieces.extend(frame?.into_data());
    }
    Ok(match <[Bytes; 1]>::try_from(pieces) {
        Ok([piece]) => piece,
        Err(pieces) => pieces.concat().into(),
    })
}
