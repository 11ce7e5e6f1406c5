//! Wakes the delivery worker when another node sends NOTIFY. Optional: the worker also polls each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::jobs::pause;

/// The pause before a lost connection to the database is opened again.
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
                // A notification may have been sent before the connection listened.
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
