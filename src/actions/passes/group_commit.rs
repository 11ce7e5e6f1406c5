//! Group commit: small writes of many requests, made in one transaction for all that wait.
//!
//! The first caller commits at once; callers that arrive meanwhile are committed together in the next transaction, by
//! one of them. So a single phone never waits longer, and a thousand phones cost a few commits instead of a thousand.
//! Nothing runs in the background: every request drives its own write, and items whose callers have gone are not
//! written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, oneshot};

use crate::actions::error::ActionError;

/// A queue of items to write. Writing an item twice must do no harm: if the request that writes for all is cancelled,
/// the items are written again.
#[derive(Debug)]
pub struct GroupCommit<T> {
    waiting: Mutex<Vec<Waiting<T>>>,
    turn: Turn<()>,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    told: oneshot::Sender<bool>,
}

impl<T> Default for GroupCommit<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Turn::default() }
    }
}

/// The items that one caller writes for all. If that caller is cancelled, they go back to the queue.
struct Taken<'t, T> {
    from: &'t GroupCommit<T>,
    entries: Vec<Waiting<T>>,
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut waiting = self.from.waiting();
        self.entries.append(&mut waiting);
        *waiting = std::mem::take(&mut self.entries);
    }
}

impl<T> GroupCommit<T> {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes every item that a caller still waits for from the queue.
    fn take(&self) -> Taken<'_, T> {
        let mut entries = std::mem::take(&mut *self.waiting());
        entries.retain(|entry| !entry.told.is_closed());
        Taken { from: self, entries }
    }
}

impl<T: Clone> GroupCommit<T> {
    /// Writes the item with `write`, which gets everything that is queued by then, and returns once it is durable.
    ///
    /// # Errors
    /// The error of `write`; callers for whom another one wrote get [`ActionError::Busy`].
    pub async fn write(
        &self,
        item: T,
        write: impl AsyncFn(Vec<T>) -> Result<(), ActionError>,
    ) -> Result<(), ActionError> {
        let (told, mut written) = oneshot::channel();
        self.waiting().push(Waiting { item, told });
        let outcome = |written| if written { Ok(()) } else { Err(ActionError::Busy) };
        let _turn = tokio::select! {
            biased;
            written = &mut written => return outcome(written.unwrap_or(false)),
            turn = self.turn.lock() => turn,
        };
        if let Ok(written) = written.try_recv() {
            return outcome(written);
        }
        let mut taken = self.take();
        let done = write(taken.entries.iter().map(|entry| entry.item.clone()).collect()).await;
        for entry in std::mem::take(&mut taken.entries) {
            // A caller that has gone needs no result.
            let _ = entry.told.send(done.is_ok());
        }
        done
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
        let (group, batches) = (GroupCommit::default(), Mutex::new(Vec::new()));
        let commit = Semaphore::new(0);
        let write = async |items: Vec<u32>| {
            commit.acquire().await.expect("open").forget();
            batches.lock().expect("unpoisoned").push(items);
            Ok(())
        };
        let all = join_all((1..=5).map(|n| group.write(n, write)));
        let release = async {
            tokio::task::yield_now().await;
            commit.add_permits(9);
        };
        let (done, ()) = tokio::join!(all, release);
        assert!(done.iter().all(Result::is_ok));
        // The futures are polled in turn, so the first writes alone, and all others are queued before it commits.
        let mut written = batches.into_inner().expect("unpoisoned");
        assert!(written.len() <= 2, "{written:?}");
        let mut all: Vec<u32> = written.drain(..).flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_everyone_who_waited() {
        let group = GroupCommit::default();
        let write = async |_: Vec<u32>| {
            tokio::task::yield_now().await;
            Err(ActionError::ShuttingDown)
        };
        let done = join_all((1..=3).map(|n| group.write(n, write))).await;
        assert!(done.iter().all(Result::is_err), "{done:?}");
    }

    #[tokio::test]
    async fn what_was_taken_by_a_request_that_goes_away_is_written_by_another_with_all_that_wait() {
        let (group, batches) = (GroupCommit::default(), Mutex::new(Vec::new()));
        let stuck = async |_: Vec<u32>| std::future::pending().await;
        let write = async |items: Vec<u32>| {
            batches.lock().expect("unpoisoned").push(items);
            Ok(())
        };
        // The first writes for itself; the second would write for all that are queued by then, but is cancelled, too.
        let mut first = Box::pin(group.write(1, stuck));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(group.write(2, stuck));
        assert!(second.as_mut().now_or_never().is_none());
        let mut others: Vec<_> = (3..=5).map(|n| Box::pin(group.write(n, write))).collect();
        for other in &mut others {
            assert!(other.as_mut().now_or_never().is_none(), "it waits for the first");
        }
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        drop(second);
        assert!(join_all(others).await.iter().all(Result::is_ok));
        let written = batches.into_inner().expect("unpoisoned");
        assert_eq!(written, [vec![3, 4, 5]], "what nobody waits for any more is not written");
    }
}
