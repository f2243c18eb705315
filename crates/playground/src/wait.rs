//! Waiting for a condition, with the reason when it is not met.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until the answer is good, at most for `bound`. Errors: what was wrong the last time.
pub async fn until<T>(bound: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        match ask().await {
            Ok(good) => return Ok(good),
            Err(error) if Instant::now() >= end => return Err(error.context(format!("not within {bound:?}"))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
