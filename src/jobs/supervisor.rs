//! Keeps a job running. A job that panics, or ends before it was stopped, is logged, counted and started again after a
//! pause that grows. During the pause, `/readyz` names it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pause;
use crate::platform::job_states::JobStates;
use crate::telemetry::Metrics;

/// The pause before the first restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a job must have run for its next failure to count as the first.
const RAN_WELL: Duration = Duration::from_secs(60);

/// A job under supervision.
#[derive(Debug)]
pub(super) struct Supervised<'a> {
    name: &'static str,
    states: &'a JobStates,
    metrics: &'a Metrics,
}

impl<'a> Supervised<'a> {
    /// Makes the supervision of the job with that name; from now on the metrics show its failures, 0 at first.
    pub(super) fn new(name: &'static str, states: &'a JobStates, metrics: &'a Metrics) -> Self {
        metrics.job_failures(name);
        Self { name, states, metrics }
    }

    /// Runs the job until it is stopped and has ended. `stopped` becomes true for that, or its sender is dropped.
    pub(super) async fn run<F: Future<Output = ()>>(
        self,
        mut stopped: watch::Receiver<bool>,
        mut job: impl FnMut() -> F,
    ) {
        let mut wait = FIRST_PAUSE;
        loop {
            self.states.is_well(self.name);
            let began = Instant::now();
            // What a panic leaves behind is dropped with the job's future; locks that outlive it accept a poisoned
            // value.
            let ended = AssertUnwindSafe(async { job().await }).catch_unwind().await;
            // The panic's message may hold a value and is not repeated; the panic hook has logged where it was.
            let what = match ended {
                Ok(()) if is_told_to_stop(&stopped) => break,
                Ok(()) => "ended before it was told to",
                Err(_) => "panicked",
            };
            if began.elapsed() >= RAN_WELL {
                wait = FIRST_PAUSE;
            }
            self.metrics.job_failures(self.name).inc();
            tracing::error!(job = self.name, what, again_in_s = wait.as_secs(), "a job failed");
            let why = format!("the job {} {what}; it starts again after {} s", self.name, wait.as_secs());
            self.states.is_down(self.name, why);
            if pause(wait, &mut stopped).await {
                break;
            }
            wait = (wait * 2).min(LONGEST_PAUSE);
        }
        self.states.is_well(self.name);
    }
}

fn is_told_to_stop(stopped: &watch::Receiver<bool>) -> bool {
    *stopped.borrow() || stopped.has_changed().is_err()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What the job does in each of its runs, in this order; after that it runs until it is stopped.
    #[derive(Debug, Clone, Copy)]
    enum Run {
        Panics,
        Ends,
        /// Runs that long before it panics.
        PanicsAfter(u64),
    }

    /// Runs a job; returns the seconds at which it was started, and how often it counted as failed.
    async fn starts_of(runs: &[Run]) -> (Vec<u64>, u64) {
        let (states, metrics) = (JobStates::default(), Metrics::new());
        let (stop, stopped) = watch::channel(false);
        let (began, starts) = (Instant::now(), RefCell::new(Vec::new()));
        let job = || {
            let run = runs.get(starts.borrow().len()).copied();
            starts.borrow_mut().push(began.elapsed().as_secs());
            assert!(states.reasons().is_empty(), "a job that runs is not down");
            let mut stopped = stopped.clone();
            async move {
                match run {
                    Some(Run::Ends) => {}
                    Some(Run::Panics) => panic!("on purpose"),
                    Some(Run::PanicsAfter(seconds)) => {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                        panic!("on purpose");
                    }
                    None => {
                        let _ = stopped.wait_for(|stop| *stop).await;
                    }
                }
            }
        };
        let end = async {
            while starts.borrow().len() <= runs.len() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            stop.send_replace(true);
        };
        tokio::join!(Supervised::new("test", &states, &metrics).run(stopped.clone(), job), end);
        assert!(states.reasons().is_empty(), "a job that was told to stop is not down");
        (starts.into_inner(), metrics.job_failures("test").get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_fails_starts_again_after_pauses_that_double_up_to_a_minute() {
        let runs = [Run::Panics, Run::Ends, Run::Panics, Run::Panics, Run::Ends, Run::Panics, Run::Panics, Run::Panics];
        let (starts, failures) = starts_of(&runs).await;
        let pauses: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(failures, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_ran_well_for_a_minute_waits_only_a_second_when_it_fails_again() {
        let (starts, _) = starts_of(&[Run::Panics, Run::Panics, Run::PanicsAfter(59), Run::PanicsAfter(60)]).await;
        // Failed at 0 and 1, ran from 3 to 62 (not long enough: 4 s), and from 66 to 126.
        assert_eq!(starts, [0, 1, 3, 66, 127]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_does_as_it_is_told_never_fails() {
        assert_eq!(starts_of(&[]).await, (vec![0], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_names_a_job_while_it_is_down_and_a_stop_ends_its_pause() {
        let (states, metrics) = (JobStates::default(), Metrics::new());
        let (stop, stopped) = watch::channel(false);
        let mut down = states.watch();
        let began = Instant::now();
        let look = async {
            down.wait_for(|down| !down.is_empty()).await.expect("states live");
            assert_eq!(states.reasons(), ["the job test panicked; it starts again after 1 s"]);
            stop.send_replace(true);
        };
        tokio::join!(Supervised::new("test", &states, &metrics).run(stopped, || async { panic!("on purpose") }), look);
        assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for the pause");
        assert!(states.reasons().is_empty());
    }
}
