//! Cards, templates and rules: the core of the product.
//!
//! Nothing here does I/O or knows the time, HTTP or SQL: everything comes in as arguments, so that every rule can be
//! tested by itself and the same code serves phones, pages, previews and checks.

pub mod actor;
pub mod audit;
pub mod cards;
pub mod checks;
pub mod delivery;
pub mod device_log_entry;
pub mod event;
pub mod ids;
pub mod input;
pub mod render;
pub mod templates;
pub mod time;
pub mod values;
pub mod wallet;
