//! Certificates and private keys: reading and checking them, and a chain for development.

pub mod der;
pub mod development_chain;
pub mod identity;
pub mod pkcs12;
pub mod private_key;
pub mod trust;
