//! Repeats pushes that phones didn't follow: an hour, a day and three days after the first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::app::App;
use crate::delivery::reminders::remind_due;

/// How often due reminders are searched for.
const POLL: Duration = Duration::from_secs(30);
/// The pause between two steps while there are more.
const STEP_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        let wait = match remind_due(&app).await {
            Ok(0) => POLL,
            Ok(_) => STEP_PAUSE,
            Err(error) => {
                tracing::error!(%error, "pushes that phones didn't follow can't be repeated");
                POLL
            }
        };
        if pause(wait, &mut stopped).await {
            return;
        }
    }
}
