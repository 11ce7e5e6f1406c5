//! One line of the list of routes.

use actix_web::Route;
use actix_web::http::Method;

use super::openapi::Operation;

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// Its method in lower case.
    pub method: &'static str,
    /// Its address, names in braces.
    pub path: &'static str,
    /// What it does, takes and answers; described for backends only, the others' contracts are Apple's or a browser's.
    pub operation: Option<&'static Operation>,
    pub(super) route: fn(Method) -> Route,
}
