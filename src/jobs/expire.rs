//! Expires the cards whose end has passed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::cards::expire_cards::expire_step;
use crate::app::App;

/// How often ended cards are searched for.
const POLL: Duration = Duration::from_secs(1);
/// The pause between two steps while there are more.
const STEP_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        let wait = match expire_step(&app).await {
            Ok(0) => POLL,
            Ok(_) => STEP_PAUSE,
            Err(error) => {
                tracing::error!(%error, "cards can't expire");
                POLL
            }
        };
        if pause(wait, &mut stopped).await {
            return;
        }
    }
}
