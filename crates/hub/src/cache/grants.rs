//! What callers were allowed online, and so may read offline (P8).
//!
//! A grant is recorded when upstream answered a read of this caller, or said yes to a
//! SelfSubjectAccessReview in its name. A token is known by its hash; who it stands for was learned
//! from upstream once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use yurt_api::request::ResourceRequest;
use yurt_store::{Grant, KnownPrincipal};

use super::{Front, FrontError};
use crate::clock;

/// Principals and users whose grants are kept in memory; the store has them all.
const MAX_IN_MEMORY: usize = 512;
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
}

impl Grants {
    /// The grants in this store.
    pub fn new(front: Front) -> Self {
        Grants { front, principals: Mutex::default(), users: Mutex::default(), asking: Mutex::default() }
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
        let users = lock(&self.users);
        let newest = users
            .get(user)
            .and_then(|held| held.iter().filter(|g| g.allowed && covers(g, request)).map(|g| g.at).max());
        Ok(match newest {
            Some(at) if clock::unix() - at < FRESH => Verdict::Fresh,
            Some(_) => Verdict::Old,
            None => Verdict::Unknown,
        })
    }

    /// Records that upstream allowed the user this read.
    pub async fn record(&self, user: &str, request: &ResourceRequest) -> Result<(), FrontError> {
        self.load(user).await?;
        let grant = grant(user, request);
        {
            let mut users = lock(&self.users);
            let held = users.entry(user.to_owned()).or_default();
            held.retain(|g| !same(g, &grant));
            held.push(grant.clone());
        }
        self.front.write(move |w| w.put_grant(&grant)).await
    }

    /// Forgets every grant that the cloud has just contradicted by refusing the user this read.
    pub async fn revoke(&self, user: &str, request: &ResourceRequest) -> Result<(), FrontError> {
        self.load(user).await?;
        let gone: Vec<Grant> = {
            let mut users = lock(&self.users);
            let Some(held) = users.get_mut(user) else { return Ok(()) };
            let (gone, kept) = std::mem::take(held).into_iter().partition(|g| covers(g, request));
            *held = kept;
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.front.write(move |w| gone.iter().try_for_each(|grant| w.remove_grant(grant))).await
    }

    /// Forgets who a token stands for: the cloud does not accept it any more.
    pub async fn forget(&self, hash: [u8; 32]) -> Result<(), FrontError> {
        lock(&self.principals).remove(&hash);
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
        let stored = self.front.read(move |r| r.grants(&name)).await?;
        bounded(&mut lock(&self.users)).entry(user.to_owned()).or_insert(stored);
        Ok(())
    }
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

fn same(a: &Grant, b: &Grant) -> bool {
    Grant { at: 0, ..a.clone() } == Grant { at: 0, ..b.clone() }
}

/// Whether the grant reaches as far as the request: the same verb and resource, and a scope, name and
/// selector that are the same or wider.
fn covers(grant: &Grant, request: &ResourceRequest) -> bool {
    let within = |granted: &str, asked: &str| granted.is_empty() || granted == asked;
    let wanted = selector(request);
    let (granted, asked) = (parts_of(&grant.selector), parts_of(&wanted));
    grant.verb == request.verb.as_str()
        && grant.group == request.resource.group
        && grant.resource == request.resource.resource
        && grant.subresource == request.subresource.as_deref().unwrap_or_default()
        && within(&grant.namespace, request.authorization_namespace().unwrap_or_default())
        && within(&grant.name, request.authorization_name().unwrap_or_default())
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
            assert_eq!(covers(&held, &request(asked.0, asked.1)), expected, "{granted:?} for {asked:?}");
        }
    }
}
