//! The sandbox's certificates: made on the first start, kept in a folder, renewed before they expire.

use std::io;
use std::path::Path;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::development_chain::DevelopmentChain;

/// The pass type of the sandbox.
pub const PASS_TYPE: &str = "pass.dev.passloom.sandbox";
/// The team of the sandbox.
pub const TEAM: &str = "PASSLOOM00";

/// Why the sandbox's certificates can't be provided.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CertificatesError {
    #[error("{path}: {error}")]
    File { path: String, error: io::Error },
    #[error("OpenSSL failed: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    #[error("{0} is not a pass type")]
    PassType(String),
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> CertificatesError {
    let path = path.display().to_string();
    move |error| CertificatesError::File { path: path.clone(), error }
}

/// Returns the chain kept in `folder` (`root.pem`, `wwdr.pem`, `pass.pem` and their keys), and makes it there when it
/// is absent, unreadable or about to expire.
///
/// # Errors
/// When the folder can't be written or OpenSSL fails.
pub fn load_or_make(folder: &Path, now: Timestamp) -> Result<DevelopmentChain, CertificatesError> {
    if let Some(chain) = load(folder)
        && ends_after(&chain.leaf, now.seconds() + 24 * 3600)
    {
        return Ok(chain);
    }
    let pass_type = PassTypeId::parse(PASS_TYPE).map_err(|_| CertificatesError::PassType(PASS_TYPE.to_owned()))?;
    let chain = DevelopmentChain::mint(&pass_type, TEAM, now)?;
    std::fs::create_dir_all(folder).map_err(file_error(folder))?;
    for (name, certificate, key) in [
        ("root", &chain.root, &chain.root_key),
        ("wwdr", &chain.intermediate, &chain.intermediate_key),
        ("pass", &chain.leaf, &chain.leaf_key),
    ] {
        write(&folder.join(format!("{name}.pem")), &certificate.to_pem()?)?;
        write(&folder.join(format!("{name}.key")), &key.private_key_to_pem_pkcs8()?)?;
    }
    Ok(chain)
}

fn ends_after(certificate: &X509, seconds: i64) -> bool {
    openssl::asn1::Asn1Time::from_unix(seconds).is_ok_and(|time| certificate.not_after() > time)
}

fn load(folder: &Path) -> Option<DevelopmentChain> {
    let pair = |name: &str| -> Option<(X509, PKey<Private>)> {
        let certificate = std::fs::read(folder.join(format!("{name}.pem"))).ok()?;
        let key = std::fs::read(folder.join(format!("{name}.key"))).ok()?;
        Some((X509::from_pem(&certificate).ok()?, PKey::private_key_from_pem(&key).ok()?))
    };
    let ((root, root_key), (intermediate, intermediate_key), (leaf, leaf_key)) =
        (pair("root")?, pair("wwdr")?, pair("pass")?);
    Some(DevelopmentChain { root, root_key, intermediate, intermediate_key, leaf, leaf_key })
}

/// Writes a file that only its owner may read, atomically: a crash leaves the old one or the new one.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, content: &[u8]) -> Result<(), CertificatesError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = path.with_extension("new");
    let done = (|| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        // Without this, the new name might not survive a power cut.
        path.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), |p| std::fs::File::open(p)?.sync_all())
    })();
    done.map_err(file_error(path))
}
