//! Reads from the store: the view of a collection, or one object.

use std::sync::Arc;

use bytes::Bytes;
use yurt_api::collection::ObjectKey;
use yurt_api::representation::{Encoding, Representation};
use yurt_api::request::{ResourceRequest, Verb};
use yurt_api::resource::TypeMeta;
use yurt_api::table::Form;
use yurt_store::{CollectionId, CollectionState, Reader, StoreError};

use super::collection::Collection;
use super::filter::{Filter, cover};
use super::items::assemble;
use super::version::{self, Unfit};
use super::{Cache, FrontError};
use crate::respond;

/// Every form in which objects are held.
const REPRESENTATIONS: [Representation; 4] = [
    Representation { encoding: Encoding::Json, metadata_only: false },
    Representation { encoding: Encoding::Json, metadata_only: true },
    Representation { encoding: Encoding::Protobuf, metadata_only: false },
    Representation { encoding: Encoding::Protobuf, metadata_only: true },
];

/// Which collections may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only those that a reflector keeps, in the very representation that is asked for.
    Live,
    /// Only those in the very representation that is asked for, up to date or not.
    Same,
    /// Whatever is held, converted where need be.
    Held,
}

/// A whole list, ready to send.
pub struct ListView {
    /// The body.
    pub pieces: Vec<Bytes>,
    /// What the body is written in.
    pub representation: Representation,
    /// Unix seconds of the last word from upstream.
    pub observed_at: i64,
    /// The view's version.
    pub version: u64,
}

/// One object, ready to send.
pub struct ObjectView {
    /// In object form.
    pub body: Bytes,
    /// What the body is written in.
    pub representation: Representation,
    /// Kind and apiVersion.
    pub kind: TypeMeta,
    /// Unix seconds of the last word from upstream.
    pub observed_at: i64,
}

/// What the store has of a list.
pub enum ListAnswer {
    /// All of it is held.
    Held(ListView),
    /// It is held, but not of the version that is asked for.
    Unfit(Unfit),
    /// No collection holds all of it.
    Unknown,
}

/// What the store knows of one object.
pub enum ObjectAnswer {
    /// It is held.
    Held(Box<ObjectView>),
    /// The object is not in a complete collection that was live when the cloud was last heard.
    Absent,
    /// It is held, but not of the version that is asked for.
    Unfit(Unfit),
    /// Nothing is known.
    Unknown,
}

/// A collection that can answer a request: in which part of it, written how.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) collection: Arc<Collection>,
    pub(super) filter: Filter,
    pub(super) representation: Representation,
}

impl Cache {
    /// The best collection for a list or watch, if one is held.
    pub(super) fn candidate(
        &self,
        request: &ResourceRequest,
        wanted: &[Representation],
        scope: Scope,
    ) -> Option<Candidate> {
        let held = self.registry.of(&request.resource);
        let able = held.into_iter().filter_map(|collection| {
            let filter = cover(collection.key(), request)?;
            let representation = written_as(&collection, wanted, scope)?;
            Some(Candidate { collection, filter, representation })
        });
        able.max_by_key(|c| {
            let live = c.collection.state() == CollectionState::Live;
            let preferred = wanted.first() == Some(&c.representation);
            let as_held = c.representation == c.collection.key().representation;
            // What is newer is truer, however it has to be written.
            (live, c.collection.version(), preferred, as_held, c.filter.is_everything())
        })
    }

    /// The list that `request` asks for, or the page of it, from the store.
    pub async fn list(
        &self,
        request: &ResourceRequest,
        wanted: &[Representation],
        scope: Scope,
    ) -> Result<ListAnswer, FrontError> {
        self.written_list(request, wanted, scope, None).await
    }

    /// The same as a table, of whatever is held.
    pub async fn table(&self, request: &ResourceRequest, form: Form) -> Result<ListAnswer, FrontError> {
        self.written_list(request, &[Representation::JSON], Scope::Held, Some(form)).await
    }

    async fn written_list(
        &self,
        request: &ResourceRequest,
        wanted: &[Representation],
        scope: Scope,
        table: Option<Form>,
    ) -> Result<ListAnswer, FrontError> {
        let asked = match version::of_list(request) {
            Ok(asked) => asked,
            Err(why) => return Ok(ListAnswer::Unfit(why)),
        };
        while let Some(candidate) = self.candidate(request, wanted, scope) {
            let collection = Arc::clone(&candidate.collection);
            collection.touch();
            let seen = match self.seen(&collection, &asked, request.namespace.as_deref()) {
                Ok(seen) => seen,
                Err(why) => return Ok(ListAnswer::Unfit(why)),
            };
            let id = collection.id();
            let read = match asked.limit.is_none() && asked.start.is_none() && seen.rows.is_none() {
                true => {
                    let table = table.clone();
                    let whole =
                        move |reader: &mut Reader| assemble(reader, &candidate, table.as_ref(), &seen);
                    self.front.read(whole).await.map(ListAnswer::Held)
                }
                false => self.page(candidate, table.clone(), seen, &asked).await,
            };
            match read {
                Err(FrontError::Store(StoreError::NoCollection)) => self.evicted(&collection, id),
                read => return read,
            }
        }
        Ok(ListAnswer::Unknown)
    }

    /// The store has given the room of this collection to others; it is not held any more.
    pub(super) fn evicted(&self, collection: &Arc<Collection>, id: CollectionId) {
        if collection.id() == id {
            self.registry.remove(collection);
        }
    }

    /// The object that `request` names, from the store: what the newest of all that is held says of it.
    pub async fn object(
        &self,
        request: &ResourceRequest,
        wanted: &[Representation],
        scope: Scope,
    ) -> Result<ObjectAnswer, FrontError> {
        let Some(key) = request.object_key() else { return Ok(ObjectAnswer::Unknown) };
        let whole = request.subresource.is_none();
        if scope == Scope::Held && whole {
            match self.overlay.view(&request.resource, &key, wanted) {
                Some(Some(view)) => return Ok(ObjectAnswer::Held(Box::new(view))),
                Some(None) => return Ok(ObjectAnswer::Absent),
                None => {}
            }
        }
        let (mut answer, mut version) = (ObjectAnswer::Unknown, 0);
        if whole {
            (answer, version) = self.in_collections(request, &key, wanted, scope).await?;
        }
        if scope == Scope::Held
            && let Some(fetched) = self.fetched(request, key, wanted).await?.filter(|f| f.0 > version)
        {
            version = fetched.0;
            answer = ObjectAnswer::Held(Box::new(fetched.1));
        }
        match version::fits(request, version, version) {
            Err(why) if !matches!(answer, ObjectAnswer::Unknown) => Ok(ObjectAnswer::Unfit(why)),
            _ => Ok(answer),
        }
    }

    /// What the newest collection says that knows of the object, and that collection's version. An old list says
    /// what was not there then; what came later is not known (P2).
    async fn in_collections(
        &self,
        request: &ResourceRequest,
        key: &ObjectKey,
        wanted: &[Representation],
        scope: Scope,
    ) -> Result<(ObjectAnswer, u64), FrontError> {
        let mut held = self.registry.of(&request.resource);
        held.retain(|c| may_contain(c, key));
        held.sort_by_key(|c| std::cmp::Reverse(c.version()));
        let mut gone = 0;
        for collection in held {
            let Some(representation) = written_as(&collection, wanted, scope) else { continue };
            let version = collection.version();
            let id = collection.id();
            match self.in_collection(&collection, key, representation).await {
                // A newer list does not have it any more.
                Ok(Some(_)) if gone > version => {}
                Ok(Some(view)) => return Ok((ObjectAnswer::Held(Box::new(view)), version)),
                Ok(None) if !must_contain(&collection, key) => {}
                Ok(None) if collection.is_followed() => return Ok((ObjectAnswer::Absent, gone.max(version))),
                Ok(None) => gone = gone.max(version),
                Err(FrontError::Store(StoreError::NoCollection)) => self.evicted(&collection, id),
                Err(error) => return Err(error),
            }
        }
        Ok((ObjectAnswer::Unknown, gone))
    }

    async fn in_collection(
        &self,
        collection: &Arc<Collection>,
        key: &ObjectKey,
        representation: Representation,
    ) -> Result<Option<ObjectView>, FrontError> {
        let body = match collection.masks().get(key) {
            Some(mask) => mask.body.clone(),
            None => {
                let (read, key) = (Arc::clone(collection), key.clone());
                self.front.read(move |r| read.checked(r.get(read.id(), &key))).await?.0.map(|row| row.body)
            }
        };
        collection.touch();
        let from = collection.key().representation;
        let converted = body.map(|b| respond::object_as(from, representation, collection.item_type(), &b));
        Ok(converted.transpose().map_err(damaged)?.map(|body| ObjectView {
            body,
            representation,
            kind: collection.item_type().clone(),
            observed_at: collection.observed_at(),
        }))
    }

    /// The forms in which something is held that the request is about.
    pub async fn forms(&self, request: &ResourceRequest) -> Result<Vec<Representation>, FrontError> {
        let mut forms = Vec::new();
        for collection in self.registry.of(&request.resource) {
            let inside = match request.verb {
                Verb::Get => request.subresource.is_none() && self.contains(&collection, request).await,
                _ => cover(collection.key(), request).is_some(),
            };
            let all = REPRESENTATIONS.into_iter().filter(|_| inside);
            forms.extend(all.filter(|r| {
                convertible(collection.key().representation, collection.item_type(), &[*r]).is_some()
            }));
        }
        if let Some(key) = request.object_key() {
            for form in REPRESENTATIONS {
                if self.fetched(request, key.clone(), &[form]).await?.is_some() {
                    forms.push(form);
                }
            }
        }
        forms.sort();
        forms.dedup();
        Ok(forms)
    }

    /// The newest answer to a GET of the object that can be written as wanted, and its version.
    async fn fetched(
        &self,
        request: &ResourceRequest,
        key: ObjectKey,
        wanted: &[Representation],
    ) -> Result<Option<(u64, ObjectView)>, FrontError> {
        let resource = request.resource.clone();
        let subresource = request.subresource.clone().unwrap_or_default();
        let all = self.front.read(move |r| {
            let each = REPRESENTATIONS.map(|form| r.fetched(&resource, &key, &subresource, Some(form)));
            each.into_iter().collect::<Result<Vec<_>, _>>()
        });
        let able = all.await?.into_iter().flatten().filter_map(|fetched| {
            let representation = convertible(fetched.representation, &fetched.type_meta, wanted)?;
            Some((fetched, representation))
        });
        let newest = able.max_by_key(|(f, r)| (f.resource_version, f.representation == *r));
        let Some((fetched, representation)) = newest else { return Ok(None) };
        let body =
            respond::object_as(fetched.representation, representation, &fetched.type_meta, &fetched.body);
        let view = ObjectView {
            body: body.map_err(damaged)?,
            representation,
            kind: fetched.type_meta,
            observed_at: fetched.observed_at,
        };
        Ok(Some((fetched.resource_version, view)))
    }

    /// Whether the named object is in the collection, or would be if it existed.
    pub async fn contains(&self, collection: &Arc<Collection>, request: &ResourceRequest) -> bool {
        let Some(key) = request.object_key().filter(|key| may_contain(collection, key)) else { return false };
        must_contain(collection, &key) || matches!(self.base_json(collection, &key).await, Ok(Some(_)))
    }

    /// The stored row of an object under any mask, as JSON in object form.
    pub(super) async fn base_json(
        &self,
        collection: &Arc<Collection>,
        key: &ObjectKey,
    ) -> Result<Option<yurt_store::Row>, FrontError> {
        let (read, key) = (Arc::clone(collection), key.clone());
        Ok(self.front.read(move |r| read.checked(r.get(read.id(), &key))).await?.0)
    }
}

/// How a collection would be written for a client, if it can be.
fn written_as(collection: &Collection, wanted: &[Representation], scope: Scope) -> Option<Representation> {
    let held = collection.key().representation;
    match scope {
        Scope::Live => {
            (collection.state() == CollectionState::Live && wanted.first() == Some(&held)).then_some(held)
        }
        Scope::Same => (wanted.first() == Some(&held)).then_some(held),
        Scope::Held => convertible(held, collection.item_type(), wanted),
    }
}

/// The first wanted representation that `held` can be written in.
pub(super) fn convertible(
    held: Representation,
    kind: &TypeMeta,
    wanted: &[Representation],
) -> Option<Representation> {
    wanted.iter().find(|w| respond::can_write(held, **w, kind)).copied()
}

/// One for another name is not even looked at: that would be a use of it, of all that there ever were.
fn may_contain(collection: &Collection, key: &ObjectKey) -> bool {
    let held = collection.key();
    let named = held.fields.strip_prefix("metadata.name=").filter(|fields| !fields.contains(','));
    held.namespace.as_ref().is_none_or(|n| *n == key.namespace) && named.is_none_or(|name| name == key.name)
}

/// Whether the object would be in the collection if it existed: no selector, or one for its name.
fn must_contain(collection: &Collection, key: &ObjectKey) -> bool {
    let held = collection.key();
    let complete = held.fields.is_empty() || held.fields == format!("metadata.name={}", key.name);
    may_contain(collection, key) && held.labels.is_empty() && complete
}

/// Bytes that were stored whole but cannot be converted: damage, not absence.
fn damaged(error: respond::ConvertFailure) -> FrontError {
    FrontError::Store(StoreError::Damaged(error.to_string()))
}
