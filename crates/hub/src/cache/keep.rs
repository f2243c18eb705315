//! Keeping what the cloud answered: whole lists as collections, single objects, documents.
//!
//! Nothing is kept while the cloud counts as lost (P6), and nothing that is not whole (P3).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use yurt_api::collection::CollectionKey;
use yurt_api::list::{self, List, ListHeader};
use yurt_api::object;
use yurt_api::representation::Representation;
use yurt_api::request::ResourceRequest;
use yurt_api::resource::TypeMeta;
use yurt_store::{Change, CollectionRecord, CollectionState, Document, Fetched, Row, StoreError, Writer};

use super::collection::{Collection, Upstream};
use super::lately::Note;
use super::{Cache, FrontError};
use crate::clock;
use crate::cloud::Identity;
use crate::connectivity::Connectivity;

/// The largest answer to a GET that is compared with what was kept a moment ago, in bytes.
const MAX_NOTED: usize = 64 << 10;

/// Why an answer was not kept; counted by this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The link was lost meanwhile.
    #[error("link-lost")]
    LinkLost,
    /// It is not the last page of a list whose others were seen, or an exact old version.
    #[error("partial")]
    Partial,
    /// It does not go on where the page before it ended: of another version, or another type.
    #[error("pages-differ")]
    PagesDiffer,
    /// It is larger than what is taken into memory, or the pages of the list are together.
    #[error("too-large")]
    TooLarge,
    /// It cannot be read, or has no version.
    #[error("undecodable")]
    Undecodable,
    /// Its body broke off, or nothing more of it came.
    #[error("cut-short")]
    CutShort,
    /// The cloud answered in another form than the client's first choice.
    #[error("other-form")]
    OtherForm,
    /// A newer state is held.
    #[error("older")]
    Older,
    /// Too many collections are held.
    #[error("too-many")]
    TooMany,
    /// Other answers take the memory for those that are kept.
    #[error("no-room")]
    NoRoom,
    /// The store failed.
    #[error("store")]
    Store,
    /// The store does not come to an end with it; it may be kept later.
    #[error("slow-store")]
    SlowStore,
}

impl From<FrontError> for NotKept {
    fn from(_: FrontError) -> Self {
        NotKept::Store
    }
}

impl Cache {
    /// The key of the collection that a list or watch of this representation is about.
    pub fn key_of(request: &ResourceRequest, representation: Representation) -> CollectionKey {
        CollectionKey {
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            labels: request.options.label_selector.canonical(),
            fields: request.options.field_selector.canonical(),
            representation,
        }
    }

    /// Whether the answer to this list of `who` can be a collection, or the next page of one.
    pub fn keeps(&self, who: &Identity, request: &ResourceRequest) -> bool {
        let options = &request.options;
        let continues = |token: &String| self.pages.awaits(who, token);
        options.resource_version_match.as_deref() != Some("Exact")
            && options.continue_token.as_ref().is_none_or(continues)
    }

    /// Keeps a whole list, or one whose last page has come, as a snapshot, from which a watch can go on;
    /// `None` = further pages are to come. `asked` is when the client asked, before the cloud was.
    pub async fn keep_list(
        &self,
        request: &ResourceRequest,
        representation: Representation,
        body: &Bytes,
        identity: &Identity,
        asked: Instant,
    ) -> Result<Option<Arc<Collection>>, NotKept> {
        if !self.keeps(identity, request) {
            return Err(NotKept::Partial);
        }
        let key = Cache::key_of(request, representation);
        let page = list::split(representation.encoding, body).map_err(|_| NotKept::Undecodable)?;
        let token = request.options.continue_token.as_deref();
        let newest = request.options.resource_version.is_none() && token.is_none();
        let newest = newest.then_some(asked);
        match self.pages.join(identity, &key, token, page, body.len(), clock::monotonic())? {
            Some(list) => self.keep_split(key, list, identity, newest).await.map(Some),
            None => {
                self.pages.watch_over(&self.metrics);
                Ok(None)
            }
        }
    }

    /// Keeps a whole list that was read by a request for `key`. `newest` is when the state of now was asked for,
    /// if it was: an answer that is older than what was held then shows that the cluster was set back.
    pub(super) async fn keep_split(
        &self,
        key: CollectionKey,
        list: List,
        identity: &Identity,
        newest: Option<Instant>,
    ) -> Result<Arc<Collection>, NotKept> {
        let turn = self.turns.of(&key);
        let _turn = turn.lock().await;
        self.keep_in_turn(key, list, CollectionState::Snapshot, identity, newest).await
    }

    /// The same for who has the collection's turn.
    pub(super) async fn keep_in_turn(
        &self,
        key: CollectionKey,
        list: List,
        state: CollectionState,
        identity: &Identity,
        newest: Option<Instant>,
    ) -> Result<Arc<Collection>, NotKept> {
        if !list.header.continue_token.is_empty() {
            return Err(NotKept::Partial);
        }
        if list.header.resource_version == 0 {
            return Err(NotKept::Undecodable);
        }
        let held = self.registry.get(&key);
        if let Some(held) = &held {
            let version = list.header.resource_version;
            let reflected = held.state() == CollectionState::Live;
            if state != CollectionState::Live && reflected {
                return Err(NotKept::Older);
            }
            if held.version() > version {
                let shows = newest.is_some_and(|asked| held.is_ahead_of(version, asked));
                if !shows || !self.is_set_back(&key, held.version(), identity).await {
                    return Err(NotKept::Older);
                }
            }
        }
        if is_metadata(&list.header.type_meta) != key.representation.metadata_only
            || list.header.type_meta.kind == "Table"
        {
            return Err(NotKept::OtherForm);
        }
        let rows = rows_of(&key, &list)?;
        if !self.connectivity.reachable() {
            return Err(NotKept::LinkLost);
        }
        match &held {
            // Who lists it uses it; what a reflector lists nobody may have asked for.
            Some(held) if state == CollectionState::Snapshot => held.touch(),
            Some(_) => {}
            None => self.make_room().await?,
        }
        let node_owned = identity.is_node() || held.as_ref().is_some_and(|h| h.node_owned());
        // A whole list where a reflector works is as good as its own.
        let goes_on = state == CollectionState::Snapshot && held.as_ref().is_some_and(|h| h.is_reflected());
        let stored_state = if goes_on { CollectionState::Live } else { state };
        let now = clock::unix();
        let header = ListHeader { remaining: None, ..list.header };
        let (stored_key, stored_header) = (key.clone(), header.clone());
        let damaged = held.as_ref().filter(|h| h.is_damaged()).map(|h| h.id());
        let (id, changes, previous) = self
            .write_linked(move |w| {
                damaged.map_or(Ok(()), |id| w.remove(id))?;
                w.replace(&stored_key, &stored_header, stored_state, node_owned, now, &rows)
            })
            .await?
            .ok_or(NotKept::LinkLost)?;
        let version = header.resource_version;
        if held.as_ref().is_some_and(|held| held.version() > version) {
            // What was fetched of the time that is gone would stand before what is true now.
            self.front.write(move |w| w.forget_fetched_after(version)).await?;
        }
        if let Some(held) = held.as_ref().filter(|_| !goes_on) {
            if state == CollectionState::Live || !held.is_reflected() {
                held.set_state(state);
            } else {
                // A reflector began meanwhile: what it says of the collection stands.
                let _ = self.front.write(move |w| w.set_state(id, CollectionState::Live)).await;
            }
        }
        match held {
            // What the store had of it is gone: what its watchers know of cannot be told from what is new.
            Some(held) if damaged.is_some() || held.id() != id => {
                held.heal(id, version);
                self.endpoints.look_again();
                Ok(held)
            }
            Some(held) => {
                held.set_id(id);
                self.replaced(&held, changes, previous, version);
                if let Some(asked) = newest {
                    self.settle_asked(&held, asked).await;
                }
                Ok(held)
            }
            None => {
                let record = CollectionRecord {
                    id,
                    key,
                    header,
                    state,
                    observed_at: now,
                    used_at: now,
                    objects: 0,
                    bytes: 0,
                    node_owned,
                };
                let held = self.registry.insert(&record).ok_or(NotKept::Undecodable)?;
                held.touch();
                self.cover_new(&held).await?;
                self.endpoints.look_again();
                Ok(held)
            }
        }
    }

    /// Tells watchers the difference between the rows before and after.
    fn replaced(&self, held: &Collection, changes: Vec<Change>, previous: Vec<Option<Row>>, version: u64) {
        if version < held.version() {
            tracing::warn!(collection = %held.key(), held = held.version(), now = version,
                "the cluster's versions went back: it was restored from a backup");
            held.restart(version);
            self.history.travelled();
            return self.endpoints.look_again();
        }
        let mut told: Vec<Upstream> = changes
            .into_iter()
            .zip(previous)
            .flat_map(|(change, was)| differences(change, was, version))
            .collect();
        told.sort_by_key(|c| c.version);
        self.tell(held, told, version, true);
    }

    /// Tells a collection's watchers what upstream changed up to `version`, or what is different in a list of it (`listed`),
    /// but for what the node knows better.
    pub(super) fn tell(
        &self,
        collection: &Collection,
        mut changes: Vec<Upstream>,
        version: u64,
        listed: bool,
    ) {
        self.endpoints.weigh(collection, &mut changes, &self.node_name);
        collection.upstream(changes, version, listed);
    }

    /// Keeps the answer to a GET of one object, unless a live collection has it already.
    pub async fn keep_object(
        &self,
        request: &ResourceRequest,
        representation: Representation,
        body: &Bytes,
    ) -> Result<(), NotKept> {
        let encoding = representation.encoding;
        let undecodable = |_| NotKept::Undecodable;
        let type_meta = object::type_meta(encoding, body).map_err(undecodable)?;
        if is_metadata(&type_meta) != representation.metadata_only {
            return Err(NotKept::OtherForm);
        }
        let item = object::to_item(encoding, body).map_err(undecodable)?;
        let meta = object::meta(encoding, &item).map_err(undecodable)?;
        let asked = request.object_key();
        if asked.as_ref() != Some(&meta.key()) || meta.resource_version == 0 {
            return Err(NotKept::Undecodable);
        }
        let fetched = Fetched {
            resource: request.resource.clone(),
            key: meta.key(),
            subresource: request.subresource.clone().unwrap_or_default(),
            representation,
            type_meta,
            resource_version: meta.resource_version,
            uid: meta.uid,
            body: item,
            observed_at: clock::unix(),
        };
        let note = self.kept_note(request, representation, body);
        self.put_object(fetched).await?;
        note.inspect(|note| self.kept.put(*note, clock::monotonic()));
        Ok(())
    }

    /// Keeps it, but for an older version than what is held: that of a server which lags.
    async fn put_object(&self, fetched: Fetched) -> Result<(), NotKept> {
        let about = (fetched.resource.clone(), fetched.key.clone(), fetched.subresource.clone());
        let fetched = Arc::new(fetched);
        let shown = Arc::clone(&fetched);
        if self.write_linked(move |w| w.put_fetched(&shown)).await?.ok_or(NotKept::LinkLost)? {
            self.doubts.ends(&about);
            return Ok(());
        }
        if !self.doubts.grows(&about, clock::monotonic()) {
            return Err(NotKept::Older);
        }
        tracing::warn!(object = %about.1, "an object went back: the cluster was restored from a backup");
        self.write_linked(move |w| w.put_fetched_back(&fetched)).await?.ok_or(NotKept::LinkLost)?;
        self.doubts.ends(&about);
        Ok(())
    }

    /// Runs a job that brings the cloud's word into the store; `None` when the link is lost by the time that the store
    /// comes to it, which with a slow disk may be long after it was asked for (P6).
    pub(super) async fn write_linked<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<Option<R>, FrontError> {
        self.front.write(while_linked(self.connectivity.clone(), job)).await
    }

    /// Whether this very answer was kept a moment ago.
    pub fn kept_lately(&self, request: &ResourceRequest, form: Representation, body: &Bytes) -> bool {
        let note = self.kept_note(request, form, body);
        note.is_some_and(|note| self.kept.has(note, clock::monotonic()))
    }

    /// What is noted of an answer that is kept; nothing of a large one, which would take long to compare.
    fn kept_note(&self, request: &ResourceRequest, form: Representation, body: &Bytes) -> Option<Note> {
        let content = (&request.subresource, form, body, self.front.evicted());
        (body.len() <= MAX_NOTED)
            .then(|| self.kept.note_of((&request.resource, request.object_key()), content))
    }

    /// Forgets a fetched object that the cloud says is gone.
    pub async fn forget_object(&self, request: &ResourceRequest) {
        let Some(key) = request.object_key() else { return };
        let resource = request.resource.clone();
        let (of, named) = (resource.clone(), key.clone());
        if let Ok(Some(_)) = self.write_linked(move |w| w.forget_fetched(&resource, &key)).await {
            self.kept.forget((&of, Some(named)));
        }
    }

    /// Keeps a discovery, OpenAPI or version document.
    pub async fn keep_document(&self, document: Document) {
        let _ = self.write_linked(move |w| w.put_document(&document)).await;
    }
}

fn while_linked<R>(
    link: Connectivity,
    job: impl FnOnce(&mut Writer) -> Result<R, StoreError>,
) -> impl FnOnce(&mut Writer) -> Result<Option<R>, StoreError> {
    move |writer| if link.reachable() { job(writer).map(Some) } else { Ok(None) }
}

/// What a list of version `version` says of one object that is not what it was.
fn differences(change: Change, previous: Option<Row>, version: u64) -> Vec<Upstream> {
    let told =
        |key, version, row, previous| Upstream { key, version, row, previous, received: None, held: false };
    match change {
        Change::Delete { key, .. } => vec![told(key, version, None, previous)],
        // Another object of that name: the first went before the second came.
        Change::Upsert(row) if previous.as_ref().is_some_and(|previous| previous.uid != row.uid) => {
            let (key, came) = (row.key.clone(), row.resource_version);
            let went = told(key.clone(), came.saturating_sub(1), None, previous);
            vec![went, told(key, came, Some(row), None)]
        }
        Change::Upsert(row) => vec![told(row.key.clone(), row.resource_version, Some(row), previous)],
    }
}

fn is_metadata(kind: &TypeMeta) -> bool {
    kind.api_version.starts_with("meta.k8s.io/") && kind.kind.starts_with("PartialObjectMetadata")
}

/// The rows of a list, in item form, each standing alone so that one kept object does not keep the
/// whole body in memory.
fn rows_of(key: &CollectionKey, list: &List) -> Result<Vec<Row>, NotKept> {
    let encoding = key.representation.encoding;
    list.items
        .iter()
        .map(|item| {
            let meta = object::meta(encoding, item).map_err(|_| NotKept::Undecodable)?;
            Ok(Row {
                key: meta.key(),
                resource_version: meta.resource_version,
                uid: meta.uid,
                body: item.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use yurt_store::{Options, SealKey};

    use super::super::front::Front;
    use super::*;
    use crate::connectivity::State;

    /// P6: what waits behind a slow disk when the link is lost does not land after it.
    #[tokio::test]
    async fn what_the_store_comes_to_after_the_loss_stays_out() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealKey::from_bytes([7; 32]);
        let opened = yurt_store::open(Options::new(folder.path(), key)).unwrap();
        let (front, threads) = Front::start(opened.writer, opened.reader).unwrap();
        let (moved, link) = Connectivity::by_hand(State::Online);
        let document = || Document {
            path: "/version".into(),
            accept: String::new(),
            status: 200,
            content_type: "application/json".into(),
            etag: None,
            body: Bytes::from_static(b"{}"),
            observed_at: 0,
        };
        let keep = |document: Document| {
            front.write(while_linked(link.clone(), move |w: &mut Writer| w.put_document(&document)))
        };
        assert!(keep(document()).await.unwrap().is_some());
        let (go_on, hangs) = mpsc::sync_channel::<()>(1);
        let hang = front.write(move |_| {
            let _ = hangs.recv();
            Ok(())
        });
        let lose = async {
            moved.send_modify(|s| s.state = State::Recovering);
            go_on.send(()).unwrap();
        };
        let (hung, late, ()) = tokio::join!(hang, keep(document()), lose);
        hung.unwrap();
        assert!(late.unwrap().is_none());
        assert!(front.close(threads, std::time::Duration::from_secs(10)).await);
    }
}
