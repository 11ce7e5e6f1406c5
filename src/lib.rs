//! Passloom

pub mod domain;
pub mod sandbox;
pub mod wallets;
