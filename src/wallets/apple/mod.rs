//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.

pub mod apns;
pub mod apns_reason;
