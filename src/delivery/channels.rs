//! The state of this node's connections to the wallets' services, one for each issuer. It is only a hint in memory:
//! another node may reach the service when this one can't, and after a restart the first push finds out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::delivery::breaker::{Blame, Breaker, Failure, Gate};
use crate::domain::ids::IssuerId;
use crate::domain::time::Timestamp;

/// The channels of a node, by issuer.
#[derive(Debug, Default)]
pub struct Channels(Mutex<HashMap<IssuerId, Channel>>);

#[derive(Debug, Default)]
struct Channel {
    credentials: String,
    breaker: Breaker,
    /// Whether the service has answered after an absence, and what waited for it is still to be made due.
    recovered: bool,
    /// When the next delivery may begin, where the issuer's rate is limited.
    next_turn: Option<Instant>,
}

impl Channels {
    fn all(&self) -> MutexGuard<'_, HashMap<IssuerId, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &IssuerId, work: impl FnOnce(&mut Breaker) -> T) -> T {
        work(&mut self.all().entry(id.clone()).or_default().breaker)
    }

    /// Returns what may be sent under these credentials. Others mean another connection, so the channel's
    /// state is reset.
    pub fn gate(&self, id: &IssuerId, credentials: &str, now: Timestamp) -> Gate {
        let mut channels = self.all();
        let channel = channels.entry(id.clone()).or_default();
        if channel.credentials != credentials {
            *channel = Channel { credentials: credentials.to_owned(), ..Channel::default() };
        }
        channel.breaker.gate(now)
    }

    /// Whether a push that was claimed may still be sent.
    pub fn is_open(&self, id: &IssuerId) -> bool {
        self.with(id, |breaker| breaker.trouble().is_none())
    }

    /// Records that a probe is sent; see [`Breaker::probing`].
    pub fn probing(&self, id: &IssuerId, now: Timestamp) {
        self.with(id, |breaker| breaker.probing(now));
    }

    /// Returns the number of answers so far; see [`Breaker::answers`].
    pub fn answers(&self, id: &IssuerId) -> u64 {
        self.with(id, |breaker| breaker.answers())
    }

    /// Records an answer; returns since when the service had been away, if it had. See [`Breaker::answered`].
    pub fn answered(&self, id: &IssuerId) -> Option<Timestamp> {
        self.with(id, Breaker::answered)
    }

    /// Records a failure; returns what is to blame for it. See [`Breaker::failed`].
    pub fn failed(&self, id: &IssuerId, failure: Failure, reason: &str, now: Timestamp) -> Blame {
        self.with(id, |breaker| breaker.failed(failure, reason, now))
    }

    /// Returns since when nothing is sent, and why.
    pub fn trouble(&self, id: &IssuerId) -> Option<(Timestamp, String)> {
        self.with(id, |breaker| breaker.trouble().map(|(since, reason)| (since, reason.to_owned())))
    }

    /// Notes that the service answers after an absence: what waited for it is to be made due.
    pub fn recovered(&self, id: &IssuerId) {
        self.all().entry(id.clone()).or_default().recovered = true;
    }

    /// Returns the issuers whose service has answered after an absence, each once.
    pub fn take_recovered(&self) -> Vec<IssuerId> {
        let mut channels = self.all();
        let recovered =
            channels.iter_mut().filter_map(|(id, channel)| std::mem::take(&mut channel.recovered).then_some(id));
        recovered.cloned().collect()
    }

    /// Takes the next turn of an issuer that may begin `per_second` deliveries in a second; returns how long to wait
    /// for it.
    pub fn turn(&self, id: &IssuerId, per_second: u32) -> Duration {
        let now = Instant::now();
        let mut channels = self.all();
        let channel = channels.entry(id.clone()).or_default();
        let turn = channel.next_turn.map_or(now, |next| next.max(now));
        channel.next_turn = Some(turn + Duration::from_secs(1) / per_second.max(1));
        turn - now
    }

    /// Returns the issuers for which only probes are sent.
    pub fn troubled(&self) -> Vec<IssuerId> {
        let channels = self.all();
        let troubled = channels.iter().filter(|(_, channel)| channel.breaker.trouble().is_some());
        troubled.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_of_an_issuer_are_as_far_apart_as_its_rate_allows_and_unused_ones_are_lost() {
        let channels = Channels::default();
        let (one, other) = (IssuerId::parse("one").expect("valid"), IssuerId::parse("other").expect("valid"));
        let waits: Vec<u128> = (0..3).map(|_| channels.turn(&one, 20).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100]);
        assert_eq!(channels.turn(&other, 20), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(10)).await;
        let waits: Vec<u128> = (0..2).map(|_| channels.turn(&one, 20).as_millis()).collect();
        assert_eq!(waits, [0, 50], "no burst after a pause");
    }

    #[test]
    fn an_issuer_whose_service_is_back_is_named_once() {
        let channels = Channels::default();
        let id = IssuerId::parse("one").expect("valid");
        channels.recovered(&id);
        assert_eq!(channels.take_recovered(), [id]);
        assert!(channels.take_recovered().is_empty());
    }
}
