//! Sealing of single records: AES-256-GCM with a random nonce.
//!
//! The associated data names the record's place (table and key), so a sealed record that is moved to another
//! place does not open. Sealed bytes are `nonce (12) ‖ ciphertext ‖ tag (16)`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Result, StoreError};

const KEY_LEN: usize = 32;

/// The key that seals Secrets, tokens, reviews and journal bodies.
#[derive(Clone)]
pub struct SealKey([u8; KEY_LEN]);

impl std::fmt::Debug for SealKey {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl SealKey {
    /// A key from the caller, for instance of a systemd credential.
    pub fn from_bytes(key: [u8; KEY_LEN]) -> Self {
        SealKey(key)
    }

    /// The key in the file at `path`; made there when there is none, on disk before this returns.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the file is not 32 bytes or others than its owner may read it.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match File::open(path) {
            Ok(file) => Self::load(file, path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(StoreError::of_io(e)),
        }
    }

    fn load(mut file: File, path: &Path) -> Result<Self> {
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Sealed(format!(
                "key file {} has mode {mode:o}, not 600",
                path.display()
            )));
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(KEY_LEN as u64 + 1).read_to_end(&mut bytes)?;
        let key = bytes.try_into().map_err(|b: Vec<u8>| {
            StoreError::Sealed(format!("key file {} has {} bytes, not {KEY_LEN}", path.display(), b.len()))
        })?;
        Ok(SealKey(key))
    }

    /// Written beside and renamed, so that a power cut never leaves half a key.
    fn create(path: &Path) -> Result<Self> {
        let mut key = [0; KEY_LEN];
        SystemRandom::new().fill(&mut key).map_err(|_| StoreError::Sealed("no random numbers".into()))?;
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&key).and_then(|()| file.sync_all()).map_err(StoreError::of_io)?;
        fs::rename(&beside, path)?;
        sync_dir(path.parent())?;
        Ok(SealKey(key))
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: Option<&Path>) -> Result<()> {
    let dir = dir.filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::of_io)
}

/// Seals and opens records.
pub(crate) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Sealer {
    pub(crate) fn new(key: &SealKey) -> Result<Self> {
        let key =
            UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| StoreError::Sealed("key refused".into()))?;
        Ok(Sealer { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Appends the sealed `plain` to `out`.
    pub(crate) fn seal_into(&self, place: &Place, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let refused = |_| StoreError::Sealed("sealing failed".into());
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(refused)?;
        out.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&place.0), &mut sealed).map_err(refused)?;
        out.append(&mut sealed);
        Ok(())
    }

    /// The sealed `plain`.
    pub(crate) fn seal(&self, place: &Place, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + NONCE_LEN + AES_256_GCM.tag_len());
        self.seal_into(place, plain, &mut out)?;
        Ok(out)
    }

    /// The record that was sealed for this place; [`StoreError::Sealed`] when it was not, or is not whole.
    pub(crate) fn open(&self, place: &Place, sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = || StoreError::Sealed(format!("a record of {} does not open", place.table()));
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut out = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.key.open_in_place(nonce, Aad::from(&place.0), &mut out).map_err(|_| broken())?.len();
        out.truncate(len);
        Ok(out)
    }
}

/// Where a record stands: its table and the columns that must not be exchanged under it.
/// Each part goes in with its length, so that no two places look alike.
pub(crate) struct Place(Vec<u8>);

impl Place {
    pub(crate) fn new(table: &str) -> Self {
        Place(Vec::with_capacity(128)).text(table)
    }

    pub(crate) fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    pub(crate) fn number(mut self, part: i64) -> Self {
        self.0.extend_from_slice(&part.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn table(&self) -> &str {
        let text = self.0.split_first_chunk::<8>().and_then(|(len, rest)| {
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            std::str::from_utf8(rest.get(..len)?).ok()
        });
        text.unwrap_or("?")
    }
}
