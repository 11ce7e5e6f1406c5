//! Backoff and reminder intervals of deliveries.

use std::time::Duration;

/// The shortest time between two notifications of a target; changes in between share one.
pub const WINDOW: Duration = Duration::from_secs(2);

/// How long to wait before repeating a push that no fetch followed, each wait counted from the push before: an hour, a
/// day and three days after the first.
pub const REMIND_AFTER: [Duration; 3] =
    [Duration::from_secs(3600), Duration::from_secs(23 * 3600), Duration::from_secs(48 * 3600)];

/// The waits before each further attempt, in seconds; the last one repeats.
const WAITS: [u64; 6] = [15, 60, 300, 900, 3600, 4 * 3600];

/// How long a target is left alone when the service says that it was pushed too often but not how long to wait. Apple
/// asks for minutes; a change must be tried again within one, and from then on the waits grow.
pub const BUSY_PAUSE: Duration = Duration::from_secs(55);

/// Returns how long to wait after the `attempts`-th failure in a row (from 1): at least `asked`, which the service may
/// request, and at most 24 hours. `spread` between 0 and 1 keeps many targets from retrying at the same moment. Unless
/// the service asks for more, the first retry comes within 60 seconds.
pub fn delay(attempts: i64, asked: Option<Duration>, spread: f64) -> Duration {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(WAITS.len() - 1);
    let wait = WAITS.get(place).copied().unwrap_or(60);
    let own = Duration::from_secs(wait).mul_f64(0.75 + 0.5 * spread.clamp(0.0, 1.0));
    own.max(asked.unwrap_or_default()).min(Duration::from_secs(24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_but_never_pass_a_day(attempts in 1i64..1000, spread in 0.0f64..=1.0) {
            let wait = delay(attempts, None, spread);
            prop_assert!(wait >= Duration::from_secs(10));
            prop_assert!(wait <= Duration::from_secs(24 * 3600));
            prop_assert!(delay(attempts + 1, None, spread) >= wait);
            prop_assert!(delay(1, None, spread) < Duration::from_secs(60));
        }
    }

    #[test]
    fn a_service_that_asks_to_wait_longer_is_obeyed() {
        assert_eq!(delay(1, Some(Duration::from_secs(600)), 0.5), Duration::from_secs(600));
    }
}
