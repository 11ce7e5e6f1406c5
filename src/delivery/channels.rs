//! The state of this node's connections to the push service, one for each issuer. It is only a hint in memory:
//! another node may reach the service when this one can't, and after a restart the first push finds out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::delivery::breaker::{Blame, Breaker, Failure, Gate};
use crate::domain::ids::IssuerId;
use crate::domain::time::Timestamp;
use crate::platform::secrets::digest;
use crate::wallets::issuers::AppleIssuer;

/// The channels of a node, by issuer.
#[derive(Debug, Default)]
pub struct Channels(Mutex<HashMap<IssuerId, Channel>>);

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
    fn lines(&self) -> MutexGuard<'_, HashMap<IssuerId, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, issuer_id: &IssuerId, work: impl FnOnce(&mut Breaker) -> T) -> T {
        work(&mut self.lines().entry(issuer_id.clone()).or_default().breaker)
    }

    /// Returns what may be sent under this certificate. Another certificate means another connection, so the channel's
    /// state is reset.
    pub fn gate(&self, issuer_id: &IssuerId, certificate: &str, now: Timestamp) -> Gate {
        let mut channels = self.lines();
        let channel = channels.entry(issuer_id.clone()).or_default();
        if channel.certificate != certificate {
            *channel = Channel { certificate: certificate.to_owned(), breaker: Breaker::default() };
        }
        channel.breaker.gate(now)
    }

    /// Whether a push that was claimed may still be sent.
    pub fn is_open(&self, issuer_id: &IssuerId) -> bool {
        self.with(issuer_id, |breaker| breaker.trouble().is_none())
    }

    /// Records that a probe is sent; see [`Breaker::probing`].
    pub fn probing(&self, issuer_id: &IssuerId, now: Timestamp) {
        self.with(issuer_id, |breaker| breaker.probing(now));
    }

    /// Returns the number of answers so far; see [`Breaker::answers`].
    pub fn answers(&self, issuer_id: &IssuerId) -> u64 {
        self.with(issuer_id, |breaker| breaker.answers())
    }

    /// Records an answer; returns since when the service had been away, if it had. See [`Breaker::answered`].
    pub fn answered(&self, issuer_id: &IssuerId) -> Option<Timestamp> {
        self.with(issuer_id, Breaker::answered)
    }

    /// Records a failure; returns what is to blame for it. See [`Breaker::failed`].
    pub fn failed(&self, issuer_id: &IssuerId, failure: Failure, reason: &str, now: Timestamp) -> Blame {
        self.with(issuer_id, |breaker| breaker.failed(failure, reason, now))
    }

    /// Returns since when nothing is sent, and why.
    pub fn trouble(&self, issuer_id: &IssuerId) -> Option<(Timestamp, String)> {
        self.with(issuer_id, |breaker| breaker.trouble().map(|(since, reason)| (since, reason.to_owned())))
    }

    /// Returns the issuers for which only probes are sent.
    pub fn troubled(&self) -> Vec<IssuerId> {
        let channels = self.lines();
        let troubled = channels.iter().filter(|(_, channel)| channel.breaker.trouble().is_some());
        troubled.map(|(issuer_id, _)| issuer_id.clone()).collect()
    }
}
