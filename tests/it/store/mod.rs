//! The store on both databases: every statement, the two schemas, and one suite of promises.

mod schema;
mod statements;
