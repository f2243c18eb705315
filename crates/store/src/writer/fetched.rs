//! Single objects that were read outside any collection.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};
use yurt_api::collection::ObjectKey;
use yurt_api::resource::Resource;

use super::{Durability, Session, Writer};
use crate::body;
use crate::error::Result;
use crate::names;
use crate::records::Fetched;
use crate::seal::Place;

/// A newer look at the same version is noted at most this often, in seconds.
pub(super) const LOOK_NOTED_SECONDS: i64 = 60;

/// The newer versions of an object or subresource.
const NEWER: &str =
    "FROM fetched WHERE resource = ?1 AND key = ?2 AND subresource = ?3 AND rv > CAST(?4 AS INTEGER)";

/// What [`NEWER`] is about.
fn newer(f: &Fetched) -> [String; 4] {
    let version = f.resource_version.cast_signed().to_string();
    [f.resource.to_string(), names::object_key(&f.key), f.subresource.clone(), version]
}

impl Writer {
    /// Keeps the answer to a GET in the place of the one before. Returns false, and keeps nothing, when the object is
    /// held in a newer version, in whatever representation.
    ///
    /// # Errors
    /// [`crate::StoreError::TooMuch`] when it does not fit; what the disk says.
    pub fn put_fetched(&mut self, fetched: &Fetched) -> Result<bool> {
        if self.is_held(fetched)? {
            return Ok(true);
        }
        if self.conn.prepare_cached(&format!("SELECT 1 {NEWER}"))?.exists(newer(fetched))? {
            return Ok(false);
        }
        self.put_fetched_back(fetched)?;
        Ok(true)
    }

    /// The same of a version that is older than what is held, because the cluster went back: what is newer of the
    /// object is forgotten.
    ///
    /// # Errors
    /// As [`Writer::put_fetched`].
    pub fn put_fetched_back(&mut self, fetched: &Fetched) -> Result<()> {
        self.make_room(fetched.body.len() as u64 + 200, fetched.observed_at)?;
        self.transact(Durability::Process, |session, effects| {
            effects.wrote(fetched.body.len());
            session.conn.prepare_cached(&format!("DELETE {NEWER}"))?.execute(newer(fetched))?;
            put(session, fetched)
        })
    }

    /// From now on these do not make room for others, in whatever form they were fetched. Not kept over an open.
    pub fn spare_fetched(&mut self, spared: &BTreeSet<(Resource, ObjectKey)>) {
        let named = |(of, key): &(Resource, ObjectKey)| (of.to_string(), names::object_key(key));
        self.spared = spared.iter().map(named).collect();
    }

    /// Forgets the object in all representations, and its subresources. Returns whether anything was held.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_fetched(&mut self, resource: &Resource, key: &ObjectKey) -> Result<bool> {
        let (resource, key) = (resource.to_string(), names::object_key(key));
        let held = "SELECT 1 FROM fetched WHERE resource = ?1 AND key = ?2";
        let held = self.conn.prepare_cached(held)?.exists([&resource, &key])?;
        if !held {
            return Ok(false);
        }
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 3;
            let delete = "DELETE FROM fetched WHERE resource = ?1 AND key = ?2";
            session.conn.prepare_cached(delete)?.execute([resource, key])?;
            Ok(true)
        })
    }

    /// Forgets every object of a version after `version`: the cluster has gone back behind them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_fetched_after(&mut self, version: u64) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 3;
            let delete = "DELETE FROM fetched WHERE rv > ?1";
            session.conn.prepare_cached(delete)?.execute([version.cast_signed()])?;
            Ok(())
        })
    }

    /// Whether this very version is held and was looked at lately: the kubelet asks for its node every 10 s.
    fn is_held(&self, fetched: &Fetched) -> Result<bool> {
        let mut find = self.conn.prepare_cached(
            "SELECT rv, uid, observed_at FROM fetched
             WHERE resource = ?1 AND key = ?2 AND subresource = ?3 AND representation = ?4",
        )?;
        let found: Option<(i64, String, i64)> =
            find.query_row(fetched_key(fetched), |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()?;
        Ok(found.is_some_and(|(rv, uid, at)| {
            fetched.resource_version != 0
                && rv.cast_unsigned() == fetched.resource_version
                && uid == fetched.uid
                && (0..LOOK_NOTED_SECONDS).contains(&(fetched.observed_at - at))
        }))
    }
}

fn fetched_key(f: &Fetched) -> [String; 4] {
    let representation = f.representation.as_str().to_owned();
    [f.resource.to_string(), names::object_key(&f.key), f.subresource.clone(), representation]
}

/// The place of a fetched object's body.
pub(crate) fn place(f: &[String; 4], type_api_version: &str, kind: &str, rv: i64, uid: &str) -> Place {
    let place = f.iter().fold(Place::new("fetched"), |place, part| place.text(part));
    place.text(type_api_version).text(kind).number(rv).text(uid)
}

fn put(session: &Session<'_>, f: &Fetched) -> Result<()> {
    let key = fetched_key(f);
    let rv = f.resource_version.cast_signed();
    let place = place(&key, &f.type_meta.api_version, &f.type_meta.kind, rv, &f.uid);
    let named = key.iter().map(String::len).sum::<usize>();
    let beside = named + f.type_meta.api_version.len() + f.type_meta.kind.len() + f.uid.len() + 64;
    let body = body::encode(session.sealer, &place, &f.body, names::is_secret(&f.resource), beside)?;
    let [resource, object, subresource, representation] = key;
    session
        .conn
        .prepare_cached(
            "INSERT INTO fetched (resource, key, subresource, representation, api_version, kind, rv, uid,
             observed_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (resource, key, subresource, representation) DO UPDATE SET
             api_version = ?5, kind = ?6, rv = ?7, uid = ?8, observed_at = ?9, body = ?10",
        )?
        .execute(params![
            resource,
            object,
            subresource,
            representation,
            f.type_meta.api_version,
            f.type_meta.kind,
            rv,
            f.uid,
            f.observed_at,
            body
        ])?;
    Ok(())
}
