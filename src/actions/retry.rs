//! Repeats work when another transaction conflicts with it: two requests that are both allowed must not fail each
//! other.

use std::time::Duration;

use super::error::ActionError;
use crate::app::App;
use crate::platform::random;

/// How often work is attempted.
const ATTEMPTS: u32 = 10;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Runs `work`, and again from the beginning while it fails on a conflict. Each run must read the stored state again
/// and write in one transaction only.
///
/// # Errors
/// What `work` fails with.
pub async fn retry<T>(app: &App, work: impl AsyncFn() -> Result<T, ActionError>) -> Result<T, ActionError> {
    for attempt in 1..ATTEMPTS {
        match work().await {
            Err(ActionError::Store(error)) if error.is_of_another_transaction() => {
                tracing::debug!(%error, attempt, "another transaction was faster");
            }
            done => return done,
        }
        pause(app, attempt).await?;
    }
    work().await
}

/// Waits before another attempt: longer with each attempt, and for a random time so that nodes differ.
///
/// # Errors
/// When the system's random source fails.
pub(super) async fn pause(app: &App, attempt: u32) -> Result<(), ActionError> {
    let longest = LONGEST_PAUSE.min(Duration::from_millis(1) * attempt * attempt);
    let [spread] = random::bytes::<1>(&*app.random)?;
    tokio::time::sleep(longest * u32::from(spread) / 255).await;
    Ok(())
}
