//! Passloom issues digital wallet passes from a server of your own: from card templates it makes signed Apple Wallet
//! passes, serves the web service by which phones update them, and pushes every change of a balance or tier, so that
//! cards in phones refresh by themselves.
//!
//! Each layer uses only those below it:
//!
//! ```text
//! main, cli, app        builds everything once from the configuration
//! http      jobs        what drives us: requests, deliveries
//!      actions          one file for each thing the product does; owns the transaction
//! wallets   store       Apple's formats and servers;  SQL
//!       domain          cards, templates, rules: no input, no output, no clock
//! ```
//!
//! `platform` holds the clock, randomness and secrets, which come in as parameters; `sandbox` holds simulated external
//! services that check like the real ones. ARCHITECTURE.md describes the main paths through all of it.

pub mod actions;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod platform;
pub mod sandbox;
pub mod startup;
pub mod store;
pub mod telemetry;
pub mod wallets;
