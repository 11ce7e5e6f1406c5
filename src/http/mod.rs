//! HTTP: the requests that drive the service from outside.
//!
//! `routes` lists every route. A handler reads the request, calls one action and writes the answer; `problem` turns
//! errors into answers (for Apple's web service, `apple_v1`, which has its own statuses).

pub mod address;
pub mod admission;
pub mod api;
pub mod apple_v1;
pub mod auth;
pub mod body;
pub mod connections;
pub mod endpoint;
pub mod fixed;
pub mod idempotency;
pub mod internal;
pub mod middleware;
pub mod ndjson;
pub mod openapi;
pub mod problem;
pub mod public;
pub mod query;
pub mod routes;
pub mod sandbox;
pub mod server;
