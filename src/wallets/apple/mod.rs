//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.

pub mod development_chain;
