//! What drives us from outside: requests.
//!
//! `routes` has every route, a line each. A handler reads the request, calls one action and writes the answer; what
//! goes wrong becomes an answer in `problem` (for Apple's web service, in `apple_v1`, which has statuses of its own).

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
