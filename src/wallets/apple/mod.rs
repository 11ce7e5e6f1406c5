//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.
//!
//! The way of a pass: [`prepare`] makes everything that is the same for all cards of a published version ready
//! once; [`mod@pass_json`] writes one card; [`archive`] joins both; [`signature`] signs the manifest.
//! The way back: [`unpack`] opens any archive, [`verify`] its manifest and signature, [`rules`] all the rest; together
//! they are [`mod@inspect`]. [`design_of_pass`] makes a template of what was opened.

pub mod certificates;
pub mod import;
pub mod inspect;
pub mod package;
pub mod push;
pub mod rules;
