//! The other verbs of a right to read: who lists will watch, and get what is listed, and may do so for the first time
//! when the cloud cannot be asked any more. So the cloud is asked once, in the caller's own name, as soon as it has
//! allowed one of the three; offline its word counts as ever (P1, P8).

use std::sync::Arc;
use std::time::Duration;

use yurt_api::request::{Options, ResourceRequest, Verb};

use super::Pipeline;
use crate::cache::FrontError;
use crate::cache::grants::Verdict;
use crate::credential::reviews;
use crate::identify::Caller;

/// An answer that does not come by then is not waited for; the next read asks again.
const BOUND: Duration = Duration::from_secs(10);

impl Pipeline {
    /// The cloud allowed this list or watch: asks for what usually comes with it and is not known yet.
    pub(super) async fn learn_verbs(
        self: &Arc<Self>,
        caller: &Caller,
        request: &ResourceRequest,
    ) -> Result<(), FrontError> {
        // What the node may is known by its own collections.
        let Caller::Token { .. } = caller else { return Ok(()) };
        let Some(user) = self.user(caller).await? else { return Ok(()) };
        let grants = &self.cache.grants;
        for other in others(request) {
            if grants.verdict(&user, &other).await? != Verdict::Unknown || grants.was_refused(&user, &other) {
                continue;
            }
            match self.may(caller, &other).await {
                Some(true) => grants.record(&user, &other).await?,
                Some(false) => grants.refused(&user, &other),
                None => {}
            }
        }
        Ok(())
    }

    /// The cloud refused this list or watch: looks whether what came with it still stands.
    pub(super) async fn unlearn_verbs(
        self: &Arc<Self>,
        caller: &Caller,
        request: &ResourceRequest,
    ) -> Result<(), FrontError> {
        let Caller::Token { .. } = caller else { return Ok(()) };
        let Some(user) = self.user(caller).await? else { return Ok(()) };
        for other in others(request) {
            let held = self.cache.grants.verdict(&user, &other).await? != Verdict::Unknown;
            if held && self.may(caller, &other).await == Some(false) {
                self.cache.grants.revoke(&user, &other).await?;
            }
        }
        Ok(())
    }

    async fn may(&self, caller: &Caller, request: &ResourceRequest) -> Option<bool> {
        let identity = caller.identity();
        let asking = reviews::may(&self.cloud, &identity, request);
        tokio::time::timeout(BOUND, asking).await.ok().flatten()
    }
}

/// The same read by the other verbs; none of what is no list.
fn others(request: &ResourceRequest) -> Vec<ResourceRequest> {
    if !matches!(request.verb, Verb::List | Verb::Watch) || request.subresource.is_some() {
        return Vec::new();
    }
    let other = if request.verb == Verb::List { Verb::Watch } else { Verb::List };
    let same = ResourceRequest { verb: other, ..request.clone() };
    let name = request.authorization_name().map(str::to_owned);
    // Selectors other than the name mean nothing to a get, and a right to a part is none to every name.
    let selects = !request.options.label_selector.is_empty() || !request.options.field_selector.is_empty();
    let get = (name.is_some() || !selects).then(|| ResourceRequest {
        verb: Verb::Get,
        name,
        options: Options::default(),
        ..request.clone()
    });
    std::iter::once(same).chain(get).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yurt_api::request::RequestInfo;

    #[test]
    fn a_list_comes_with_a_watch_and_gets() {
        let of = |path: &str| {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let request = RequestInfo::parse("GET", path, query).unwrap().resource().unwrap().clone();
            let others = others(&request);
            others.into_iter().map(|o| (o.verb.as_str(), o.name.unwrap_or_default())).collect::<Vec<_>>()
        };
        let named = |verb, name: &str| (verb, name.to_owned());
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(of(pods), [named("watch", ""), named("get", "")]);
        assert_eq!(of(&format!("{pods}?watch=1")), [named("list", ""), named("get", "")]);
        let one = format!("{pods}?fieldSelector=metadata.name%3Dx");
        assert_eq!(of(&one), [named("watch", ""), named("get", "x")]);
        assert_eq!(of(&format!("{pods}?labelSelector=a")), [named("watch", "")]);
        assert_eq!(of(&format!("{pods}/x")), []);
    }
}
