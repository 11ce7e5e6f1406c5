//! Workspaces, and the secrets of the whole installation.

pub mod after_restore;
pub mod create_workspace;
pub mod rotate_secrets;
