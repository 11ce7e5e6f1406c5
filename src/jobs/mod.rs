//! The periodic jobs of the service. Each repeats one action; all of them are safe to repeat and to run on any number
//! of nodes. A job that panics, or ends before it was stopped, is logged, counted and started again. To add one, write
//! a module with a function `run` and add a line to [`JOBS`].
//!
//! | job | wakes | does |
//! | --- | --- | --- |
//! | deliver | at each committed change, when a target is due, and every second | notifies targets that are due |
//! | expire | every second, every 20 ms while there are more | sets the state of cards whose end has passed |
//! | listen | when another node sends NOTIFY | wakes the first |
//! | issuers | every 2 seconds | loads certificates that were configured on other nodes |
//! | prune | every 15 minutes; every minute for counts | deletes what is past its retention, and counts events by day |
//! | remind | every 30 s | repeats pushes that phones didn't follow |
//! | fan-out | when the next step is due, else every second | goes through the cards of a fan-out, such as a publishing's |

mod deliver;
mod expire;
mod fan_out;
mod issuers;
pub mod listen;
mod prune;
mod remind;
mod supervisor;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::supervisor::Supervised;
use crate::app::App;

/// A job: its name in logs, metrics and `/readyz`, and the function that runs until it is stopped.
struct Job {
    name: &'static str,
    run: fn(Arc<App>, watch::Receiver<bool>) -> BoxFuture<'static, ()>,
}

/// Every job.
const JOBS: [Job; 7] = [
    Job { name: "deliver", run: |app, stopped| Box::pin(deliver::run(app, stopped)) },
    Job { name: "issuers", run: |app, stopped| Box::pin(issuers::run(app, stopped)) },
    Job { name: "expire", run: |app, stopped| Box::pin(expire::run(app, stopped)) },
    Job { name: "prune", run: |app, stopped| Box::pin(prune::run(app, stopped)) },
    Job { name: "listen", run: |app, stopped| Box::pin(listen::run(app, stopped)) },
    Job { name: "remind", run: |app, stopped| Box::pin(remind::run(app, stopped)) },
    Job { name: "fan_out", run: |app, stopped| Box::pin(fan_out::run(app, stopped)) },
];

/// The running jobs of one node. One that fails is started again (see [`supervisor`]).
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
        for job in JOBS {
            let (app, stopped) = (Arc::clone(app), stopped.clone());
            running.spawn(async move {
                let supervised = Supervised::new(job.name, &app.job_states, &app.metrics);
                supervised.run(stopped.clone(), || (job.run)(Arc::clone(&app), stopped.clone())).await;
            });
        }
        Self { stop, running }
    }

    /// Stops the jobs; each finishes its current step.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a job ended badly");
            }
        }
    }
}

/// Waits for a time span, or until the jobs must stop; returns true when they must.
async fn pause(span: std::time::Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(span) => *stopped.borrow(),
        _ = stopped.changed() => true,
    }
}
