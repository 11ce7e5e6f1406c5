//! The values of attributes, and how they are read and written.

pub mod address;
pub mod attribute;
pub mod colour;
pub mod locale;
pub mod money;
pub mod phone;
pub mod zone;
