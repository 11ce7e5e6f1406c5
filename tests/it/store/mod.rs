//! The store on both databases: every statement, the two schemas, and one suite of promises.

mod conformance;
mod plans;
mod schema;
mod statements;
