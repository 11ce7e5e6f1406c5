//! Cards, templates and rules: what the product is about, without any input or output.

pub mod checks;
pub mod colour;
pub mod ids;
pub mod time;
