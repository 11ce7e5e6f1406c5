//! Who signs: a pass type certificate with its key and the intermediate that issued it, read once and checked.

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::{X509, X509Ref};

use super::signature::PassSigner;
use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;

/// Subject attribute UID, which holds the pass type.
const UID: &str = "0.9.2342.19200300.100.1.1";

/// A usable signing identity.
#[derive(Debug)]
pub struct SigningIdentity {
    /// The certificate's pass type.
    pub pass_type: PassTypeId,
    /// The certificate's team.
    pub team: String,
    /// When the certificate begins to be valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Signs manifests.
    pub signer: PassSigner,
    /// The certificate and its intermediate in PEM, for the connection to APNs.
    pub chain_pem: Vec<u8>,
    /// The key as PKCS#8 in PEM, for the connection to APNs. A secret.
    pub key_pem: Secret,
}

/// Bytes that never print.
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a certificate, key and intermediate can't sign passes.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum IdentityError {
    #[error("the certificate can't be read: it is neither PEM nor DER nor PKCS#12")]
    Certificate,
    #[error("the key can't be read: it is not a PEM or DER private key, or the password is wrong or missing")]
    Key,
    #[error("the intermediate certificate can't be read: it is neither PEM nor DER")]
    Intermediate,
    #[error("the PKCS#12 file can't be opened: the password is wrong or missing, or its cipher is not supported")]
    Pkcs12,
    #[error("the PKCS#12 file holds no {0}")]
    Pkcs12Lacks(&'static str),
    #[error("no intermediate certificate that issued the certificate was given; it was issued by {0}")]
    IntermediateMissing(String),
    #[error("the key doesn't belong to the certificate")]
    KeyMismatch,
    #[error("the key is not RSA; Apple's pass type certificates are")]
    NotRsa,
    #[error("the intermediate did not issue the certificate, which was issued by {0}")]
    WrongIntermediate(String),
    #[error("the certificate is not a pass type certificate: its subject has no UID that begins with pass.")]
    NoPassType,
    #[error("the certificate's subject has no organizational unit, which holds the team")]
    NoTeam,
    #[error("OpenSSL failed: {0}")]
    OpenSsl(#[from] ErrorStack),
}

impl SigningIdentity {
    /// Joins the three and checks that they belong together.
    ///
    /// # Errors
    /// A sentence that names what is wrong. Dates are not judged here: an expired identity is known, not unusable.
    pub fn new(certificate: &X509, key: PKey<Private>, intermediate: &X509) -> Result<Self, IdentityError> {
        if key.id() != Id::RSA {
            return Err(IdentityError::NotRsa);
        }
        if !certificate.public_key()?.public_eq(&key) {
            return Err(IdentityError::KeyMismatch);
        }
        let issuer_matches = intermediate.issued(certificate) == openssl::x509::X509VerifyResult::OK;
        if !issuer_matches || !certificate.verify(&*intermediate.public_key()?)? {
            return Err(IdentityError::WrongIntermediate(issuer(certificate)));
        }
        let pass_type =
            subject(certificate, UID).and_then(|uid| PassTypeId::parse(&uid).ok()).ok_or(IdentityError::NoPassType)?;
        let team = certificate
            .subject_name()
            .entries_by_nid(Nid::ORGANIZATIONALUNITNAME)
            .next()
            .and_then(|entry| entry.data().to_string().ok())
            .ok_or(IdentityError::NoTeam)?;
        Ok(Self {
            pass_type,
            team,
            not_before: timestamp(certificate.not_before())?,
            not_after: timestamp(certificate.not_after())?,
            chain_pem: [certificate.to_pem()?, intermediate.to_pem()?].concat(),
            key_pem: Secret(key.private_key_to_pem_pkcs8()?),
            signer: PassSigner::new(certificate, intermediate, key)?,
        })
    }

    /// Reads the files an operator has: a certificate in PEM or DER with a key file beside it, or a PKCS#12 file
    /// that holds both; the intermediate alone, in the PKCS#12 file, or among `known` ones.
    ///
    /// # Errors
    /// As [`SigningIdentity::new`], and when a file can't be read.
    pub fn from_files(
        certificate: &[u8],
        key: Option<&[u8]>,
        password: Option<&str>,
        intermediate: Option<&[u8]>,
        known: &[X509],
    ) -> Result<Self, IdentityError> {
        let password = password.unwrap_or_default();
        let (leaf, key, mut candidates) = match key {
            Some(key) => {
                (read_certificate(certificate).ok_or(IdentityError::Certificate)?, read_key(key, password)?, vec![])
            }
            None => {
                let p12 = openssl::pkcs12::Pkcs12::from_der(certificate).map_err(|_| IdentityError::Certificate)?;
                let parsed = p12.parse2(password).map_err(|_| IdentityError::Pkcs12)?;
                let leaf = parsed.cert.ok_or(IdentityError::Pkcs12Lacks("certificate"))?;
                let key = parsed.pkey.ok_or(IdentityError::Pkcs12Lacks("private key"))?;
                (leaf, key, parsed.ca.map(|stack| stack.into_iter().collect()).unwrap_or_default())
            }
        };
        if let Some(given) = intermediate {
            let given = read_certificate(given).ok_or(IdentityError::Intermediate)?;
            return Self::new(&leaf, key, &given);
        }
        candidates.extend_from_slice(known);
        let chosen = candidates.iter().find(|c| c.issued(&leaf) == openssl::x509::X509VerifyResult::OK);
        let chosen = chosen.ok_or_else(|| IdentityError::IntermediateMissing(issuer(&leaf)))?;
        Self::new(&leaf, key, chosen)
    }
}

fn read_certificate(bytes: &[u8]) -> Option<X509> {
    X509::from_pem(bytes).or_else(|_| X509::from_der(bytes)).ok()
}

fn read_key(bytes: &[u8], password: &str) -> Result<PKey<Private>, IdentityError> {
    PKey::private_key_from_pem_passphrase(bytes, password.as_bytes())
        .or_else(|_| PKey::private_key_from_der(bytes))
        .or_else(|_| PKey::private_key_from_pkcs8_passphrase(bytes, password.as_bytes()))
        .map_err(|_| IdentityError::Key)
}

fn issuer(certificate: &X509Ref) -> String {
    let parts: Vec<String> =
        certificate.issuer_name().entries().filter_map(|entry| entry.data().to_string().ok()).collect();
    parts.join(", ")
}

fn subject(certificate: &X509Ref, oid: &str) -> Option<String> {
    let entries = certificate.subject_name().entries();
    entries
        .filter(|entry| entry.object().to_string() == oid || entry.object().nid() == Nid::USERID)
        .find_map(|entry| entry.data().to_string().ok())
}

fn timestamp(time: &openssl::asn1::Asn1TimeRef) -> Result<Timestamp, ErrorStack> {
    let epoch = openssl::asn1::Asn1Time::from_unix(0)?;
    let diff = epoch.diff(time)?;
    Ok(Timestamp::from_seconds(i64::from(diff.days) * 86_400 + i64::from(diff.secs)))
}
