//! Reads the metrics that cost something to find out: what waits in the database, how large it is, what the process uses.
//!
//! Whoever asks for metrics has them read, at most once in [`LASTS`], one at a time and not for longer than [`PATIENCE`]. Each
//! statement looks at a bounded number of rows, so that what goes on in the database after that ends soon, too.

use std::time::Duration;

use tokio::sync::Mutex;

use super::error::ActionError;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::platform::process;
use crate::store::{devices, health};
use crate::telemetry::InDatabase;

/// For how long what was read is shown before it is read again, however many ask.
pub const LASTS: Duration = Duration::from_secs(10);
/// How long reading may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many devices are looked at to count the cards that are behind.
const DEVICES: i64 = 10_000;

/// When the readings were last tried.
#[derive(Debug, Default)]
pub struct LastReading(Mutex<Option<Timestamp>>);

/// Reads them anew if they are old. What can't be read isn't shown.
pub async fn refresh_readings(app: &App) {
    // Whoever asks while they are read gets what is known.
    let Ok(mut last) = app.last_reading.0.try_lock() else { return };
    let now = app.now();
    if last.is_some_and(|at| at <= now && now.since(at) < LASTS) {
        return;
    }
    // Before the reading: one that takes too long, or whose asker went away, isn't repeated at once.
    *last = Some(now);
    let database = match tokio::time::timeout(PATIENCE, read_database(app, now)).await {
        Ok(Ok(database)) => Some(database),
        Ok(Err(error)) => {
            tracing::warn!(%error, "metrics of the database can't be read");
            None
        }
        Err(_) => {
            tracing::warn!("metrics of the database can't be read within {} s", PATIENCE.as_secs());
            None
        }
    };
    let usage = tokio::task::spawn_blocking(process::usage).await.unwrap_or_default();
    app.metrics.readings.set(database, usage);
}

async fn read_database(app: &App, now: Timestamp) -> Result<InDatabase, ActionError> {
    let mut reader = app.store.read().await?;
    let oldest = devices::oldest_due(&mut reader).await?;
    Ok(InDatabase {
        queue_age: oldest.filter(|due| *due <= now).map_or(Duration::ZERO, |due| now.since(due)),
        cards_behind: vec![("apple", devices::cards_behind(&mut reader, DEVICES).await?)],
        size: health::size(&mut reader).await?,
    })
}
