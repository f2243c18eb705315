//! Finding that a file is damaged, and setting it aside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::{Result, StoreError};
use crate::seal::sync_dir;

/// How long the check at open may take. A store of 5,000 objects is checked whole in a fraction of it.
const CHECK_TIME: Duration = Duration::from_millis(150);
/// How many steps SQLite makes between two looks at the clock.
const CHECK_STEPS: i32 = 1000;

/// A clock before this (2020-01-01 UTC, Unix milliseconds) was never set.
const PLAUSIBLE_FROM: u64 = 1_577_836_800_000;

/// Beside the store when a running process met damage in it.
const SUSPECT: &str = "store.suspect";

/// Notes that damage was met, so that the next open checks the whole file. When that cannot be noted the check
/// is as always.
pub(crate) fn suspect(dir: &Path) {
    drop(fs::write(dir.join(SUSPECT), []));
}

/// Looks for damage in the structure of the file, indexes included: as far as the time reaches, or all of it when
/// damage was met before. Bodies have checksums of their own.
///
/// # Errors
/// [`StoreError::Damaged`] with the first finding.
pub(crate) fn check(conn: &mut Connection, file: &Path) -> Result<()> {
    let suspect = file.with_file_name(SUSPECT);
    let whole = suspect.exists();
    let end = Instant::now() + CHECK_TIME;
    conn.progress_handler(CHECK_STEPS, Some(move || !whole && Instant::now() > end))?;
    let result = check_structure(conn);
    if whole {
        fs::remove_file(suspect)?;
    }
    result
}

fn check_structure(conn: &mut Connection) -> Result<()> {
    let finding = conn.query_row("PRAGMA integrity_check(1)", [], |r| r.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match finding {
        Ok(ok) if ok == "ok" => Ok(()),
        Ok(finding) => Err(StoreError::Damaged(finding)),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Moves the file and its WAL to names with the date; returns the file's. Nothing is deleted but the WAL's index,
/// which SQLite makes anew.
pub(crate) fn set_aside(file: &Path) -> Result<PathBuf> {
    let aside = free_name(file);
    for suffix in ["-wal", ""] {
        match fs::rename(with_suffix(file, suffix), with_suffix(&aside, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::of_io(e)),
            _ => {}
        }
    }
    match fs::remove_file(with_suffix(file, "-shm")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StoreError::of_io(e)),
        _ => {}
    }
    sync_dir(file.parent())?;
    Ok(aside)
}

/// A number beyond all that the damaged store has given: the one it reserved, when that can still be read, else one
/// from the clock in milliseconds, which no store reaches by counting. A clock that was not set gives the same again
/// after each start: then it is a random one beyond every date until 2039.
pub(crate) fn sequence_beyond(aside: &Path) -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let mut random = [0; 8];
    // Without random numbers there is no sealing either, and nothing is opened.
    let _ = SystemRandom::new().fill(&mut random);
    beyond(read_reserved(aside), clock, u64::from_le_bytes(random))
}

fn beyond(reserved: Option<u64>, clock: u64, random: u64) -> u64 {
    let dated = if clock >= PLAUSIBLE_FROM { clock } else { (1 << 41) + (random >> 23) };
    reserved.unwrap_or(dated).max(1)
}

fn read_reserved(aside: &Path) -> Option<u64> {
    let conn = Connection::open_with_flags(aside, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
    let reserved: i64 =
        conn.query_row("SELECT reserved FROM sequence WHERE id = 1", [], |r| r.get(0)).ok()?;
    u64::try_from(reserved).ok()
}

/// `store.db.damaged-20260818T120000Z`, with a number when there is one already.
fn free_name(file: &Path) -> PathBuf {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = OffsetDateTime::now_utc().format(&format).unwrap_or_else(|_| "undated".into());
    let named = with_suffix(file, &format!(".damaged-{date}"));
    let others = (2_u32..).map(|n| with_suffix(&named, &format!("-{n}")));
    std::iter::once(named.clone()).chain(others).find(|p| !p.exists()).unwrap_or(named)
}

/// The path with `suffix` after its last character.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_damage_are_new_ones_also_without_a_clock() {
        assert_eq!(beyond(Some(77), 5, 1 << 63), 77);
        assert_eq!(beyond(None, PLAUSIBLE_FROM + 1, 1 << 63), PLAUSIBLE_FROM + 1);
        let (first, second) = (beyond(None, 5000, u64::MAX), beyond(None, 5000, u64::MAX / 3));
        assert!(first != second && first.min(second) > 1 << 41, "{first} {second}");
        // Versions of local writes are 2^62 and this number.
        assert!(first.max(second) < 1 << 43);
    }
}
