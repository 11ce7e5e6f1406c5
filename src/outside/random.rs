//! Randomness.

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

/// Random bytes.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], ErrorStack> {
    let mut buffer = [0; N];
    random.fill(&mut buffer)?;
    Ok(buffer)
}

/// 256 random bits in 43 characters that need no escaping anywhere.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn token(random: &dyn Random) -> Result<String, ErrorStack> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>(random)?))
}

/// A new UUID (version 7: it sorts by time, which keeps indexes dense).
///
/// # Errors
/// When the machine has no randomness to give.
pub fn uuid(random: &dyn Random, now: Timestamp) -> Result<uuid::Uuid, ErrorStack> {
    let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &bytes::<10>(random)?).into_uuid())
}

/// A new serial number.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn serial_number(random: &dyn Random, now: Timestamp) -> Result<SerialNumber, ErrorStack> {
    Ok(SerialNumber::trusted(uuid(random, now)?.to_string()))
}

/// A number between 0 and 1, to spread what would otherwise happen at once.
pub fn fraction(random: &dyn Random) -> f64 {
    bytes::<4>(random).map_or(0.5, |b| f64::from(u32::from_le_bytes(b)) / f64::from(u32::MAX))
}
