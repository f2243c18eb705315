//! One request, from its head to its answer: who asks, where it goes, what comes back.

mod beside;
mod body;
mod credential;
mod document;
mod flow;
mod keep;
mod learn;
mod old_metadata;
mod read;
mod roots;
mod table;
mod through;
mod told;
mod upstream;
mod verbs;
mod view;
mod watch;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use yurt_api::representation::{Accepted, Encoding, Representation, Shape, negotiate};
use yurt_api::request::{RequestInfo, RequestKind, ResourceRequest, Verb};

use crate::cache::{Cache, FrontError};
use crate::cloud::Cloud;
use crate::connectivity::{Connectivity, State};
use crate::identify::{Caller, Peer, identify};
use crate::metrics::Metrics;
use crate::respond::{self, Body, Reason};
use crate::route::{Manner, Route, route};
use crate::tasks::{self, Shutdown};

use body::Bodies;

/// How long a request waits for a process that has just started to hear from the cloud.
const FIRST_WORD: Duration = Duration::from_millis(1500);
/// The same for an answer that says "later": whoever gets it asks again by itself, and a boot with no cloud
/// must not wait.
const A_MOMENT: Duration = Duration::from_millis(30);

/// The pipeline with all it needs.
pub struct Pipeline {
    /// The cache.
    pub cache: Arc<Cache>,
    /// The cloud.
    pub cloud: Arc<Cloud>,
    /// The state of the link.
    pub connectivity: Connectivity,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Places for reads beside others.
    beside: Arc<Semaphore>,
    /// The memory for bodies of requests.
    bodies: Bodies,
    /// The places of upgraded connections.
    tunnels: Arc<Semaphore>,
    /// The end of the process.
    shutdown: Shutdown,
}

/// A request that has been understood.
pub(crate) struct Asked {
    /// When.
    pub(crate) at: Instant,
    pub(crate) parts: http::request::Parts,
    pub(crate) info: RequestInfo,
    pub(crate) caller: Caller,
    /// Everything that the client takes, best first.
    pub(crate) accepted: Vec<Accepted>,
    /// Those of them that the store can hold; may be empty.
    pub(crate) wanted: Vec<Representation>,
    pub(crate) reason: Reason,
}

impl Asked {
    /// The request for a resource; the route makes sure that it is one.
    pub(crate) fn resource(&self) -> Option<&ResourceRequest> {
        self.info.resource()
    }

    /// What the client likes best, when it is something that a collection can hold.
    pub(crate) fn preferred(&self) -> Option<Representation> {
        match self.accepted.first() {
            Some(Accepted::Held(representation)) => Some(*representation),
            _ => None,
        }
    }

    /// The form of an answer of this encoding, as the apiserver must have understood the client: its
    /// `Content-Type` does not tell metadata and tables from whole objects. `None` for what is not held.
    pub(crate) fn form(&self, headers: &HeaderMap) -> Option<Representation> {
        let encoding =
            text(headers, header::CONTENT_TYPE).and_then(Representation::of_content_type)?.encoding;
        let before_others =
            self.accepted.iter().take_while(|a| matches!(a, Accepted::Held(_) | Accepted::Other(_)));
        let held = before_others.filter_map(|a| if let Accepted::Held(r) = a { Some(*r) } else { None });
        held.into_iter().find(|r| r.encoding == encoding)
    }

    /// What the client likes best of all that could be made.
    pub(crate) fn best(&self) -> Option<&Accepted> {
        self.accepted.iter().find(|a| !matches!(a, Accepted::Other(_)))
    }

    /// The encoding for errors: the first that the client takes.
    pub(crate) fn encoding(&self) -> Encoding {
        self.wanted.first().map_or(Encoding::Json, |r| r.encoding)
    }

    /// The refusal of what cannot be made of such an answer, if the client likes that best.
    pub(crate) fn misfit(&self) -> Option<Response<Body>> {
        match self.best() {
            Some(Accepted::Misfit(why)) => Some(respond::failure(406, "NotAcceptable", *why, Encoding::Json)),
            _ => None,
        }
    }

    pub(crate) fn refuse(&self, reason: Reason, message: impl Into<String>) -> Response<Body> {
        respond::refusal(reason, message, self.encoding())
    }

    /// The store failed at what was asked of it.
    pub(crate) fn store_failed(&self, error: &FrontError) -> Response<Body> {
        self.refuse(Reason::StoreFailed, format!("the node's store failed: {error}"))
    }
}

impl Pipeline {
    /// The pipeline over these parts.
    pub fn new(
        cache: Arc<Cache>,
        cloud: Arc<Cloud>,
        connectivity: Connectivity,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        let beside = Arc::new(Semaphore::new(beside::AT_ONCE));
        Self {
            cache,
            cloud,
            connectivity,
            metrics,
            beside,
            bodies: Bodies::default(),
            tunnels: Arc::new(Semaphore::new(upstream::MAX_TUNNELS)),
            shutdown,
        }
    }

    /// Answers one request. Always returns an answer.
    pub async fn serve(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Body> {
        let begun = crate::clock::monotonic();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let agent = user_agent(request.headers());
        let done = tasks::caught("request", Box::pin(self.answer(request, &peer))).await;
        let (verb, reason, answer) = done.unwrap_or_else(|| {
            let message = "the hub failed at this request; its log says how";
            ("unknown", Reason::Failed, respond::refusal(Reason::Failed, message, Encoding::Json))
        });
        let code = answer.status().as_u16();
        // A refusal further down says more than the way that was taken.
        let reason = answer.extensions().get::<Reason>().copied().unwrap_or(reason);
        self.metrics.answered(verb, reason.as_str(), code);
        let ms = begun.elapsed().as_secs_f64() * 1000.0;
        tracing::debug!(%method, path, verb, code, reason = reason.as_str(), ms, agent, "answered");
        answer
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> (&'static str, Reason, Response<Body>) {
        let at = crate::clock::monotonic();
        let (parts, body) = request.into_parts();
        let caller = identify(peer, &parts.headers, self.cache.node_name());
        let parsed =
            RequestInfo::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or(""));
        let shape = parsed.as_ref().ok().and_then(RequestInfo::resource).map(shape_of);
        let accepted = negotiate(text(&parts.headers, header::ACCEPT), shape);
        let wanted = held(&accepted);
        let info = match parsed {
            Ok(info) => info,
            // The cloud says best what is wrong, and whether the caller may know.
            Err(_) if self.connectivity.reachable() && !matches!(caller, Caller::Foreign(_)) => {
                return ("unknown", Reason::BadRequest, self.pass_unread(parts, caller, body).await);
            }
            Err(bad) => {
                let encoding = wanted.first().map_or(Encoding::Json, |r| r.encoding);
                return (
                    "unknown",
                    Reason::BadRequest,
                    respond::refusal(Reason::BadRequest, bad.message, encoding),
                );
            }
        };
        let verb = match &info.kind {
            RequestKind::NonResource => "document",
            RequestKind::Resource(r) => r.verb.as_str(),
        };
        let manner = Manner::of(&parts.method, &parts.headers);
        let link = self.link().await;
        let route = route(&info, &caller, link, manner);
        let asked = Asked { at, parts, info, caller, accepted, wanted, reason: route.reason() };
        let head = asked.parts.method == Method::HEAD;
        let mut answer = self.follow(route, asked, body).await;
        if head {
            // Whoever made the answer: what follows a head would be taken for the next one's.
            *answer.body_mut() = respond::full(Bytes::new());
        }
        (verb, route.reason(), answer)
    }

    /// Passes on a request that cannot be read.
    async fn pass_unread(
        self: &Arc<Self>,
        parts: http::request::Parts,
        caller: Caller,
        body: Incoming,
    ) -> Response<Body> {
        let accepted = negotiate(text(&parts.headers, header::ACCEPT), None);
        let info = RequestInfo {
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or("").to_owned(),
            kind: RequestKind::NonResource,
        };
        let (at, wanted) = (crate::clock::monotonic(), held(&accepted));
        let asked = Asked { at, parts, info, caller, accepted, wanted, reason: Reason::BadRequest };
        self.with_body(asked, body, |p, a, b| Box::pin(p.pass(a, b))).await
    }

    /// The state of the link; a process that has just started with nothing in its store waits for the
    /// first word from the cloud, because it could answer nothing.
    async fn link(&self) -> State {
        let now = self.connectivity.now().state;
        let knows_nothing =
            matches!(now, State::Offline { starting: true, .. } | State::Recovering) && self.cache.is_empty();
        if knows_nothing {
            self.connectivity.decided(FIRST_WORD).await;
        }
        self.connectivity.now().state
    }

    /// A process that has just started does not refuse for good what the cloud may be about to answer.
    async fn or_when_started(self: &Arc<Self>, answer: Response<Body>, asked: Asked) -> Response<Body> {
        if asked.reason != Reason::Starting || !respond::is_refusal(&answer) {
            return answer;
        }
        let bound = match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FIRST_WORD,
            _ => A_MOMENT,
        };
        self.connectivity.decided(bound).await;
        match asked.resource().map(|r| r.verb) {
            _ if !self.connectivity.reachable() => match answer.status() {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    asked.refuse(Reason::Starting, refusal_text(Reason::Starting))
                }
                _ => answer,
            },
            None => Box::pin(self.document(asked)).await,
            Some(Verb::Watch) => Box::pin(self.watch(asked)).await,
            Some(_) => self.read(asked).await,
        }
    }

    async fn follow(self: &Arc<Self>, route: Route, asked: Asked, body: Incoming) -> Response<Body> {
        match route {
            Route::Refuse(reason) => asked.refuse(reason, refusal_text(reason)),
            Route::Tunnel(_) => self.with_body(asked, body, |p, a, b| Box::pin(p.tunnel(a, b))).await,
            Route::Pass(_) => self.with_body(asked, body, |p, a, b| Box::pin(p.pass(a, b))).await,
            Route::Document(_) => self.document(asked).await,
            Route::Watch(_) => self.watch(asked).await,
            Route::View(reason) => {
                let answer = self.view(&asked, reason).await;
                self.or_when_started(answer, asked).await
            }
            Route::Fresh(_) => self.fresh(asked).await,
            Route::Read(_) => self.read(asked).await,
            Route::Credential(_) => self.with_body(asked, body, |p, a, b| Box::pin(p.credential(a, b))).await,
            Route::Write(_) => self.with_body(asked, body, |p, a, b| Box::pin(p.write(a, b))).await,
        }
    }

    /// Reads the whole body, within its bound, and goes on with it.
    async fn with_body<'a>(
        self: &'a Arc<Self>,
        asked: Asked,
        body: Incoming,
        next: impl FnOnce(&'a Arc<Self>, Asked, Bytes) -> futures_util::future::BoxFuture<'a, Response<Body>>,
    ) -> Response<Body> {
        match self.bodies.read(&asked.caller, body, &self.metrics.request_bodies).await {
            Ok(whole) => next(self, asked, whole.bytes.clone()).await,
            Err((reason, message)) => asked.refuse(reason, message),
        }
    }
}

fn shape_of(request: &ResourceRequest) -> Shape {
    match request.verb {
        Verb::List => Shape::List,
        Verb::Watch => Shape::Stream,
        _ => Shape::One,
    }
}

/// The representations that a client takes and the store can hold.
fn held(accepted: &[Accepted]) -> Vec<Representation> {
    accepted.iter().filter_map(|a| if let Accepted::Held(r) = a { Some(*r) } else { None }).collect()
}

fn refusal_text(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownCaller => {
            "the cloud cannot be reached, and this credential was never seen while it could"
        }
        Reason::ForeignCertificate => {
            "the hub cannot speak for this certificate: use the node's, or a bearer token"
        }
        Reason::CloudOnly => "the cloud cannot be reached, and this write needs it",
        _ => "the cloud cannot be reached",
    }
}

pub(crate) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn user_agent(headers: &HeaderMap) -> String {
    text(headers, header::USER_AGENT).unwrap_or("").chars().take(64).collect()
}
