//! Wakes the delivery workers of this node and of the others when a change was committed. Optional: every worker also
//! polls each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::store::Store;

/// Wakes delivery workers; see the module.
#[derive(Debug)]
pub struct DeliverySignal {
    here: Notify,
    store: Store,
    telling: Arc<AtomicBool>,
}

impl DeliverySignal {
    /// Makes the signal of a node on that database.
    pub fn new(store: Store) -> Self {
        Self { here: Notify::new(), store, telling: Arc::default() }
    }

    /// Wakes the worker here and notifies the other nodes that something is due.
    pub fn notify_one(&self) {
        self.here.notify_one();
        // However many changes come meanwhile, only one notification waits to be sent, and it is sent after each of
        // them.
        if self.store.is_embedded() || self.telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, telling) = (self.store.clone(), Arc::clone(&self.telling));
        tokio::spawn(async move {
            telling.store(false, Ordering::Release);
            if let Err(error) = store.notify_nodes().await {
                tracing::debug!(%error, "other nodes could not be told of a change; they look by themselves");
            }
        });
    }

    /// Wakes the worker here.
    pub fn notify_here(&self) {
        self.here.notify_one();
    }

    /// Waits for the next notification.
    pub async fn notified(&self) {
        self.here.notified().await;
    }
}
