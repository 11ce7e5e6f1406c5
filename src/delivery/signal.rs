//! Wakes the delivery worker of this node, and those of the others, when a change was committed. A hint only: every
//! worker also looks by itself each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::store::Store;

/// See the module.
#[derive(Debug)]
pub struct DeliverySignal {
    here: Notify,
    store: Store,
    telling: Arc<AtomicBool>,
}

impl DeliverySignal {
    /// For a node on that database.
    pub fn new(store: Store) -> Self {
        Self { here: Notify::new(), store, telling: Arc::default() }
    }

    /// Something is due: wakes the worker here, and tells the other nodes.
    pub fn notify_one(&self) {
        self.here.notify_one();
        // However many changes come meanwhile, one word at a time is on its way, and it leaves after each of them.
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

    /// Until somebody notifies.
    pub async fn notified(&self) {
        self.here.notified().await;
    }
}
