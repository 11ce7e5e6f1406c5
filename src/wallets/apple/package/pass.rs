//! Builds signed passes. [`build`] and [`sign`] are the only ways to a [`SignedPass`], so an unsigned pass can't be
//! served.

use std::sync::Arc;

use openssl::error::ErrorStack;

use crate::domain::render::RenderedCard;
use crate::domain::time::Timestamp;
use crate::wallets::apple::package::archive::{Archive, SharedFiles, TooLarge};
use crate::wallets::apple::package::pass_json::{PassIdentity, pass_json};
use crate::wallets::apple::package::prepare::PreparedPasses;
use crate::wallets::apple::package::signature::PassSigner;

/// A `.pkpass` file.
#[derive(Debug, Clone)]
pub struct SignedPass {
    archive: Archive,
}

impl SignedPass {
    /// Returns the file.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }
}

/// Why a pass can't be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BuildError {
    #[error("signing failed: {0}")]
    Signature(#[from] ErrorStack),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A pass before it is signed.
#[derive(Debug)]
pub struct UnsignedPass {
    shared: Arc<SharedFiles>,
    pass_json: Vec<u8>,
    tables: Vec<(String, String)>,
    manifest: Vec<u8>,
}

impl UnsignedPass {
    /// Returns the manifest: the digests of all files by name. Passes with the same manifest show the same.
    pub fn into_manifest(self) -> Vec<u8> {
        self.manifest
    }
}

/// Writes a card's own files and the manifest over all files.
///
/// # Errors
/// When the files are too large for an archive.
pub fn write(
    card: &RenderedCard<'_>,
    identity: &PassIdentity<'_>,
    prepared: &PreparedPasses,
) -> Result<UnsignedPass, TooLarge> {
    let written = pass_json(card, identity);
    let pass_json = written.json.to_string().into_bytes();
    let tables: Vec<(String, String)> =
        prepared.own_tables(&written.own_entries).into_iter().map(|(path, table)| (path.to_owned(), table)).collect();
    let mut own: Vec<(&str, &[u8])> = vec![("pass.json", &pass_json)];
    own.extend(tables.iter().map(|(path, table)| (path.as_str(), table.as_bytes())));
    let shared = prepared.files(&card.look, tables.is_empty())?;
    let manifest = shared.manifest(&own);
    Ok(UnsignedPass { shared, pass_json, tables, manifest })
}

/// Signs and packs a pass. This costs an RSA operation: keep it off the async threads.
///
/// # Errors
/// When OpenSSL fails or the files are too large.
pub fn sign(unsigned: &UnsignedPass, signer: &PassSigner, now: Timestamp) -> Result<SignedPass, BuildError> {
    let signature = signer.sign(&unsigned.manifest, now)?;
    let mut own: Vec<(&str, &[u8])> = vec![("pass.json", &unsigned.pass_json)];
    own.extend(unsigned.tables.iter().map(|(path, table)| (path.as_str(), table.as_bytes())));
    own.push(("manifest.json", &unsigned.manifest));
    own.push(("signature", &signature));
    Ok(SignedPass { archive: unsigned.shared.with(&own)? })
}

/// Combines [`write`] and [`sign`].
///
/// # Errors
/// As [`sign`].
pub fn build(
    card: &RenderedCard<'_>,
    identity: &PassIdentity<'_>,
    prepared: &PreparedPasses,
    signer: &PassSigner,
    now: Timestamp,
) -> Result<SignedPass, BuildError> {
    sign(&write(card, identity, prepared)?, signer, now)
}
