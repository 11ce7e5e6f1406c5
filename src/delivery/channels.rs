//! What this node knows of its lines to the push service, one for each pass type. It is a hint in memory: another node
//! may reach the service when this one can't, and after a restart the first push finds out anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::delivery::breaker::{Blame, Breaker, Failure, Gate};
use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;
use crate::platform::secrets::digest;
use crate::wallets::issuers::AppleIssuer;

/// All lines of a node.
#[derive(Debug, Default)]
pub struct Channels(Mutex<HashMap<PassTypeId, Channel>>);

#[derive(Debug, Default)]
struct Channel {
    certificate: String,
    breaker: Breaker,
}

/// A certificate's fingerprint, by which pauses know it.
pub fn certificate_of(issuer: &AppleIssuer) -> String {
    hex::encode(digest(&issuer.identity.chain_pem))
}

impl Channels {
    fn lines(&self) -> MutexGuard<'_, HashMap<PassTypeId, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, pass_type: &PassTypeId, work: impl FnOnce(&mut Breaker) -> T) -> T {
        work(&mut self.lines().entry(pass_type.clone()).or_default().breaker)
    }

    /// What may be sent under this certificate. Another one makes another connection, so it begins anew.
    pub fn gate(&self, pass_type: &PassTypeId, certificate: &str, now: Timestamp) -> Gate {
        let mut lines = self.lines();
        let line = lines.entry(pass_type.clone()).or_default();
        if line.certificate != certificate {
            *line = Channel { certificate: certificate.to_owned(), breaker: Breaker::default() };
        }
        line.breaker.gate(now)
    }

    /// Whether a push that was claimed may still leave.
    pub fn is_open(&self, pass_type: &PassTypeId) -> bool {
        self.with(pass_type, |breaker| breaker.trouble().is_none())
    }

    /// See [`Breaker::probing`].
    pub fn probing(&self, pass_type: &PassTypeId, now: Timestamp) {
        self.with(pass_type, |breaker| breaker.probing(now));
    }

    /// See [`Breaker::answers`].
    pub fn answers(&self, pass_type: &PassTypeId) -> u64 {
        self.with(pass_type, |breaker| breaker.answers())
    }

    /// See [`Breaker::answered`].
    pub fn answered(&self, pass_type: &PassTypeId) -> Option<Timestamp> {
        self.with(pass_type, Breaker::answered)
    }

    /// See [`Breaker::failed`].
    pub fn failed(&self, pass_type: &PassTypeId, failure: Failure, reason: &str, now: Timestamp) -> Blame {
        self.with(pass_type, |breaker| breaker.failed(failure, reason, now))
    }

    /// Since when nothing is sent, and why.
    pub fn trouble(&self, pass_type: &PassTypeId) -> Option<(Timestamp, String)> {
        self.with(pass_type, |breaker| breaker.trouble().map(|(since, reason)| (since, reason.to_owned())))
    }

    /// The pass types for which only probes are sent.
    pub fn troubled(&self) -> Vec<PassTypeId> {
        let lines = self.lines();
        let troubled = lines.iter().filter(|(_, line)| line.breaker.trouble().is_some());
        troubled.map(|(pass_type, _)| pass_type.clone()).collect()
    }
}
