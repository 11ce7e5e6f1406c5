//! Small writes that many requests wait for, made in one transaction for all that wait.
//!
//! Whoever comes first writes at once; those that come while he commits are written together by the first of them, and so
//! on. So one phone waits no longer than ever, and a thousand phones cost a few commits instead of a thousand. Nothing runs
//! in the background: every request drives its own write, and what nobody waits for any more is written by the next.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex as Turn, oneshot};

use super::error::ActionError;

/// Where items wait to be written. Writing one twice must do no harm: should the request that writes for all go away in
/// the middle, they are written again.
#[derive(Debug)]
pub struct Together<T> {
    waiting: Mutex<Vec<(T, oneshot::Sender<bool>)>>,
    turn: Turn<()>,
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Turn::default() }
    }
}

impl<T: Clone> Together<T> {
    /// Writes the item by `write`, which is given everything that waits by then, and returns once it is durable.
    ///
    /// # Errors
    /// What `write` fails with; those for whom somebody else wrote get [`ActionError::Busy`].
    pub async fn write(
        &self,
        item: T,
        write: impl AsyncFn(Vec<T>) -> Result<(), ActionError>,
    ) -> Result<(), ActionError> {
        let mut written = self.enter(item.clone());
        let _turn = self.turn.lock().await;
        loop {
            match written.try_recv() {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(ActionError::Busy),
                // Whoever took it went away before it was written.
                Err(TryRecvError::Closed) => written = self.enter(item.clone()),
                Err(TryRecvError::Empty) => {
                    let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                    let (items, told): (Vec<T>, Vec<_>) = waiting.into_iter().unzip();
                    let done = write(items).await;
                    for told in told {
                        // Who went away meanwhile needs no word.
                        let _ = told.send(done.is_ok());
                    }
                    return done;
                }
            }
        }
    }

    fn enter(&self, item: T) -> oneshot::Receiver<bool> {
        let (told, written) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((item, told));
        written
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_comes_during_a_commit_is_written_together() {
        let (together, batches) = (Together::default(), Mutex::new(Vec::new()));
        let commit = Semaphore::new(0);
        let write = async |items: Vec<u32>| {
            commit.acquire().await.expect("open").forget();
            batches.lock().expect("unpoisoned").push(items);
            Ok(())
        };
        let all = join_all((1..=5).map(|n| together.write(n, write)));
        let release = async {
            tokio::task::yield_now().await;
            commit.add_permits(9);
        };
        let (done, ()) = tokio::join!(all, release);
        assert!(done.iter().all(Result::is_ok));
        // Polled in turn, so that the first enters alone, and all have entered before it commits.
        let mut written = batches.into_inner().expect("unpoisoned");
        assert!(written.len() <= 2, "{written:?}");
        let mut all: Vec<u32> = written.drain(..).flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_everyone_who_waited() {
        let together = Together::default();
        let write = async |_: Vec<u32>| {
            tokio::task::yield_now().await;
            Err(ActionError::ShuttingDown)
        };
        let done = join_all((1..=3).map(|n| together.write(n, write))).await;
        assert!(done.iter().all(Result::is_err), "{done:?}");
    }

    #[tokio::test]
    async fn what_was_taken_by_a_request_that_goes_away_is_written_by_another() {
        let (together, batches) = (Together::default(), Mutex::new(Vec::new()));
        let stuck = async |_: Vec<u32>| std::future::pending().await;
        let write = async |items: Vec<u32>| {
            batches.lock().expect("unpoisoned").push(items);
            Ok(())
        };
        let mut first = Box::pin(together.write(1, stuck));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(together.write(2, write));
        assert!(second.as_mut().now_or_never().is_none(), "it waits for the first");
        drop(first);
        second.await.expect("written");

        // The second leads now, with the third waiting within its batch, and goes away.
        let mut leader = Box::pin(together.write(3, stuck));
        let mut queued = Box::pin(together.write(4, write));
        assert!(leader.as_mut().now_or_never().is_none());
        assert!(queued.as_mut().now_or_never().is_none());
        drop(leader);
        queued.await.expect("written");
        assert_eq!(*batches.lock().expect("unpoisoned"), [vec![2], vec![4]]);
    }
}
