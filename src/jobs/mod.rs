//! What the service does by itself. Each job is one action, repeated; all of them are safe to repeat and to run on
//! any number of nodes.
//!
//! | job | wakes | does |
//! | --- | --- | --- |
//! | deliver | at each committed change, when a device is due, and every second | pushes to devices that must be told |
//! | expire | every second, every 20 ms while there are more | sets the state of cards whose end has passed |
//! | hear | when another node says that something is due | wakes the first |
//! | issuers | every 2 seconds | learns of certificates that were set on other nodes |
//! | prune | every 15 minutes; every minute for counts | forgets what is kept for a while only, and counts events by day |
//! | remind | every 30 s | repeats pushes that phones didn't follow |
//! | refresh | every 100 ms while a publishing is under way, else every second | marks the devices of a published template's cards |

mod deliver;
mod expire;
mod hear;
mod issuers;
mod prune;
mod refresh;
mod remind;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;

/// The jobs of one node, until they are told to stop.
#[derive(Debug)]
pub struct Jobs {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Jobs {
    /// Starts every job.
    pub fn start(app: &Arc<App>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(deliver::run(Arc::clone(app), stopped.clone()));
        running.spawn(issuers::run(Arc::clone(app), stopped.clone()));
        running.spawn(expire::run(Arc::clone(app), stopped.clone()));
        running.spawn(prune::run(Arc::clone(app), stopped.clone()));
        running.spawn(hear::run(Arc::clone(app), stopped.clone()));
        running.spawn(remind::run(Arc::clone(app), stopped.clone()));
        running.spawn(refresh::run(Arc::clone(app), stopped));
        Self { stop, running }
    }

    /// Lets each job finish the step it is at.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a job ended badly");
            }
        }
    }
}

/// Waits for a span, or until the jobs must stop; true when they must.
async fn pause(span: std::time::Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(span) => *stopped.borrow(),
        _ = stopped.changed() => true,
    }
}
