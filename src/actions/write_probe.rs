//! Tests whether the database can be written, by writing. Nothing else reveals a full disk: stored data can still be
//! read, and a transaction often fails only when it is committed.

use std::time::Duration;

use tokio::sync::Mutex;

use super::error::ActionError;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::platform::random;
use crate::store::{StoreError, health};

/// How long a result is used before the next attempt, however many callers ask.
const LASTS: Duration = Duration::from_secs(1);

/// How many bytes are written. On the embedded database this is more than most changes of cards need: a small write may
/// still fit where they don't.
const SIZE: usize = 32 * 1024;

/// The last result. Callers that arrive during an attempt wait for its result.
#[derive(Debug, Default)]
pub struct WriteProbe(Mutex<Option<(Timestamp, Result<(), &'static str>)>>);

/// Tests whether the database can be written.
///
/// # Errors
/// The reason why it can't, in words.
pub async fn can_write(app: &App) -> Result<(), &'static str> {
    let mut last = app.write_probe.0.lock().await;
    let now = app.now();
    if let Some((at, found)) = *last
        && at <= now
        && now.since(at) < LASTS
    {
        return found;
    }
    let found = match try_write(app).await {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the database can't be written");
            Err(match error {
                ActionError::Store(StoreError::Full(_)) => "the database has no space left",
                _ => "the database can't be written",
            })
        }
    };
    *last = Some((now, found));
    found
}

async fn try_write(app: &App) -> Result<(), ActionError> {
    let random = random::bytes::<{ SIZE / 2 }>(&*app.random)?;
    let content = hex::encode(random);
    // PostgreSQL keeps old versions of the row for a while, so less is written there.
    let content = if app.store.is_embedded() { content.as_str() } else { content.get(..64).unwrap_or_default() };
    let mut tx = app.store.begin().await?;
    health::try_write(&mut tx, content).await?;
    Ok(tx.commit().await?)
}
