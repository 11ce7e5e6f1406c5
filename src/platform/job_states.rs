//! Which jobs of this node don't run at the moment, and why. The supervisor of jobs writes it, `/readyz` reads it.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The jobs that are down, by name, each with what `/readyz` says of it.
#[derive(Debug)]
pub struct JobStates(watch::Sender<BTreeMap<&'static str, String>>);

impl Default for JobStates {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl JobStates {
    /// FetchRecorder that a job is down, and why.
    pub fn is_down(&self, job: &'static str, why: String) {
        self.0.send_modify(|down| {
            down.insert(job, why);
        });
    }

    /// FetchRecorder that a job runs, or was told to stop.
    pub fn is_well(&self, job: &'static str) {
        self.0.send_if_modified(|down| down.remove(job).is_some());
    }

    /// One sentence for each job that is down.
    pub fn reasons(&self) -> Vec<String> {
        self.0.borrow().values().cloned().collect()
    }

    /// Lets somebody wait for a job to go down or to run again.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<&'static str, String>> {
        self.0.subscribe()
    }
}
