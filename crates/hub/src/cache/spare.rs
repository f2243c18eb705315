//! The bound on the number of collections: when it is reached, the one goes that nobody has used for longest.
//!
//! Never while the cloud cannot be asked (P6), nor one that somebody follows, writes over, or that a boot would need.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::collection::Collection;
use super::keep::NotKept;
use super::wanted::Wanted;
use super::{Cache, FrontError};

/// Collections that may be held at once.
const MAX_COLLECTIONS: usize = 1024;
/// Places that are free after a garbage collection, if anything may go.
const FREE: usize = 64;
/// What the node opened may go after this time, if its pods do not need it.
const NODE_UNUSED: Duration = Duration::from_secs(24 * 3600);

impl Cache {
    /// From now on this does not make room for anything else.
    pub async fn spare(&self, wanted: Wanted) -> Result<(), FrontError> {
        let objects = wanted.objects.clone();
        let news = self.needed.now().is_none_or(|before| before.objects != objects);
        self.needed.put(wanted);
        let spare = move |w: &mut yurt_store::Writer| {
            w.spare_fetched(&objects);
            Ok(())
        };
        if news { self.front.write(spare).await } else { Ok(()) }
    }

    /// A place for one more collection.
    pub(super) async fn make_room(&self) -> Result<(), NotKept> {
        self.let_go_beyond(MAX_COLLECTIONS - 1).await?;
        (self.registry.len() < MAX_COLLECTIONS).then_some(()).ok_or(NotKept::TooMany)
    }

    /// Frees some places before they are needed.
    pub(super) async fn keep_places_free(&self) {
        if let Err(error) = self.let_go_beyond(MAX_COLLECTIONS - FREE).await {
            tracing::warn!(%error, "collections that nobody uses cannot be removed");
        }
    }

    async fn let_go_beyond(&self, most: usize) -> Result<(), FrontError> {
        let beyond = self.registry.len().saturating_sub(most);
        if beyond == 0 || !self.connectivity.online() {
            return Ok(());
        }
        let wanted = self.needed.now();
        let mut spare = self.registry.all();
        spare.retain(|collection| may_go(collection, wanted.as_deref()));
        spare.sort_by_cached_key(|collection| Reverse(collection.idle()));
        spare.truncate(beyond);
        // Before anybody waits: who asks from now on finds it not held, and not half gone.
        for gone in &spare {
            tracing::debug!(collection = %gone.key(), idle = ?gone.idle(), "let go for others");
            self.registry.remove(gone);
            self.metrics.collections_let_go.inc();
        }
        let ids: Vec<_> = spare.iter().map(|collection| collection.id()).collect();
        self.front.write(move |w| ids.iter().try_for_each(|id| w.remove(*id))).await
    }
}

/// Whether a collection may make room for others. `wanted` is `None` while nobody knows what the node's pods need.
fn may_go(collection: &Arc<Collection>, wanted: Option<&Wanted>) -> bool {
    let followed = collection.is_reflected() || collection.watchers() > 0 || !collection.masks().is_empty();
    let needed = wanted.is_some_and(|wanted| wanted.is_in(collection.key()));
    let of_node = collection.node_owned() && (wanted.is_none() || collection.idle() < NODE_UNUSED);
    !followed && !needed && !of_node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::collection::Mask;
    use crate::clock;
    use yurt_api::collection::{CollectionKey, ObjectKey};
    use yurt_api::list::ListHeader;
    use yurt_api::representation::Representation;
    use yurt_api::resource::Resource;
    use yurt_store::{CollectionId, CollectionRecord, CollectionState};

    fn named(name: &str, node_owned: bool, used_at: i64) -> Arc<Collection> {
        let key = CollectionKey {
            resource: Resource::new("", "v1", "configmaps"),
            namespace: Some("d".into()),
            labels: String::new(),
            fields: format!("metadata.name={name}"),
            representation: Representation::PROTOBUF,
        };
        Arc::new(
            Collection::new(&CollectionRecord {
                id: CollectionId(1),
                key,
                header: ListHeader::default(),
                state: CollectionState::Frozen,
                observed_at: 0,
                used_at,
                objects: 0,
                bytes: 0,
                node_owned,
            })
            .unwrap(),
        )
    }

    #[test]
    fn what_is_followed_needed_or_used_today_stays() {
        let (now, day) = (clock::unix(), 24 * 3600);
        let objects = [(Resource::new("", "v1", "configmaps"), ObjectKey::new("d", "needed"))];
        let wanted = Wanted { objects: objects.into(), ..Wanted::default() };
        let cases = [
            (named("other", false, now), true),
            (named("needed", false, now), false),
            (named("other", true, now - day + 60), false),
            (named("other", true, now - day - 60), true),
            (named("needed", true, now - day - 60), false),
            (named("dated-by-no-clock", true, 60), false),
        ];
        for (collection, expected) in cases {
            let key = collection.key().to_string();
            assert_eq!(may_go(&collection, Some(&wanted)), expected, "{key}");
            let unknown = !collection.node_owned();
            assert_eq!(may_go(&collection, None), unknown, "{key} while the pods are not known");
            let watching = collection.enter();
            assert!(!may_go(&collection, Some(&wanted)), "{key} is watched");
            drop(watching);
        }
        let reflected = named("other", false, now);
        reflected.start_reflecting();
        assert!(!may_go(&reflected, Some(&wanted)));
        let written = named("other", false, now);
        let body = Some(bytes::Bytes::from_static(b"\n\x07\n\x05other"));
        let mask = Mask { version: 1 << 62, body, delivered: None, derived: false };
        written.mask(&ObjectKey::new("d", "other"), mask, None);
        assert!(!may_go(&written, Some(&wanted)), "a local write stands over it");
    }
}
