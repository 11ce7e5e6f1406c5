//! Forgets what is kept for a while only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::erase_card::clear_erased;
use crate::actions::{device_logs, idempotency};
use crate::app::App;

/// How soon what was erased is gone from the database's log, too.
const CLEAR_EVERY: Duration = Duration::from_secs(2);
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(15 * 60);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = idempotency::prune(&app).await {
            tracing::error!(%error, "old answers can't be forgotten");
        }
        if let Err(error) = device_logs::forget_complaints(&app).await {
            tracing::error!(%error, "old messages of phones can't be forgotten");
        }
        let next = tokio::time::Instant::now() + EVERY;
        while tokio::time::Instant::now() < next {
            if pause(CLEAR_EVERY, &mut stopped).await {
                return;
            }
            if let Err(error) = clear_erased(&app).await {
                tracing::error!(%error, "what was erased stays in the database's log for now");
            }
        }
    }
}
