//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.
//!
//! The way of a pass: [`prepare`] makes everything that is the same for all cards of a published version ready
//! once; [`mod@pass_json`] writes one card; [`archive`] joins both; [`signature`] signs the manifest.
//! The way back: [`unpack`] opens any archive, [`verify`] its manifest and signature, [`rules`] all the rest; together
//! they are [`mod@inspect`]. [`design_of_pass`] makes a template of what was opened.

pub mod apns;
pub mod apns_reason;
pub mod archive;
pub mod der;
pub mod design_of_pass;
pub mod development_chain;
pub mod identity;
pub mod images;
pub mod inspect;
pub mod pass;
pub mod pass_json;
pub mod pkcs12;
pub mod prepare;
pub mod private_key;
pub mod rules;
pub mod signature;
pub mod strings;
pub mod trust;
pub mod unpack;
pub mod verify;
