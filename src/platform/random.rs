//! Randomness, as a parameter.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::error::ErrorStack;

use crate::domain::ids::SerialNumber;
use crate::domain::time::Timestamp;

/// A source of random bytes fit for secrets.
pub trait Random: std::fmt::Debug + Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), ErrorStack>;
}

/// OpenSSL's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), ErrorStack> {
        openssl::rand::rand_bytes(buffer)
    }
}

/// Returns random bytes.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], ErrorStack> {
    let mut buffer = [0; N];
    random.fill(&mut buffer)?;
    Ok(buffer)
}

/// Returns 256 random bits as 43 characters that need no escaping anywhere.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn token(random: &dyn Random) -> Result<String, ErrorStack> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>(random)?))
}

/// Returns a new UUID (version 7: it sorts by time, which keeps indexes dense).
///
/// # Errors
/// When the machine has no randomness to give.
pub fn uuid(random: &dyn Random, now: Timestamp) -> Result<uuid::Uuid, ErrorStack> {
    Ok(uuid_at(now, &bytes(random)?))
}

fn uuid_at(now: Timestamp, rest: &[u8; 10]) -> uuid::Uuid {
    let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, rest).into_uuid()
}

/// Makes the ids of requests: UUIDs like all others, but derived from a count. They are no secret, so they need no
/// random bytes, which took longer than everything else done around a request; and they don't reveal the count.
#[derive(Debug, Default)]
pub struct RequestIds {
    /// The keys of a hash, different in each process.
    keys: RandomState,
    given: AtomicU64,
}

impl RequestIds {
    /// Returns the next id.
    pub fn next(&self, now: Timestamp) -> uuid::Uuid {
        let count = self.given.fetch_add(1, Ordering::Relaxed);
        let mut rest = [0; 10];
        let hashes = [self.keys.hash_one(count), self.keys.hash_one(!count)];
        for (byte, hashed) in rest.iter_mut().zip(hashes.into_iter().flat_map(u64::to_le_bytes)) {
            *byte = hashed;
        }
        uuid_at(now, &rest)
    }
}

/// Returns a new serial number.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn serial_number(random: &dyn Random, now: Timestamp) -> Result<SerialNumber, ErrorStack> {
    Ok(SerialNumber::trusted(uuid(random, now)?.to_string()))
}

/// Returns a number between 0 and 1, to spread what would otherwise happen at once.
pub fn fraction(random: &dyn Random) -> f64 {
    bytes::<4>(random).map_or(0.5, |b| f64::from(u32::from_le_bytes(b)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn requests_have_ids_of_their_own_on_every_node_and_within_one_moment() {
        let now = Timestamp::from_seconds(1_800_000_000);
        let nodes = [RequestIds::default(), RequestIds::default()];
        let ids: HashSet<_> = nodes.iter().flat_map(|ids| (0..1000).map(|_| ids.next(now))).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }
}
