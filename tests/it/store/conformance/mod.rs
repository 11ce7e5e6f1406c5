//! What the store promises, held against both databases. Times are arguments, so nothing here waits.

mod api_keys;
mod cards;
mod fan_outs;

pub mod shop;
mod targets;
mod templates;
mod workspaces;
