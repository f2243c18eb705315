//! How tokens, principals, grants and reviews stand in `remembered`: all of them sealed, so that neither a
//! token can be read nor a grant be given by who can only write to the disk.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use crate::error::{Result, StoreError};
use crate::records::{Grant, KnownPrincipal, VaultedToken};
use crate::seal::{Place, Sealer};

/// The kinds of remembered records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Token,
    Principal,
    Grant,
    Review,
}

impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            What::Token => "token",
            What::Principal => "principal",
            What::Grant => "grant",
            What::Review => "review",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [What::Token, What::Principal, What::Grant, What::Review].into_iter().find(|w| w.as_str() == text)
    }
}

/// The key of a record.
pub(crate) struct Key {
    pub what: What,
    pub owner: String,
    pub key: Vec<u8>,
}

impl Key {
    pub fn new(what: What, owner: &str, key: impl Into<Vec<u8>>) -> Self {
        Key { what, owner: owner.into(), key: key.into() }
    }

    pub fn place(&self, at: i64) -> Place {
        Place::new("remembered").text(self.what.as_str()).text(&self.owner).bytes(&self.key).number(at)
    }

    /// The record of this key and its date.
    pub fn find(&self, conn: &Connection, sealer: &Sealer) -> Result<Option<(Vec<u8>, i64)>> {
        let mut find = conn.prepare_cached(
            "SELECT observed_at, body FROM remembered WHERE what = ?1 AND owner = ?2 AND key = ?3",
        )?;
        let found: Option<(i64, Vec<u8>)> = find
            .query_row(params![self.what.as_str(), self.owner, self.key], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        found.map(|(at, sealed)| Ok((sealer.open(&self.place(at), &sealed)?, at))).transpose()
    }
}

/// All grants of a user. A record that does not open is passed over: what is not proven is not granted.
pub(crate) fn grants(conn: &Connection, sealer: &Sealer, user: &str) -> Result<Vec<Grant>> {
    let mut find = conn.prepare_cached(
        "SELECT key, observed_at, body FROM remembered WHERE what = 'grant' AND owner = ?1",
    )?;
    let read = |r: &Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?));
    let mut grants = Vec::new();
    for row in find.query_map([user], read)? {
        let (key, at, sealed): (Vec<u8>, i64, Vec<u8>) = row?;
        if let Ok(body) = sealer.open(&Key::new(What::Grant, user, key).place(at), &sealed) {
            grants.push(grant(user, at, &body)?);
        }
    }
    Ok(grants)
}

pub(crate) fn token_body(token: &VaultedToken) -> Vec<u8> {
    [token.expires_at.to_le_bytes().as_slice(), &token.body].concat()
}

pub(crate) fn token(slot: &[u8; 32], at: i64, body: &[u8]) -> Result<VaultedToken> {
    let (expires, body) = body.split_first_chunk::<8>().ok_or_else(unreadable)?;
    let expires_at = i64::from_le_bytes(*expires);
    Ok(VaultedToken { slot: *slot, expires_at, body: body.into(), observed_at: at })
}

pub(crate) fn principal_body(p: &KnownPrincipal) -> Vec<u8> {
    json!([p.user, p.uid, p.groups, p.expires_at]).to_string().into_bytes()
}

pub(crate) fn principal(token_hash: &[u8; 32], at: i64, body: &[u8]) -> Result<KnownPrincipal> {
    let (user, uid, groups, expires_at) = serde_json::from_slice(body).map_err(|_| unreadable())?;
    Ok(KnownPrincipal { token_hash: *token_hash, user, uid, groups, expires_at, observed_at: at })
}

/// One grant for one question.
pub(crate) fn grant_key(g: &Grant) -> Key {
    let question = [&g.verb, &g.group, &g.resource, &g.subresource, &g.namespace, &g.name, &g.selector];
    let question = question.iter().fold(Place::new("grant"), |place, part| place.text(part));
    Key::new(What::Grant, &g.user, question.as_bytes())
}

pub(crate) fn grant_body(g: &Grant) -> Vec<u8> {
    json!([g.verb, g.group, g.resource, g.subresource, g.namespace, g.name, g.selector, g.allowed])
        .to_string()
        .into_bytes()
}

fn grant(user: &str, at: i64, body: &[u8]) -> Result<Grant> {
    let (verb, group, resource, subresource, namespace, name, selector, allowed) =
        serde_json::from_slice(body).map_err(|_| unreadable())?;
    let user = user.to_owned();
    Ok(Grant { user, verb, group, resource, subresource, namespace, name, selector, allowed, at })
}

fn unreadable() -> StoreError {
    StoreError::Damaged("a remembered record is not as it was written".into())
}
