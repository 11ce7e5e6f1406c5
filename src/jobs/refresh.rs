//! Spreads a publishing over time: some cards' devices at each step.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::templates::refresh_cards::refresh_step;
use crate::app::App;

/// Between two looks.
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
