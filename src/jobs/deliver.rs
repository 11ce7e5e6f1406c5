//! Pushes whatever is due: at once after a change, at the end of a device's window, or when a retry is due.
//!
//! Deliveries run side by side, so that one slow answer holds up nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::pause;
use crate::actions::deliver::{AT_ONCE, claim_due, deliver, hand_back};
use crate::actions::error::ActionError;
use crate::app::App;
use crate::store::devices::next_due;

/// The longest sleep. Changes on this node wake the job; this finds those of other nodes and of a clock that moved.
const POLL: Duration = Duration::from_secs(1);
/// How long deliveries under way may take when the node stops.
const LAST_ORDERS: Duration = Duration::from_secs(5);

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut worker = Worker { app, under_way: JoinSet::new(), leases: HashMap::new(), failing: false };
    while !*stopped.borrow() {
        let sleep = worker.start_due().await;
        tokio::select! {
            () = worker.app.wake.notified() => {}
            Some(ended) = worker.under_way.join_next_with_id(), if !worker.under_way.is_empty() => worker.ended(ended),
            stop = pause(sleep, &mut stopped) => if stop { break },
        }
    }
    worker.close().await;
}

struct Worker {
    app: Arc<App>,
    under_way: JoinSet<Result<(), ActionError>>,
    leases: HashMap<Id, String>,
    failing: bool,
}

impl Worker {
    /// Starts what is due, as far as there is room; how long to sleep before looking again.
    async fn start_due(&mut self) -> Duration {
        let room = AT_ONCE.saturating_sub(self.under_way.len());
        if room == 0 {
            return POLL;
        }
        match claim_due(&self.app, room).await {
            Ok(due) => {
                self.failing = false;
                let full = due.len() == room;
                for delivery in due {
                    let lease = delivery.lease().to_owned();
                    let app = Arc::clone(&self.app);
                    let task = self.under_way.spawn(async move { deliver(&app, delivery).await });
                    self.leases.insert(task.id(), lease);
                }
                if full { POLL } else { self.until_next().await }
            }
            Err(error) => {
                self.report(&error);
                POLL
            }
        }
    }

    async fn until_next(&self) -> Duration {
        let next = async { next_due(&mut self.app.store.read().await?).await };
        match next.await {
            Ok(Some(due)) => due.since(self.app.now()).clamp(Duration::from_millis(5), POLL),
            _ => POLL,
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), ActionError>), tokio::task::JoinError>) {
        match ended {
            Ok((id, result)) => {
                self.leases.remove(&id);
                if let Err(error) = result {
                    self.report(&error);
                }
            }
            Err(error) => {
                self.leases.remove(&error.id());
                tracing::error!(%error, "a delivery ended badly");
            }
        }
    }

    /// Said once per outage, not once per delivery.
    fn report(&mut self, error: &ActionError) {
        if !self.failing {
            tracing::error!(%error, "deliveries can't go on");
        }
        self.failing = true;
    }

    /// Lets deliveries under way end, and hands back those that take too long.
    async fn close(mut self) {
        let finish = async {
            while let Some(ended) = self.under_way.join_next_with_id().await {
                if let Ok((id, _)) = ended {
                    self.leases.remove(&id);
                }
            }
        };
        if tokio::time::timeout(LAST_ORDERS, finish).await.is_ok() {
            return;
        }
        self.under_way.abort_all();
        let mut leases: Vec<String> = self.leases.into_values().collect();
        leases.sort();
        leases.dedup();
        if let Err(error) = hand_back(&self.app, &leases).await {
            tracing::warn!(%error, "deliveries could not be handed back; their leases end by themselves");
        }
    }
}
