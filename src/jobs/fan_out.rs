//! Makes the steps of fan-outs, which spread work on many cards over time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::fan_out::fan_out_step;
use crate::app::App;

/// How often fan-outs are searched for.
const POLL: Duration = Duration::from_secs(1);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        let wait = match fan_out_step(&app).await {
            Ok(until_next) => until_next.unwrap_or(POLL).min(POLL),
            Err(error) => {
                tracing::error!(%error, "a fan-out can't go on");
                POLL
            }
        };
        if pause(wait, &mut stopped).await {
            return;
        }
    }
}
