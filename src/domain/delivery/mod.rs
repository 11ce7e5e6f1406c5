//! When deliveries are tried again.

pub mod backoff;
pub mod breaker;
