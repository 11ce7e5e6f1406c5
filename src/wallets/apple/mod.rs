//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.

pub mod der;
pub mod development_chain;
pub mod trust;
