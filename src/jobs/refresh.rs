//! Spreads a publishing over time by marking the devices of some cards in each step.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::templates::refresh_cards::refresh_step;
use crate::app::App;

/// How often refreshes are searched for.
const POLL: Duration = Duration::from_secs(1);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        let wait = match refresh_step(&app).await {
            Ok(until_next) => until_next.unwrap_or(POLL).min(POLL),
            Err(error) => {
                tracing::error!(%error, "a refresh can't go on");
                POLL
            }
        };
        if pause(wait, &mut stopped).await {
            return;
        }
    }
}
