//! Apple Wallet: signed `.pkpass` archives and empty pushes by APNs.
//!
//! To make a pass, [`prepare`] prepares once what all cards of a published version share, [`mod@pass_json`] writes one
//! card, [`archive`] joins both, and [`signature`] signs the manifest.
//! To read one, [`unpack`] opens any archive, [`verify`] checks its manifest and signature, and [`rules`] checks all
//! the rest; together they are [`mod@inspect`]. [`design_of_pass`] makes a template of what was opened.

pub mod certificates;
pub mod check;
pub mod driver;
pub mod import;
pub mod inspect;
pub mod issuers;
pub mod package;
pub mod push;
pub mod rules;
