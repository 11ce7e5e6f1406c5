//! Locks on cards within this process. They guarantee nothing about stored data, only a transaction does: they keep the
//! requests of one node from planning changes of the same card in parallel when only one of them can be stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::domain::ids::{CardId, WorkspaceId};

type Key = (WorkspaceId, CardId);

/// The locks that are held or waited for.
#[derive(Debug, Default)]
pub struct CardLocks(Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>);

/// One card's lock, or a place in its queue; released when dropped.
#[derive(Debug)]
pub struct CardLock<'l> {
    locks: &'l CardLocks,
    key: Key,
    lock: Option<Arc<AsyncMutex<()>>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl CardLocks {
    /// Waits for the locks of these cards, one after the other: callers that need several must name them in ascending
    /// order, each once.
    pub async fn lock<'c>(
        &self,
        workspace: &WorkspaceId,
        cards: impl IntoIterator<Item = &'c CardId>,
    ) -> Vec<CardLock<'_>> {
        let mut locks = Vec::new();
        for card in cards {
            let key = (workspace.clone(), card.clone());
            let lock = Arc::clone(self.map().entry(key.clone()).or_default());
            // Created before the wait, so that a caller who gives up waiting leaves nothing behind.
            let mut entry = CardLock { locks: self, key, lock: Some(Arc::clone(&lock)), held: None };
            entry.held = Some(lock.lock_owned().await);
            locks.push(entry);
        }
        locks
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Key, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CardLock<'_> {
    fn drop(&mut self) {
        let mut map = self.locks.map();
        self.held = None;
        self.lock = None;
        // Only the map holds it: nobody waits.
        if map.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_card_is_locked_once_at_a_time_and_nothing_is_left_behind() {
        let locks = CardLocks::default();
        let (workspace, other) = (WorkspaceId::parse("default").unwrap(), WorkspaceId::parse("other").unwrap());
        let [a, b] = ["a", "b"].map(|id| CardId::parse(id).unwrap());
        let first = locks.lock(&workspace, [&a]).await;
        let mut second = Box::pin(locks.lock(&workspace, [&a]));
        assert!(second.as_mut().now_or_never().is_none(), "the first has it");
        assert!(locks.lock(&other, [&a]).now_or_never().is_some(), "another workspace's card is another card");
        {
            let mut gives_up = Box::pin(locks.lock(&workspace, [&a, &b]));
            assert!(gives_up.as_mut().now_or_never().is_none());
        }
        assert!(locks.lock(&workspace, [&b]).now_or_never().is_some());
        drop(first);
        let second = second.await;
        assert_eq!(locks.map().len(), 1);
        drop(second);
        assert!(locks.map().is_empty());
    }
}
