//! Notifies targets that are due: at once after a change, at the end of a target's window, or when a retry is due.
//!
//! Deliveries run concurrently, so that a slow answer delays no other. Of each issuer, as many run as may be
//! under way, and half as many again are claimed and wait for their turn, so that a stream never waits
//! for the database. Outcomes are recorded by a separate task, many at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::{Id, JoinSet};

use super::pause;
use super::supervisor::Supervised;
use crate::actions::error::ActionError;
use crate::app::App;
use crate::delivery::attempt::{Done, push};
use crate::delivery::claim::{Delivery, Round, claim_due, hand_back};
use crate::delivery::record::record;
use crate::domain::ids::IssuerId;

/// The longest sleep. Changes wake the job; polling finds the work of nodes that died, and notices a clock that was
/// moved.
const POLL: Duration = Duration::from_secs(1);
/// How long deliveries under way may take when the node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How long outcomes are collected before they are recorded together.
const GATHER: Duration = Duration::from_millis(10);
/// The most outcomes in one transaction.
const BATCH: usize = 1000;

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let (outcomes, inbox) = mpsc::channel(BATCH);
    let (recording, ending) = watch::channel(false);
    let recorder = tokio::spawn(supervise_recorder(Arc::clone(&app), inbox, ending));
    let mut worker = Worker {
        recording,
        app,
        outcomes,
        under_way: JoinSet::new(),
        tasks: HashMap::new(),
        lanes: HashMap::new(),
        backlogged: HashSet::new(),
        failing: false,
    };
    let mut sleep = worker.poll().await;
    while !*stopped.borrow() {
        tokio::select! {
            () = worker.app.delivery_signal.notified() => sleep = worker.poll().await,
            Some(ended) = worker.under_way.join_next_with_id(), if !worker.under_way.is_empty() => {
                worker.ended(ended);
                if worker.has_capacity_for_more() {
                    sleep = worker.poll().await;
                }
            }
            stop = pause(sleep, &mut stopped) => if stop { break } else { sleep = worker.poll().await },
        }
    }
    worker.close(recorder).await;
}

struct Worker {
    /// Stops the recorder, by the value true or by being dropped when this worker panics. Fields are dropped in order:
    /// this one must stand before the channel that the recorder reads.
    recording: watch::Sender<bool>,
    app: Arc<App>,
    outcomes: mpsc::Sender<Done>,
    under_way: JoinSet<()>,
    tasks: HashMap<Id, Task>,
    lanes: HashMap<IssuerId, Lane>,
    /// Issuers of which more is due than there was capacity for.
    backlogged: HashSet<IssuerId>,
    failing: bool,
}

struct Task {
    lease: String,
    issuer_id: IssuerId,
}

/// The deliveries of one issuer.
struct Lane {
    /// One permit for each delivery that may be under way.
    streams: Arc<Semaphore>,
    in_flight: usize,
    /// The number of deliveries that are claimed and have not ended.
    claimed: usize,
}

impl Worker {
    /// Claims and starts what is due, up to the capacity; returns how long to sleep before the next poll.
    async fn poll(&mut self) -> Duration {
        let capacity = |issuer: &IssuerId, in_flight: usize| {
            capacity(in_flight, self.lanes.get(issuer).map_or(0, |lane| lane.claimed))
        };
        match claim_due(&self.app, capacity).await {
            Ok(Round { deliveries, next, backlogged, failure }) => {
                self.backlogged = backlogged;
                for delivery in deliveries {
                    self.start(delivery);
                }
                match failure {
                    Some(error) => self.report(&error),
                    None => self.failing = false,
                }
                let until = next.map(|next| next.since(self.app.now()));
                until.unwrap_or(POLL).clamp(Duration::from_millis(5), POLL)
            }
            Err(error) => {
                self.report(&error);
                POLL
            }
        }
    }

    fn start(&mut self, delivery: Delivery) {
        let issuer_id = delivery.issuer().clone();
        let in_flight = delivery.in_flight(&self.app);
        let lane = self.lanes.entry(issuer_id.clone()).or_insert_with(|| Lane {
            streams: Arc::new(Semaphore::new(in_flight)),
            in_flight,
            claimed: 0,
        });
        lane.claimed += 1;
        let (app, outcomes, streams) = (Arc::clone(&self.app), self.outcomes.clone(), Arc::clone(&lane.streams));
        let lease = delivery.lease().to_owned();
        let task = self.under_way.spawn(async move {
            let Ok(stream) = streams.acquire().await else { return };
            let done = push(&app, delivery).await;
            drop(stream);
            // The recorder ends after the last of its senders.
            let _ = outcomes.send(done).await;
        });
        self.tasks.insert(task.id(), Task { lease, issuer_id });
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a delivery ended badly");
                error.id()
            }
        };
        let Some(task) = self.tasks.remove(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(&task.issuer_id) {
            lane.claimed -= 1;
            if lane.claimed == 0 {
                self.lanes.remove(&task.issuer_id);
            }
        }
    }

    fn has_capacity_for_more(&self) -> bool {
        let full = |lane: &Lane| capacity(lane.in_flight, lane.claimed) == 0;
        self.backlogged.iter().any(|issuer_id| !self.lanes.get(issuer_id).is_some_and(full))
    }

    /// Logs an error once per outage, not once per delivery.
    fn report(&mut self, error: &ActionError) {
        if !self.failing {
            tracing::error!(%error, "deliveries can't go on");
        }
        self.failing = true;
    }

    /// Lets deliveries under way end, and hands back those that take too long.
    async fn close(mut self, recorder: tokio::task::JoinHandle<()>) {
        let finish = async {
            while let Some(ended) = self.under_way.join_next_with_id().await {
                self.ended(ended);
            }
        };
        let late = tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err();
        self.under_way.shutdown().await;
        self.recording.send_replace(true);
        drop(self.outcomes);
        if let Err(error) = recorder.await {
            tracing::error!(%error, "the record of deliveries ended badly");
        }
        let leases: HashSet<String> = self.tasks.into_values().map(|task| task.lease).collect();
        if late && let Err(error) = hand_back(&self.app, &leases).await {
            tracing::warn!(%error, "deliveries could not be handed back; their leases end by themselves");
        }
    }
}

/// Returns how many more targets of an issuer may be claimed: beside those under way, half as many may wait for their
/// turn. A few are not worth a transaction, so it is 0 until a quarter of the places is free.
fn capacity(in_flight: usize, claimed: usize) -> usize {
    let most = in_flight + in_flight.div_ceil(2);
    let free = most - claimed.min(most);
    if free < in_flight.div_ceil(4) { 0 } else { free }
}

/// Keeps the recorder of outcomes running beside the worker. What it held when it panicked isn't tried again: the
/// leases end by themselves, and a repeated push does no harm.
async fn supervise_recorder(app: Arc<App>, inbox: mpsc::Receiver<Done>, ending: watch::Receiver<bool>) {
    let inbox = Arc::new(Mutex::new(inbox));
    let supervised = Supervised::new("record", &app.job_states, &app.metrics);
    let run = || {
        let (app, inbox) = (Arc::clone(&app), Arc::clone(&inbox));
        async move {
            let batches = |batch: Vec<Done>| {
                let app = Arc::clone(&app);
                async move {
                    let recorded = record(&app, &batch).await;
                    app.delivery_signal.notify_here();
                    recorded
                }
            };
            keep_records(&mut *inbox.lock().await, batches).await;
        }
    };
    supervised.run(ending, run).await;
}

/// Records what it receives, many at a time, until every sender is gone.
async fn keep_records<T, F>(inbox: &mut mpsc::Receiver<T>, record: impl Fn(Vec<T>) -> F)
where
    F: Future<Output = Result<(), ActionError>>,
{
    let mut batch = Vec::new();
    let mut failing = false;
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < BATCH
            && let Ok(done) = inbox.try_recv()
        {
            batch.push(done);
        }
        match record(std::mem::take(&mut batch)).await {
            Ok(()) => failing = false,
            // Not tried again: the leases end by themselves, and a repeated push does no harm.
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "outcomes of pushes can't be recorded: they are repeated later");
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::job_states::JobStates;
    use crate::telemetry::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_recorder_that_panics_loses_that_batch_only_and_goes_on() {
        let (states, metrics) = (JobStates::default(), Metrics::new());
        let supervised = Supervised::new("record", &states, &metrics);
        let (sender, inbox) = mpsc::channel(BATCH);
        let (ending, ended) = watch::channel(false);
        let (inbox, recorded) = (Arc::new(Mutex::new(inbox)), std::sync::Mutex::new(Vec::new()));
        let run = || async {
            let batches = |batch: Vec<u32>| {
                assert!(!batch.contains(&2), "2 is more than it can bear");
                recorded.lock().expect("not poisoned").extend(batch);
                std::future::ready(Ok(()))
            };
            keep_records(&mut *inbox.lock().await, batches).await;
        };
        let send = async {
            let mut down = states.watch();
            sender.send(1).await.expect("there is room");
            tokio::time::sleep(2 * GATHER).await;
            sender.send(2).await.expect("there is room");
            down.wait_for(|down| down.contains_key("record")).await.expect("states live");
            sender.send(3).await.expect("outcomes wait for the recorder");
            down.wait_for(|down| down.is_empty()).await.expect("states live");
            sender.send(4).await.expect("there is room");
            ending.send_replace(true);
            drop(sender);
        };
        tokio::join!(supervised.run(ended, run), send);
        assert_eq!(*recorded.lock().expect("not poisoned"), [1, 3, 4]);
        assert_eq!(metrics.job_failures("record").get(), 1);
    }
}
