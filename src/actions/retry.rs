//! Does a thing again when another transaction got in its way: two requests that are both allowed are never a fault.

use std::time::Duration;

use super::error::ActionError;
use crate::app::App;
use crate::platform::random;

/// How often a thing is tried.
const ATTEMPTS: u32 = 10;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Does `work`, and again from the beginning while what it does comes too late: each time it must look anew at what is
/// stored, and store nothing but in one transaction.
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

/// Waits a little before another attempt; the longer the more there were, and nodes differently long.
///
/// # Errors
/// When the machine has no randomness to give.
pub(super) async fn pause(app: &App, attempt: u32) -> Result<(), ActionError> {
    let longest = LONGEST_PAUSE.min(Duration::from_millis(1) * attempt * attempt);
    let [spread] = random::bytes::<1>(&*app.random)?;
    tokio::time::sleep(longest * u32::from(spread) / 255).await;
    Ok(())
}
