//! Reads the metrics that are costly to read: the backlog in the database, its size, what the process uses.
//!
//! Requests for metrics trigger the reading, at most once in [`LASTS`], one at a time and for at most [`PATIENCE`].
//! Each statement reads a bounded number of rows, so that one still running in the database after that time ends soon,
//! too.

use std::time::Duration;

use tokio::sync::Mutex;

use super::error::ActionError;
use crate::app::App;
use crate::domain::time::Timestamp;
use crate::platform::process;
use crate::store::{deliveries, health};
use crate::telemetry::InDatabase;

/// How long a reading is shown before metrics are read again, however many requests come.
pub const LASTS: Duration = Duration::from_secs(10);
/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many targets are read to count the cards that are behind.
const DEVICES: i64 = 10_000;

/// The time of the last attempt to read.
#[derive(Debug, Default)]
pub struct LastReading(Mutex<Option<Timestamp>>);

/// Reads the metrics again if the last reading is old. What can't be read isn't shown.
pub async fn refresh_readings(app: &App) {
    // Requests that arrive during a reading get the previous values.
    let Ok(mut last) = app.last_reading.0.try_lock() else { return };
    let now = app.now();
    if last.is_some_and(|at| at <= now && now.since(at) < LASTS) {
        return;
    }
    // Set before the reading: one that takes too long, or whose client went away, isn't repeated at once.
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
    let oldest = deliveries::oldest_due(&mut reader).await?;
    Ok(InDatabase {
        queue_age: oldest.filter(|due| *due <= now).map_or(Duration::ZERO, |due| now.since(due)),
        cards_behind: vec![("apple", deliveries::cards_behind(&mut reader, DEVICES).await?)],
        size: health::size(&mut reader).await?,
    })
}
