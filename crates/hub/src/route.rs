//! Where a request goes, and why. Pure: request, caller, link, in; a route that carries its reason, out.

use http::{HeaderMap, HeaderValue, Method, header};
use yurt_api::request::{RequestInfo, RequestKind, ResourceRequest, Verb};

use crate::cache::version;
use crate::connectivity::State;
use crate::credential::{reviews, vault};
use crate::identify::Caller;
use crate::respond::Reason;

/// Subresources of pods, nodes and services that are byte streams or live calls, never state.
const TUNNELS: [&str; 5] = ["exec", "attach", "portforward", "proxy", "log"];
/// The apiserver's own health.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];
/// Documents that describe the API; remembered and served offline.
const DOCUMENTS: [&str; 4] = ["/api", "/apis", "/openapi", "/version"];

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the cloud, its answer untouched and not kept.
    Pass(Reason),
    /// To the cloud as a two-way stream of bytes.
    Tunnel(Reason),
    /// To the cloud; the answer is kept, and the store stands in when the cloud is slow.
    Read(Reason),
    /// To the live collection, when there is one and the caller may; else as [`Route::Read`].
    Fresh(Reason),
    /// A watch.
    Watch(Reason),
    /// To the store.
    View(Reason),
    /// A document that describes the API.
    Document(Reason),
    /// A token, a review: kept when the cloud answers, repeated when it cannot.
    Credential(Reason),
    /// A write: to the cloud, or into the journal when the cloud is lost.
    Write(Reason),
    /// Nowhere.
    Refuse(Reason),
}

impl Route {
    /// Why.
    pub fn reason(self) -> Reason {
        match self {
            Route::Pass(r) | Route::Tunnel(r) | Route::Read(r) | Route::Fresh(r) | Route::Watch(r) => r,
            Route::View(r)
            | Route::Document(r)
            | Route::Credential(r)
            | Route::Write(r)
            | Route::Refuse(r) => r,
        }
    }
}

/// What the head of a request says beside what it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The method is GET.
    pub get: bool,
    /// The connection is to become something else.
    pub upgrade: bool,
    /// The caller wants to be taken for somebody else (`Impersonate-*`).
    pub impersonates: bool,
}

impl Manner {
    /// Reads a head.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        Manner {
            get: method == Method::GET,
            upgrade: headers.get_all(header::UPGRADE).iter().any(is_tunnel),
            impersonates: headers.keys().any(|name| name.as_str().starts_with("impersonate-")),
        }
    }
}

/// Whether a protocol that the client offers is one that the API's servers change to
/// (`k8s.io/apimachinery/pkg/util/httpstream`, `.../httpstream/wsstream`). Any other offer, such as h2c, may be passed
/// over (RFC 9110 section 7.8), and the request is an ordinary one.
fn is_tunnel(offered: &HeaderValue) -> bool {
    let known = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("websocket") || name.eq_ignore_ascii_case("spdy")
    };
    offered.to_str().is_ok_and(|protocols| protocols.split(',').any(known))
}

/// The route of a request.
pub fn route(info: &RequestInfo, caller: &Caller, link: State, manner: Manner) -> Route {
    if let Caller::Foreign(_) = caller {
        return Route::Refuse(Reason::ForeignCertificate);
    }
    let away = away(link);
    if let (Some(Reason::Offline | Reason::Recovering), Caller::Anonymous) = (away, caller) {
        return Route::Refuse(Reason::UnknownCaller);
    }
    match &info.kind {
        _ if manner.upgrade => away.map_or(Route::Tunnel(Reason::Online), Route::Refuse),
        // Only the cloud can say whether the caller may be somebody else, and what that one may read.
        _ if manner.impersonates => {
            let refused = |why| if why == Reason::Starting { why } else { Reason::NotGranted };
            away.map_or(Route::Pass(Reason::Online), |why| Route::Refuse(refused(why)))
        }
        RequestKind::NonResource if !manner.get => away.map_or(Route::Pass(Reason::Online), Route::Refuse),
        RequestKind::NonResource => document(&info.path, away),
        RequestKind::Resource(request) => resource(request, caller, away),
    }
}

/// Why the cloud is not asked, if it is not.
fn away(link: State) -> Option<Reason> {
    match link {
        State::Online | State::Suspect { .. } => None,
        State::Offline { starting: true, .. } => Some(Reason::Starting),
        State::Offline { .. } => Some(Reason::Offline),
        State::Recovering => Some(Reason::Recovering),
    }
}

fn document(path: &str, away: Option<Reason>) -> Route {
    let under =
        |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if HEALTH.iter().any(under) || !DOCUMENTS.iter().any(under) {
        return away.map_or(Route::Pass(Reason::Online), Route::Refuse);
    }
    Route::Document(away.unwrap_or(Reason::Online))
}

fn resource(request: &ResourceRequest, caller: &Caller, away: Option<Reason>) -> Route {
    if request.subresource.as_deref().is_some_and(|s| TUNNELS.contains(&s)) {
        return away.map_or(Route::Pass(Reason::Online), Route::Refuse);
    }
    let reason = away.unwrap_or(Reason::Online);
    match request.verb {
        Verb::Watch => Route::Watch(reason),
        Verb::Get | Verb::List if away.is_some() => Route::View(reason),
        Verb::Get | Verb::List if version::not_older_than(request).is_some() => Route::Fresh(Reason::Live),
        Verb::Get | Verb::List => Route::Read(reason),
        Verb::Create
            if *caller == Caller::Node
                && (vault::is_token_request(request) || reviews::is_review(request)) =>
        {
            Route::Credential(reason)
        }
        _ => match (caller, away) {
            (Caller::Node, _) | (_, None) => Route::Write(reason),
            (_, Some(_)) => Route::Refuse(Reason::CloudOnly),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Caller {
        Caller::Token { hash: [0; 32], header: HeaderValue::from_static("Bearer x") }
    }

    fn offline() -> State {
        crate::connectivity::machine::step(
            State::initial(),
            crate::connectivity::Event::ProbeFailed(crate::connectivity::Failure::Timeout),
            crate::clock::monotonic(),
        )
        .0
    }

    fn routed(method: &str, target: &str, caller: &Caller, link: State) -> Route {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let manner = Manner { get: method == "GET", ..Manner::default() };
        route(&RequestInfo::parse(method, path, query).unwrap(), caller, link, manner)
    }

    #[test]
    fn every_kind_of_request_has_its_place_online_and_offline() {
        use Reason::{CloudOnly, Live, Offline, Online};
        let cases = [
            ("GET", "/api/v1/pods", Route::Read(Online), Route::View(Offline)),
            ("GET", "/api/v1/pods?resourceVersion=0", Route::Fresh(Live), Route::View(Offline)),
            (
                "GET",
                "/api/v1/pods?resourceVersion=0&resourceVersionMatch=Exact",
                Route::Read(Online),
                Route::View(Offline),
            ),
            ("GET", "/api/v1/pods?resourceVersion=5", Route::Fresh(Live), Route::View(Offline)),
            ("GET", "/api/v1/pods?resourceVersion=5&limit=1", Route::Read(Online), Route::View(Offline)),
            ("HEAD", "/version", Route::Pass(Online), Route::Refuse(Offline)),
            ("OPTIONS", "/api/v1/pods", Route::Pass(Online), Route::Refuse(Offline)),
            ("GET", "/api/v1/pods?watch=1", Route::Watch(Online), Route::Watch(Offline)),
            ("GET", "/api/v1/namespaces/d/pods/a", Route::Read(Online), Route::View(Offline)),
            ("GET", "/api/v1/namespaces/d/pods/a/log", Route::Pass(Online), Route::Refuse(Offline)),
            ("POST", "/api/v1/namespaces/d/pods/a/exec", Route::Pass(Online), Route::Refuse(Offline)),
            ("GET", "/version", Route::Document(Online), Route::Document(Offline)),
            ("GET", "/apis/apps/v1", Route::Document(Online), Route::Document(Offline)),
            ("GET", "/openapi/v3", Route::Document(Online), Route::Document(Offline)),
            ("GET", "/healthz", Route::Pass(Online), Route::Refuse(Offline)),
            ("GET", "/readyz/etcd", Route::Pass(Online), Route::Refuse(Offline)),
            ("GET", "/metrics", Route::Pass(Online), Route::Refuse(Offline)),
            ("POST", "/api/v1/namespaces/d/configmaps", Route::Write(Online), Route::Refuse(CloudOnly)),
        ];
        for (method, target, online, off) in cases {
            assert_eq!(routed(method, target, &token(), State::Online), online, "{method} {target} online");
            assert_eq!(routed(method, target, &token(), offline()), off, "{method} {target} offline");
        }
    }

    #[test]
    fn the_node_writes_and_gets_credentials_offline() {
        let tokens = "/api/v1/namespaces/d/serviceaccounts/a/token";
        assert_eq!(routed("POST", tokens, &Caller::Node, offline()), Route::Credential(Reason::Offline));
        assert_eq!(routed("POST", tokens, &token(), State::Online), Route::Write(Reason::Online));
        assert_eq!(routed("POST", tokens, &token(), offline()), Route::Refuse(Reason::CloudOnly));
        assert_eq!(
            routed("PATCH", "/api/v1/nodes/n/status", &Caller::Node, offline()),
            Route::Write(Reason::Offline)
        );
    }

    #[test]
    fn who_wants_to_be_another_is_the_clouds_to_judge() {
        let info = RequestInfo::parse("GET", "/api/v1/pods", "").unwrap();
        let manner = Manner { get: true, impersonates: true, upgrade: false };
        for caller in [Caller::Node, token()] {
            assert_eq!(route(&info, &caller, State::Online, manner), Route::Pass(Reason::Online));
            assert_eq!(route(&info, &caller, offline(), manner), Route::Refuse(Reason::NotGranted));
        }
    }

    #[test]
    fn only_what_the_api_changes_to_is_a_tunnel() {
        let cases = [
            ("SPDY/3.1", true),
            ("websocket", true),
            ("h2c, WebSocket", true),
            ("h2c", false),
            ("TLS/1.2", false),
            ("", false),
        ];
        for (offered, expected) in cases {
            let headers = HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static(offered))]);
            assert_eq!(Manner::of(&Method::POST, &headers).upgrade, expected, "{offered:?}");
        }
        assert!(!Manner::of(&Method::GET, &HeaderMap::new()).upgrade);
    }

    #[test]
    fn strangers_get_nothing_of_the_store() {
        let foreign = Caller::Foreign("someone".to_owned());
        assert_eq!(
            routed("GET", "/api/v1/pods", &foreign, State::Online),
            Route::Refuse(Reason::ForeignCertificate)
        );
        assert_eq!(
            routed("GET", "/api/v1/pods", &Caller::Anonymous, offline()),
            Route::Refuse(Reason::UnknownCaller)
        );
        assert_eq!(
            routed("GET", "/version", &Caller::Anonymous, offline()),
            Route::Refuse(Reason::UnknownCaller)
        );
        assert_eq!(
            routed("GET", "/api/v1/pods", &Caller::Anonymous, State::Online),
            Route::Read(Reason::Online)
        );
    }
}
