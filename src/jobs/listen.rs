//! Listens for other nodes' word that something is due. A hint: without it the worker looks each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::jobs::pause;

/// Before a lost line to the database is opened anew.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        match app.store.listen_to_nodes().await {
            // The embedded database has no other nodes.
            Ok(None) => {
                let _ = stopped.wait_for(|stop| *stop).await;
                return;
            }
            Ok(Some(mut listener)) => {
                // Something may have been said before it listened.
                app.delivery_signal.notify_here();
                loop {
                    tokio::select! {
                        received = listener.next() => match received {
                            Ok(()) => app.delivery_signal.notify_here(),
                            Err(_) => break,
                        },
                        _ = stopped.changed() => return,
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "other nodes can't be heard"),
        }
        if pause(AGAIN, &mut stopped).await {
            return;
        }
    }
}
