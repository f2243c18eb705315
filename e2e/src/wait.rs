//! Waiting on a condition, never longer than said.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(50);

/// Asks `probe` until it returns a value; after `limit` the error says what was waited for and the last
/// thing that `probe` complained about.
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Result<T>) -> Result<T> {
    until_slowly(what, limit, STEP, probe)
}

/// The same with a pause of `step` between two looks, for a look that is much work.
pub fn until_slowly<T>(
    what: &str,
    limit: Duration,
    step: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(anyhow!("waited {} s for {what}: {error:#}", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(step),
        }
    }
}
