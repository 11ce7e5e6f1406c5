//! The client of Apple's push service (APNs).

pub mod apns;
pub mod apns_reason;
