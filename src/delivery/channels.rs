//! The state of this node's connections to the push service, one for each pass type. It is only a hint in memory:
//! another node may reach the service when this one can't, and after a restart the first push finds out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::delivery::breaker::{Blame, Breaker, Failure, Gate};
use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;
use crate::platform::secrets::digest;
use crate::wallets::issuers::AppleIssuer;

/// The channels of a node, by pass type.
#[derive(Debug, Default)]
pub struct Channels(Mutex<HashMap<PassTypeId, Channel>>);

#[derive(Debug, Default)]
struct Channel {
    certificate: String,
    breaker: Breaker,
}

/// Returns a certificate's fingerprint, as pauses store it.
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

    /// Returns what may be sent under this certificate. Another certificate means another connection, so the channel's
    /// state is reset.
    pub fn gate(&self, pass_type: &PassTypeId, certificate: &str, now: Timestamp) -> Gate {
        let mut channels = self.lines();
        let channel = channels.entry(pass_type.clone()).or_default();
        if channel.certificate != certificate {
            *channel = Channel { certificate: certificate.to_owned(), breaker: Breaker::default() };
        }
        channel.breaker.gate(now)
    }

    /// Whether a push that was claimed may still be sent.
    pub fn is_open(&self, pass_type: &PassTypeId) -> bool {
        self.with(pass_type, |breaker| breaker.trouble().is_none())
    }

    /// Records that a probe is sent; see [`Breaker::probing`].
    pub fn probing(&self, pass_type: &PassTypeId, now: Timestamp) {
        self.with(pass_type, |breaker| breaker.probing(now));
    }

    /// Returns the number of answers so far; see [`Breaker::answers`].
    pub fn answers(&self, pass_type: &PassTypeId) -> u64 {
        self.with(pass_type, |breaker| breaker.answers())
    }

    /// Records an answer; returns since when the service had been away, if it had. See [`Breaker::answered`].
    pub fn answered(&self, pass_type: &PassTypeId) -> Option<Timestamp> {
        self.with(pass_type, Breaker::answered)
    }

    /// Records a failure; returns what is to blame for it. See [`Breaker::failed`].
    pub fn failed(&self, pass_type: &PassTypeId, failure: Failure, reason: &str, now: Timestamp) -> Blame {
        self.with(pass_type, |breaker| breaker.failed(failure, reason, now))
    }

    /// Returns since when nothing is sent, and why.
    pub fn trouble(&self, pass_type: &PassTypeId) -> Option<(Timestamp, String)> {
        self.with(pass_type, |breaker| breaker.trouble().map(|(since, reason)| (since, reason.to_owned())))
    }

    /// Returns the pass types for which only probes are sent.
    pub fn troubled(&self) -> Vec<PassTypeId> {
        let channels = self.lines();
        let troubled = channels.iter().filter(|(_, channel)| channel.breaker.trouble().is_some());
        troubled.map(|(pass_type, _)| pass_type.clone()).collect()
    }
}
