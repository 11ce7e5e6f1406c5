//! Passloom

pub mod domain;
pub mod store;
pub mod wallets;
