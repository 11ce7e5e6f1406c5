//! Passloom

pub mod cli;
pub mod domain;
pub mod wallets;
