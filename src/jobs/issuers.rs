//! Loads certificates that were configured on other nodes, and warns before certificates end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::pause;
use crate::actions::issuers::load_issuers;
use crate::actions::issuers::watch::CertificateWatch;
use crate::app::App;

/// How often certificates are loaded.
const POLL: Duration = Duration::from_secs(2);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut reported = String::new();
    let mut watch = CertificateWatch::default();
    loop {
        // A lasting failure is logged once, not every two seconds.
        let failed = load_issuers(&app).await.unwrap_or_else(Some);
        let failure = failed.map(|error| error.to_string()).unwrap_or_default();
        if !failure.is_empty() && failure != reported {
            tracing::error!(error = failure, "certificates can't be loaded");
        }
        reported = failure;
        watch.look(&app);
        if pause(POLL, &mut stopped).await {
            return;
        }
    }
}
