//! The jobs of this node that are down at the moment, and why. The supervisor of jobs writes it, `/readyz` reads it.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The jobs that are down, by name, each with the text that `/readyz` shows.
#[derive(Debug)]
pub struct JobStates(watch::Sender<BTreeMap<&'static str, String>>);

impl Default for JobStates {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl JobStates {
    /// Records that a job is down, and why.
    pub fn is_down(&self, job: &'static str, why: String) {
        self.0.send_modify(|down| {
            down.insert(job, why);
        });
    }

    /// Records that a job runs, or was stopped.
    pub fn is_well(&self, job: &'static str) {
        self.0.send_if_modified(|down| down.remove(job).is_some());
    }

    /// Returns one sentence for each job that is down.
    pub fn reasons(&self) -> Vec<String> {
        self.0.borrow().values().cloned().collect()
    }

    /// Returns a receiver that is notified when a job goes down or runs again.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.subscribe()
    }
}
