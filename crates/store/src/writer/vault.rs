//! Tokens, principals, grants, reviews.

use rusqlite::params;

use super::gc::PLAUSIBLE_FROM;
use super::{Durability, Session, Writer};
use crate::error::Result;
use crate::records::{Grant, KnownPrincipal, VaultedToken};
use crate::remembered::{self, Key, What};

/// How many tokens are kept, but for those that somebody needs.
const TOKENS_MAX: u64 = 10_000;
/// How long the token of a pod that is gone is kept after it was given out, in seconds.
const GONE_KEPT_SECONDS: i64 = 24 * 3600;

/// What somebody who knows the node's pods says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// It is of a pod that is there.
    Needed,
    /// It is of a pod that is gone.
    Gone,
    /// Nobody can say.
    Unknown,
}

impl Writer {
    /// Keeps the token in the place of the slot's last one. On disk (fsync) before this returns.
    ///
    /// # Errors
    /// What the disk says; the token before is then still there.
    pub fn put_token(&mut self, token: &VaultedToken) -> Result<()> {
        let body = remembered::token_body(token);
        self.remember(Durability::Power, &Key::new(What::Token, "", token.slot), token.observed_at, &body)
    }

    /// Remembers whose a token is.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put_principal(&mut self, principal: &KnownPrincipal) -> Result<()> {
        let key = Key::new(What::Principal, "", principal.token_hash);
        let body = remembered::principal_body(principal);
        self.remember(Durability::Process, &key, principal.observed_at, &body)
    }

    /// Remembers what a user may read, in the place of an older answer to the same question.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put_grant(&mut self, grant: &Grant) -> Result<()> {
        let body = remembered::grant_body(grant);
        self.remember(Durability::Process, &remembered::grant_key(grant), grant.at, &body)
    }

    /// Forgets the answer to the question that `grant` asks; its `allowed` and `at` do not matter.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_grant(&mut self, grant: &Grant) -> Result<()> {
        self.forget(&remembered::grant_key(grant))
    }

    /// Forgets whose a token is.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove_principal(&mut self, token_hash: &[u8; 32]) -> Result<()> {
        self.forget(&Key::new(What::Principal, "", *token_hash))
    }

    /// Remembers the answer to a review; `key` is the hash of its question.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put_review(&mut self, key: &[u8; 32], body: &[u8], now: i64) -> Result<()> {
        self.remember(Durability::Process, &Key::new(What::Review, "", *key), now, body)
    }

    /// Forgets the tokens of pods that are gone, a day after they were given out, and beyond 10,000 the oldest that
    /// are not needed. `says` is told the bodies of tokens. Returns how many were forgotten.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_tokens(&mut self, now: i64, says: &dyn Fn(&[u8]) -> TokenUse) -> Result<u64> {
        self.transact(Durability::Process, |session, effects| {
            let forgotten = tokens_to_forget(session, now, says)?;
            let mut forget = session.conn.prepare_cached("DELETE FROM remembered WHERE id = ?1")?;
            for id in &forgotten {
                forget.execute([id])?;
                effects.pages += 3;
            }
            Ok(forgotten.len() as u64)
        })
    }

    fn remember(&mut self, durability: Durability, key: &Key, at: i64, body: &[u8]) -> Result<()> {
        self.transact(durability, |session, effects| {
            effects.wrote(body.len());
            let sealed = session.sealer.seal(&key.place(at), body)?;
            session
                .conn
                .prepare_cached(
                    "INSERT INTO remembered (what, owner, key, observed_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (what, owner, key) DO UPDATE SET observed_at = ?4, body = ?5",
                )?
                .execute(params![key.what.as_str(), key.owner, key.key, at, sealed])?;
            Ok(())
        })
    }

    fn forget(&mut self, key: &Key) -> Result<()> {
        self.transact(Durability::Process, |session, effects| {
            effects.pages += 3;
            let forget = "DELETE FROM remembered WHERE what = ?1 AND owner = ?2 AND key = ?3";
            session.conn.prepare_cached(forget)?.execute(params![key.what.as_str(), key.owner, key.key])?;
            Ok(())
        })
    }
}

/// Looks at the oldest first, and only as far as something may go. A date of no clock counts as new.
fn tokens_to_forget(session: &Session<'_>, now: i64, says: &dyn Fn(&[u8]) -> TokenUse) -> Result<Vec<i64>> {
    let count = "SELECT count(*) FROM remembered WHERE what = 'token'";
    let count: i64 = session.conn.prepare_cached(count)?.query_row([], |r| r.get(0))?;
    let mut beyond = count.cast_unsigned().saturating_sub(TOKENS_MAX);
    let mut all = session.conn.prepare_cached(
        "SELECT id, key, observed_at, body FROM remembered WHERE what = 'token'
         ORDER BY observed_at < ?1, observed_at, id",
    )?;
    let mut rows = all.query([PLAUSIBLE_FROM])?;
    let mut forgotten = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, key, at, sealed): (i64, Vec<u8>, i64, Vec<u8>) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let old = at >= PLAUSIBLE_FROM && at < now.saturating_sub(GONE_KEPT_SECONDS);
        if !old && beyond == 0 {
            break;
        }
        // One that does not open is of no use to anybody.
        let body = session.sealer.open(&Key::new(What::Token, "", key).place(at), &sealed).ok();
        let said = body.as_deref().and_then(|b| b.get(8..)).map_or(TokenUse::Gone, says);
        if (old && said == TokenUse::Gone) || (beyond > 0 && said != TokenUse::Needed) {
            forgotten.push(id);
            beyond = beyond.saturating_sub(1);
        }
    }
    Ok(forgotten)
}
