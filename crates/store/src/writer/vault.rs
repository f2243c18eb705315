//! Tokens, principals, grants, reviews.

use rusqlite::params;

use super::{Durability, Writer};
use crate::error::Result;
use crate::records::{Grant, KnownPrincipal, VaultedToken};
use crate::remembered::{self, Key, What};

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
