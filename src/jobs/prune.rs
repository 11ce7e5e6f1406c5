//! Deletes what is past its retention, and counts events by day before they are deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::cards::erase_card::clear_erased;
use crate::actions::passes::device_logs;
use crate::actions::{idempotency, retention};
use crate::app::App;

/// How often erased data is removed from the database's log as well.
const CLEAR_EVERY: Duration = Duration::from_secs(2);
/// How often events are added to the counts of their day.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// The pause between two rounds.
const EVERY: Duration = Duration::from_secs(15 * 60);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = idempotency::prune(&app).await {
            tracing::error!(%error, "old answers can't be forgotten");
        }
        if let Err(error) = device_logs::prune_device_log(&app).await {
            tracing::error!(%error, "old messages of phones can't be forgotten");
        }
        let stopping = stopped.clone();
        match retention::prune_events(&app, || *stopping.borrow()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed events that are older than they are kept"),
            Err(error) => tracing::error!(%error, "old events can't be removed"),
        }
        let next = tokio::time::Instant::now() + EVERY;
        let mut count_at = tokio::time::Instant::now();
        while tokio::time::Instant::now() < next {
            if pause(CLEAR_EVERY, &mut stopped).await {
                return;
            }
            if tokio::time::Instant::now() >= count_at {
                count_at = tokio::time::Instant::now() + COUNT_EVERY;
                let stopping = stopped.clone();
                if let Err(error) = retention::count_events(&app, || *stopping.borrow()).await {
                    tracing::error!(%error, "events can't be counted");
                }
            }
            if let Err(error) = clear_erased(&app).await {
                tracing::error!(%error, "what was erased stays in the database's log for now");
            }
        }
    }
}
