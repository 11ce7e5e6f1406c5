//! The actions of the product, one file each. An action owns its transaction and knows nothing of HTTP.

pub mod write_probe;

pub mod audit;
pub mod cards;
pub mod error;
pub mod events;
pub mod fan_out;
pub mod idempotency;
pub mod issuers;
pub mod keys;
pub mod passes;
pub mod readings;
pub mod retention;
pub mod retry;
pub mod templates;
pub mod workspaces;
