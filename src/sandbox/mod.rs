//! Simulated outside services. They are spoken to over the wire and check like the real ones, so that the sandbox and
//! the tests run the same code as production. They never judge more mildly than the original.

pub mod apns;
pub mod certificates;
pub mod phone;
