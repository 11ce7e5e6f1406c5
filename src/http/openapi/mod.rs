//! The API described as data, beside the code that serves it.
//!
//! Each endpoint's file has an [`Operation`] next to its handler, and the list of routes names both, so none is served
//! without being described. From these come the OpenAPI document, the page that people read, and a check in the tests:
//! every answer that a test sees must be one that its operation announces, in the announced shape.

pub mod document;
pub mod model;
pub mod page;
pub mod schemas;

pub use model::{Answer, Content, Needs, Operation, Parameter, Place, Schema, parameters};
