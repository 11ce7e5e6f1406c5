//! What the product does, one file for each thing. An action owns its transaction; it knows no HTTP.

pub mod write_probe;

pub mod audit;
pub mod cards;
pub mod error;
pub mod events;
pub mod idempotency;
pub mod issuers;
pub mod keys;
pub mod passes;
pub mod readings;
pub mod retention;
pub mod retry;
pub mod templates;
pub mod workspaces;
