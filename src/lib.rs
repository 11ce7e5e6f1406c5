//! Passloom

pub mod domain;
pub mod http;
pub mod starters;
pub mod wallets;
