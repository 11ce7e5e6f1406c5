//! The API for the loyalty backend: one file per endpoint.

pub mod audit;
pub mod cards;
pub mod device_logs;
pub mod events;
pub mod issuers;
pub mod keys;
pub mod templates;
pub mod workspaces;
