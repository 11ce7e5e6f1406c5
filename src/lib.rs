//! Passloom

pub mod domain;
pub mod wallets;
