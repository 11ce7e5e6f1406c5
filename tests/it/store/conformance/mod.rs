//! What the store promises, held against both databases. Times are arguments, so nothing here waits.

mod api_keys;
mod cards;
mod devices;
mod refreshes;
pub mod shop;
mod templates;
mod workspaces;
