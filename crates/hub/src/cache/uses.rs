//! When collections were last used, told to the store: what was used least recently is known after a restart, too.

use std::sync::Arc;
use std::time::Duration;

use yurt_store::StoreError;

use super::{Cache, Front, FrontError, Registry};

/// How often. The store writes it down once a minute.
const EVERY: Duration = Duration::from_secs(60);

impl Cache {
    /// Tells the store every minute, but for the time of an outage: then nothing of the cloud's part is touched (P6).
    pub(super) async fn note_uses_for_ever(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if self.connectivity.online()
                && let Err(error) = note_uses(&self.front, &self.registry).await
            {
                tracing::debug!(%error, "uses of collections cannot be noted");
            }
        }
    }
}

/// Tells the store of every use that it was not told of.
async fn note_uses(front: &Front, registry: &Registry) -> Result<(), FrontError> {
    let used: Vec<_> = registry.all().iter().filter_map(|c| Some((c.id(), c.take_use()?))).collect();
    if used.is_empty() {
        return Ok(());
    }
    let note = move |w: &mut yurt_store::Writer| {
        used.into_iter().try_for_each(|(id, at)| match w.touch(id, at) {
            Err(StoreError::NoCollection) => Ok(()),
            noted => noted,
        })
    };
    front.write(note).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use yurt_api::collection::CollectionKey;
    use yurt_api::list::ListHeader;
    use yurt_api::representation::Representation;
    use yurt_api::resource::{Resource, TypeMeta};
    use yurt_store::{CollectionState, Options, SealKey};

    #[tokio::test]
    async fn what_was_used_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options::new(dir.path(), SealKey::from_bytes([7; 32]));
        let mut opened = yurt_store::open(options()).unwrap();
        let mut put = |resource: &str| {
            let key = CollectionKey {
                resource: Resource::new("", "v1", resource),
                namespace: None,
                labels: String::new(),
                fields: String::new(),
                representation: Representation::JSON,
            };
            let header = ListHeader {
                type_meta: TypeMeta::new("v1", "List"),
                resource_version: 5,
                ..ListHeader::default()
            };
            opened.writer.replace(&key, &header, CollectionState::Snapshot, false, 10, &[]).unwrap();
        };
        put("pods");
        put("services");
        let registry = Registry::default();
        registry.load(&opened.reader.collections().unwrap());
        let (front, threads) = Front::start(opened.writer, opened.reader).unwrap();
        let before = clock::unix();
        registry.of(&Resource::new("", "v1", "services")).iter().for_each(|c| c.touch());
        note_uses(&front, &registry).await.unwrap();
        assert!(front.close(threads, Duration::from_secs(10)).await);
        let again = yurt_store::open(options()).unwrap().reader.collections().unwrap();
        let used: Vec<_> =
            again.iter().map(|c| (c.key.resource.resource.as_str(), c.used_at >= before)).collect();
        assert_eq!(used, [("pods", false), ("services", true)]);
    }
}
