//! Apple's push service.

pub mod apns;
pub mod apns_reason;
