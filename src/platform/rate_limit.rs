//! Limits of requests per minute, by address or by another key.
//!
//! It uses `moka`, which bounds how many keys are remembered and forgets each after its minute. The crate `governor`
//! was considered: its keyed limiters never forget a key by themselves and have no bound on their number, so a stranger
//! with many IPv6 networks would fill the memory until `retain_recent` is called; and it doesn't distinguish the first
//! request beyond a limit, which is logged once, from the others. It would need a job, a bound and a flag of our own
//! beside it, which is more code than this, and further crates.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache;

/// Counts requests within a minute, by default of each address. The counts are in this node's memory, since they
/// protect this node.
#[derive(Debug, Clone)]
pub struct RateLimit<K: Hash + Eq + Send + Sync + 'static = IpAddr> {
    most: u32,
    counts: Cache<K, Arc<AtomicU32>>,
}

impl<K: Hash + Eq + Send + Sync + 'static> RateLimit<K> {
    /// Makes a limit of `most` requests a minute; 0 for no limit.
    pub fn new(most: u32) -> Self {
        let counts = Cache::builder().max_capacity(50_000).time_to_live(Duration::from_secs(60)).build();
        Self { most, counts }
    }

    /// Returns the limit.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Counts one more request of a key.
    pub async fn count_one(&self, key: K) -> Count {
        if self.most == 0 {
            return Count::Within;
        }
        let count = self.counts.get_with(key, async { Arc::default() }).await;
        match count.fetch_add(1, Ordering::Relaxed) {
            before if before < self.most => Count::Within,
            before if before == self.most => Count::FirstBeyond,
            _ => Count::Beyond,
        }
    }
}

impl RateLimit {
    /// Counts one more request of an address; returns whether it is within the limit.
    pub async fn allows(&self, address: Option<IpAddr>) -> bool {
        self.count(address).await == Count::Within
    }

    /// Counts one more request of an address; of IPv6, of its network of 64 bits, since the owner of one address there
    /// has all of them.
    pub async fn count(&self, address: Option<IpAddr>) -> Count {
        let Some(address) = address else { return Count::Within };
        self.count_one(network_of(address)).await
    }
}

/// Returns what counts as one address: for IPv6, the network of 64 bits.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

/// The place of a request within its address's minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Within the limit.
    Within,
    /// The first one beyond it.
    FirstBeyond,
    /// Beyond it.
    Beyond,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_address_has_its_own_minute() {
        let limit = RateLimit::new(2);
        let (one, other) = ("198.51.100.1".parse().ok(), "198.51.100.2".parse().ok());
        assert!(limit.allows(one).await && limit.allows(one).await);
        assert!(!limit.allows(one).await);
        assert!(limit.allows(other).await);
        assert_eq!(limit.count(other).await, Count::Within);
        assert_eq!((limit.count(other).await, limit.count(other).await), (Count::FirstBeyond, Count::Beyond));
        let unlimited = RateLimit::new(0);
        for _ in 0..9 {
            assert!(unlimited.allows(one).await, "0 switches it off");
        }
        let network = |host: u16| format!("2001:db8:1:2::{host:x}").parse().ok();
        assert!(limit.allows(network(1)).await && limit.allows(network(2)).await);
        assert!(!limit.allows(network(3)).await, "whoever has one of them has all");
        assert!(limit.allows("2001:db8:1:3::1".parse().ok()).await);
    }
}
