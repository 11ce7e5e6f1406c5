//! Builds a pass: pass.json, texts, pictures, manifest, signature, archive.

pub mod archive;
pub mod pass;
pub mod pass_json;
pub mod prepare;
pub mod signature;
pub mod strings;
