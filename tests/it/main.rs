//! The tests that need more than one file of the crate: databases, the whole service, other programs.
//!
//! They are one binary, so that the crate is linked once and PostgreSQL started once. Folders mirror `src`;
//! `support` holds what the tests stand on.

// Clippy's allow-unwrap-in-tests knows only functions marked `#[test]`, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

mod batches;
mod certificate;
mod certificate_bounds;
mod chaos;
mod doctor;
mod full_disk;
mod http;
mod jobs;
mod layers;
mod memory;
mod passes;
mod process;
mod rotation;
mod store;
mod support;
mod values;
mod wallets;
