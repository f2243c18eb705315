//! Tokens, principals, grants, reviews.

use super::Reader;
use crate::error::Result;
use crate::records::{Grant, KnownPrincipal, VaultedToken};
use crate::remembered::{self, Key, What};

impl Reader {
    /// The last token of the slot, expired or not.
    ///
    /// # Errors
    /// [`crate::StoreError::Sealed`] when it is not as it was written; what the disk says.
    pub fn token(&self, slot: &[u8; 32]) -> Result<Option<VaultedToken>> {
        let found = Key::new(What::Token, "", *slot).find(&self.conn, &self.sealer)?;
        found.map(|(body, at)| remembered::token(slot, at, &body)).transpose()
    }

    /// Whose the token of this hash is.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn principal(&self, token_hash: &[u8; 32]) -> Result<Option<KnownPrincipal>> {
        let found = Key::new(What::Principal, "", *token_hash).find(&self.conn, &self.sealer)?;
        found.map(|(body, at)| remembered::principal(token_hash, at, &body)).transpose()
    }

    /// What the cloud said about the user. A record that is not as it was written is passed over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn grants(&self, user: &str) -> Result<Vec<Grant>> {
        remembered::grants(&self.conn, &self.sealer, user)
    }

    /// The answer to the review of this key, and its date in Unix seconds.
    ///
    /// # Errors
    /// As [`Reader::token`].
    pub fn review(&self, key: &[u8; 32]) -> Result<Option<(Vec<u8>, i64)>> {
        Key::new(What::Review, "", *key).find(&self.conn, &self.sealer)
    }
}
