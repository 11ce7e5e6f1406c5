//! Simulated external services. They are reached over the network and check like the real ones, so that the sandbox and
//! the tests run the same code as production. They are never more lenient than the original.

pub mod apns;
pub mod certificates;
pub mod phone;
