//! The API for the loyalty backend: one file per endpoint.

pub mod cards;
pub mod keys;
pub mod templates;
pub mod workspaces;
