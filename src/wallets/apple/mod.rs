//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.

pub mod archive;
pub mod der;
pub mod development_chain;
pub mod inspect;
pub mod rules;
pub mod trust;
pub mod verify;
