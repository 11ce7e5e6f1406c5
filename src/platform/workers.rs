//! Runs CPU-bound work off the threads that serve, with a bounded number of each kind at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// One kind of work. Work beyond the bound waits in the order of arrival.
#[derive(Debug, Clone)]
pub struct Workers {
    what: &'static str,
    permits: Arc<Semaphore>,
}

/// Why work has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// It panicked, which is a bug.
    #[error("{0} panicked")]
    Panicked(&'static str),
    /// The service stopped before it began.
    #[error("the service is stopping")]
    Stopping,
}

impl Workers {
    /// Makes a bound of `most` at once, at least one. `what` is the work's name in errors.
    pub fn new(what: &'static str, most: usize) -> Self {
        Self { what, permits: Arc::new(Semaphore::new(most.max(1))) }
    }

    /// Runs `work` on a thread of its own as soon as one is free, and waits for its result. Once begun it runs to its
    /// end, even when nobody waits for it any more, and counts as busy until then.
    ///
    /// # Errors
    /// When it panics, or the service stops.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkError> {
        let permit = self.occupy().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        let failed =
            |error: JoinError| if error.is_panic() { WorkError::Panicked(self.what) } else { WorkError::Stopping };
        done.await.map_err(failed)
    }

    /// Occupies one of the places until the returned permit is dropped.
    ///
    /// # Errors
    /// When the service stops.
    pub async fn occupy(&self) -> Result<OwnedSemaphorePermit, WorkError> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| WorkError::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn only_so_many_are_busy_and_a_panic_gives_its_place_back() {
        let workers = Workers::new("a test", 2);
        let (end, ended) = mpsc::channel::<()>();
        let first = workers.occupy().await.expect("a place");
        let busy = workers.clone();
        let second = tokio::spawn(async move { busy.run(move || ended.recv().is_err()).await });
        while workers.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut third = std::pin::pin!(workers.run(|| 3));
        assert!(futures_util::poll!(third.as_mut()).is_pending(), "two are busy");
        drop(first);
        assert_eq!(third.await, Ok(3));
        drop(end);
        assert_eq!(second.await.expect("no panic"), Ok(true));
        for _ in 0..3 {
            let fails = workers.run(|| std::panic::panic_any("on purpose"));
            assert_eq!(fails.await.err(), Some(WorkError::Panicked("a test")));
        }
        assert_eq!(workers.permits.available_permits(), 2);
    }
}
