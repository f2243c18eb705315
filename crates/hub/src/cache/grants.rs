//! What callers were allowed online, and so may read offline (P8).
//!
//! A grant is recorded when upstream answered a read of this caller, or said yes to a
//! SelfSubjectAccessReview in its name. A token is known by its hash; who it stands for was learned
//! from upstream once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use yurt_api::request::ResourceRequest;
use yurt_store::{Grant, KnownPrincipal};

use super::lately::Lately;
use super::{Front, FrontError};
use crate::clock;

/// Principals and users whose grants are kept in memory; the store has them all.
const MAX_IN_MEMORY: usize = 512;
/// Grants that are kept in memory, of all users together; as many as the store has.
const MAX_GRANTS: usize = 10_000;
/// Grants that one user may have. Beyond them those of one object go first, the oldest of them before the others:
/// whoever reads by name reads ever new names.
const MAX_OF_USER: usize = 512;
/// A grant older than this many seconds is asked for again before a collection is shared online.
const FRESH: i64 = 300;

/// What is remembered of one user's right to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Upstream said yes, a short time ago.
    Fresh,
    /// Upstream said yes once.
    Old,
    /// Upstream never said yes.
    Unknown,
}

/// All grants.
pub struct Grants {
    front: Front,
    principals: Mutex<HashMap<[u8; 32], Arc<KnownPrincipal>>>,
    users: Mutex<HashMap<String, Vec<Grant>>>,
    asking: Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>,
    /// What the cloud was asked beside a read and did not allow.
    refused: Mutex<HashMap<String, ()>>,
    /// The reads that were recorded a moment ago, by who asked and for what.
    pub lately: Lately,
    dropped: AtomicU64,
}

impl Grants {
    /// The grants in this store.
    pub fn new(front: Front) -> Self {
        Grants {
            front,
            principals: Mutex::default(),
            users: Mutex::default(),
            asking: Mutex::default(),
            refused: Mutex::default(),
            lately: Lately::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Grants that were forgotten since the start because their users have newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Who a token stands for, if that was ever learned. Expiry is not asked: offline the last token
    /// is the only one there is (P7).
    pub async fn principal(&self, hash: [u8; 32]) -> Result<Option<Arc<KnownPrincipal>>, FrontError> {
        if let Some(known) = lock(&self.principals).get(&hash) {
            return Ok(Some(Arc::clone(known)));
        }
        let stored = self.front.read(move |r| r.principal(&hash)).await?.map(Arc::new);
        if let Some(known) = &stored {
            bounded(&mut lock(&self.principals)).insert(hash, Arc::clone(known));
        }
        Ok(stored)
    }

    /// Remembers who a token stands for.
    pub async fn learn(&self, principal: KnownPrincipal) -> Result<(), FrontError> {
        bounded(&mut lock(&self.principals)).insert(principal.token_hash, Arc::new(principal.clone()));
        self.front.write(move |w| w.put_principal(&principal)).await
    }

    /// What is remembered of the user's right to this read.
    pub async fn verdict(&self, user: &str, request: &ResourceRequest) -> Result<Verdict, FrontError> {
        self.load(user).await?;
        let wanted = Wanted::of(request);
        let users = lock(&self.users);
        let held = users.get(user).into_iter().flatten();
        let dates = held.filter(|g| g.allowed && covers(g, &wanted)).map(|g| g.at);
        Ok(judge(dates, clock::unix()))
    }

    /// Records that upstream allowed the user this read.
    pub async fn record(&self, user: &str, request: &ResourceRequest) -> Result<(), FrontError> {
        self.load(user).await?;
        let grant = grant(user, request);
        let gone = {
            let mut users = lock(&self.users);
            let held = users.entry(user.to_owned()).or_default();
            held.retain(|g| !same(g, &grant));
            held.push(grant.clone());
            let gone = shorten(held);
            let all: usize = users.values().map(Vec::len).sum();
            if all > MAX_GRANTS {
                users.retain(|name, _| name == user);
            }
            gone
        };
        self.dropped.fetch_add(gone.len() as u64, Ordering::Relaxed);
        if !gone.is_empty() {
            self.lately.clear();
        }
        self.front
            .write(move |w| {
                w.put_grant(&grant)?;
                gone.iter().try_for_each(|grant| w.remove_grant(grant))
            })
            .await
    }

    /// Forgets every grant that the cloud has just contradicted by refusing the user this read.
    pub async fn revoke(&self, user: &str, request: &ResourceRequest) -> Result<(), FrontError> {
        self.load(user).await?;
        self.lately.clear();
        let gone: Vec<Grant> = {
            let mut users = lock(&self.users);
            let Some(held) = users.get_mut(user) else { return Ok(()) };
            let wanted = Wanted::of(request);
            let (gone, kept) = std::mem::take(held).into_iter().partition(|g| covers(g, &wanted));
            *held = kept;
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.front.write(move |w| gone.iter().try_for_each(|grant| w.remove_grant(grant))).await
    }

    /// Notes that the cloud does not allow the user this read, so that nobody asks for it again in vain.
    pub fn refused(&self, user: &str, request: &ResourceRequest) {
        bounded(&mut lock(&self.refused)).insert(question(user, request), ());
    }

    /// Whether the cloud has said so.
    pub fn was_refused(&self, user: &str, request: &ResourceRequest) -> bool {
        lock(&self.refused).contains_key(&question(user, request))
    }

    /// Forgets who a token stands for: the cloud does not accept it any more.
    pub async fn forget(&self, hash: [u8; 32]) -> Result<(), FrontError> {
        lock(&self.principals).remove(&hash);
        self.lately.clear();
        self.front.write(move |w| w.remove_principal(&hash)).await
    }

    /// The right to ask the cloud who a token stands for: one at a time, the others find its answer.
    pub fn asking(&self, hash: [u8; 32]) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = lock(&self.asking);
        asking.retain(|_, gate| Arc::strong_count(gate) > 1);
        Arc::clone(asking.entry(hash).or_default())
    }

    async fn load(&self, user: &str) -> Result<(), FrontError> {
        if lock(&self.users).contains_key(user) {
            return Ok(());
        }
        let name = user.to_owned();
        let mut stored = self.front.read(move |r| r.grants(&name)).await?;
        shorten(&mut stored);
        let mut users = lock(&self.users);
        let all: usize = users.values().map(Vec::len).sum();
        if all + stored.len() > MAX_GRANTS {
            users.clear();
        }
        bounded(&mut users).entry(user.to_owned()).or_insert(stored);
        Ok(())
    }
}

/// What grants of these dates (Unix seconds) say. One that is dated in the future, by a clock that was set back since,
/// is of nobody knows when.
fn judge(dates: impl Iterator<Item = i64>, now: i64) -> Verdict {
    let verdict = |at| if (0..FRESH).contains(&(now - at)) { Verdict::Fresh } else { Verdict::Old };
    dates.map(verdict).fold(Verdict::Unknown, |best, one| if best == Verdict::Fresh { best } else { one })
}

/// Selectors narrow what was asked, and so what was granted: the fields, and the labels after a newline.
fn selector(request: &ResourceRequest) -> String {
    let (fields, labels) =
        (request.options.field_selector.canonical(), request.options.label_selector.canonical());
    if labels.is_empty() { fields } else { format!("{fields}\n{labels}") }
}

fn parts_of(selector: &str) -> (&str, &str) {
    selector.split_once('\n').unwrap_or((selector, ""))
}

fn grant(user: &str, request: &ResourceRequest) -> Grant {
    Grant {
        user: user.to_owned(),
        verb: request.verb.as_str().to_owned(),
        group: request.resource.group.clone(),
        resource: request.resource.resource.clone(),
        subresource: request.subresource.clone().unwrap_or_default(),
        namespace: request.authorization_namespace().unwrap_or_default().to_owned(),
        name: request.authorization_name().unwrap_or_default().to_owned(),
        selector: selector(request),
        allowed: true,
        at: clock::unix(),
    }
}

/// One text for a user and what it asks for.
fn question(user: &str, request: &ResourceRequest) -> String {
    let asked = Wanted::of(request);
    let parts = [asked.verb, asked.group, asked.resource, asked.namespace, asked.name, &asked.selector];
    format!("{user}\n{}", parts.join("\n"))
}

/// Whether both answer the same question.
fn same(a: &Grant, b: &Grant) -> bool {
    (&a.verb, &a.group, &a.resource, &a.subresource) == (&b.verb, &b.group, &b.resource, &b.subresource)
        && (&a.namespace, &a.name, &a.selector) == (&b.namespace, &b.name, &b.selector)
}

/// Takes away what is beyond the bound of one user.
fn shorten(held: &mut Vec<Grant>) -> Vec<Grant> {
    let beyond = held.len().saturating_sub(MAX_OF_USER);
    if beyond > 0 {
        held.sort_by_key(|grant| (grant.name.is_empty(), grant.at));
    }
    held.drain(..beyond).collect()
}

/// What authorization looks at in a request.
struct Wanted<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    selector: String,
}

impl<'a> Wanted<'a> {
    fn of(request: &'a ResourceRequest) -> Self {
        Wanted {
            verb: request.verb.as_str(),
            group: &request.resource.group,
            resource: &request.resource.resource,
            subresource: request.subresource.as_deref().unwrap_or_default(),
            namespace: request.authorization_namespace().unwrap_or_default(),
            name: request.authorization_name().unwrap_or_default(),
            selector: selector(request),
        }
    }
}

/// Whether the grant reaches as far as the request: the same verb and resource, and a scope, name and
/// selector that are the same or wider.
fn covers(grant: &Grant, wanted: &Wanted<'_>) -> bool {
    let within = |granted: &str, asked: &str| granted.is_empty() || granted == asked;
    let (granted, asked) = (parts_of(&grant.selector), parts_of(&wanted.selector));
    (grant.verb.as_str(), grant.group.as_str()) == (wanted.verb, wanted.group)
        && (grant.resource.as_str(), grant.subresource.as_str()) == (wanted.resource, wanted.subresource)
        && within(&grant.namespace, wanted.namespace)
        && within(&grant.name, wanted.name)
        && within(granted.0, asked.0)
        && within(granted.1, asked.1)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets everything when the map is full: the store still knows.
fn bounded<K, V>(map: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if map.len() >= MAX_IN_MEMORY {
        map.clear();
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use yurt_api::request::RequestInfo;

    fn request(path: &str, query: &str) -> ResourceRequest {
        RequestInfo::parse("GET", path, query).unwrap().resource().unwrap().clone()
    }

    #[test]
    fn a_grant_covers_what_was_asked_and_narrower() {
        let all = ("/api/v1/pods", "");
        let one_namespace = ("/api/v1/namespaces/a/pods", "");
        let named = ("/api/v1/namespaces/a/secrets/x", "");
        let by_node = ("/api/v1/pods", "fieldSelector=spec.nodeName%3Dedge-1");
        let by_label = ("/api/v1/pods", "labelSelector=a%3Db");
        let both = ("/api/v1/pods", "labelSelector=a%3Db&fieldSelector=spec.nodeName%3Dedge-1");
        let selected = ("/api/v1/namespaces/a/secrets", "fieldSelector=metadata.name%3Dx");
        let watch = ("/api/v1/pods", "watch=1");
        let cases = [
            (all, all, true),
            (all, one_namespace, true),
            (one_namespace, all, false),
            (one_namespace, ("/api/v1/namespaces/b/pods", ""), false),
            (named, named, true),
            (named, ("/api/v1/namespaces/a/secrets/y", ""), false),
            (named, ("/api/v1/namespaces/a/configmaps/x", ""), false),
            (by_node, all, false),
            (all, by_node, true),
            (by_node, by_node, true),
            (by_node, both, true),
            (by_label, both, true),
            (by_label, all, false),
            (by_label, by_node, false),
            (both, by_node, false),
            (selected, selected, true),
            (selected, ("/api/v1/namespaces/a/secrets", ""), false),
            (all, watch, false),
            (all, ("/apis/metrics.k8s.io/v1beta1/pods", ""), false),
        ];
        for (granted, asked, expected) in cases {
            let held = grant("u", &request(granted.0, granted.1));
            assert_eq!(
                covers(&held, &Wanted::of(&request(asked.0, asked.1))),
                expected,
                "{granted:?} for {asked:?}"
            );
        }
    }

    #[test]
    fn only_a_date_of_the_last_minutes_is_fresh() {
        let judged = |dates: &[i64]| judge(dates.iter().copied(), 1000);
        assert_eq!(judged(&[]), Verdict::Unknown);
        assert_eq!(judged(&[1000 - FRESH]), Verdict::Old);
        assert_eq!(judged(&[1001]), Verdict::Old, "the clock was set back");
        for fresh in [[1000, 1001], [1001, 1001 - FRESH]] {
            assert_eq!(judged(&fresh), Verdict::Fresh, "{fresh:?}");
        }
    }

    /// P9: a user that reads ever new names keeps what opens more than a name, and the newest names; in memory and
    /// on disk.
    #[tokio::test]
    async fn the_grants_of_one_user_have_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let key = yurt_store::SealKey::from_bytes([7; 32]);
        let opened = yurt_store::open(yurt_store::Options::new(dir.path(), key)).unwrap();
        let (front, _threads) = Front::start(opened.writer, opened.reader).unwrap();
        let grants = Grants::new(front.clone());
        let wide = request("/api/v1/pods", "");
        let named = |n: usize| request(&format!("/api/v1/namespaces/a/pods/p-{n}"), "");
        grants.record("u", &wide).await.unwrap();
        grants.record("other", &named(0)).await.unwrap();
        for n in 0..MAX_OF_USER + 9 {
            grants.record("u", &named(n)).await.unwrap();
        }
        let stored = front.read(|r| r.grants("u")).await.unwrap();
        assert_eq!((stored.len(), grants.dropped()), (MAX_OF_USER, 10));
        for grants in [grants, Grants::new(front)] {
            let verdict = async |user, request| grants.verdict(user, &request).await.unwrap();
            assert_eq!(verdict("u", wide.clone()).await, Verdict::Fresh);
            assert_eq!(verdict("other", named(0)).await, Verdict::Fresh);
            assert_eq!(verdict("u", named(9)).await, Verdict::Unknown, "the oldest name is gone");
            assert_eq!(verdict("u", named(10)).await, Verdict::Fresh);
            assert_eq!(verdict("u", named(MAX_OF_USER + 8)).await, Verdict::Fresh);
        }
    }
}
