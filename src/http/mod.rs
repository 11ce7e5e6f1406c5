//! What drives us from outside: requests.

pub mod public;
