//! When deliveries are retried, and when a push service counts as down.

pub mod backoff;
pub mod breaker;
