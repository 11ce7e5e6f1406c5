//! Cards, templates and rules: what the product is about.
//!
//! Nothing here does input or output, knows the time, HTTP or SQL: everything comes in as arguments, so that every
//! rule can be tested by itself and the same code serves phones, pages, previews and checks.

pub mod actor;
pub mod address;
pub mod attribute;
pub mod audit;
pub mod breaker;
pub mod card;
pub mod change;
pub mod checks;
pub mod colour;
pub mod complaint;
pub mod cost;
pub mod event;
pub mod expression;
pub mod formats;
pub mod ids;
pub mod input;
pub mod locale;
pub mod message;
pub mod money;
pub mod phone;
pub mod picture;
pub mod render;
pub mod retry;
pub mod styles;
pub mod template;
pub mod template_cost;
pub mod time;
pub mod trial;
pub mod zone;
