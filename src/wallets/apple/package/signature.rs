//! The detached signature of a pass: CMS SignedData (RFC 5652) in DER over the manifest.
//!
//! Encoded by hand for two reasons: the signing time must come from the caller's clock, and everything but the digest,
//! the time and the RSA operation is the same for every pass, so it is encoded once. Tests check it with OpenSSL's own
//! verification. Apple's requirements ("Building a pass", read 2026-11): the signature includes the signer's
//! certificate and the intermediate that issued it, but not the root, and the signed attributes contentType,
//! signingTime and messageDigest.

use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::{X509, X509Ref};
use sha2::{Digest, Sha256};

use crate::domain::time::Timestamp;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const CONTEXT_0: u8 = 0xA0;

const OID_DATA: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 1];
const OID_SIGNED_DATA: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2];
const OID_CONTENT_TYPE: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 3];
const OID_MESSAGE_DIGEST: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 4];
const OID_SIGNING_TIME: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 5];
const SHA256: &[u8] = &[0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 0x05, 0];
const RSA: &[u8] = &[0x30, 13, 0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 0x05, 0];
/// ecdsa-with-SHA256 (RFC 5758, 3.2)
const ECDSA: &[u8] = &[0x30, 10, 0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const VERSION_1: &[u8] = &[0x02, 1, 1];

/// The signing key, and the parts of a signature that are the same for every pass.
pub struct PassSigner {
    key: PKey<Private>,
    /// The encoded version, digestAlgorithms, encapContentInfo and certificates.
    head: Vec<u8>,
    /// The encoded version, sid and digestAlgorithm of the signer's info.
    signer: Vec<u8>,
}

impl std::fmt::Debug for PassSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassSigner")
    }
}

impl PassSigner {
    /// Encodes the constant parts. The key must be RSA or on P-256 and belong to `certificate`, which `intermediate`
    /// issued; [`crate::wallets::apple::certificates::identity`] checks that.
    ///
    /// # Errors
    /// When OpenSSL can't write a certificate.
    pub fn new(certificate: &X509, intermediate: &X509, key: PKey<Private>) -> Result<Self, ErrorStack> {
        let certificates = [certificate.to_der()?, intermediate.to_der()?].concat();
        let head = [VERSION_1, &tlv(SET, SHA256), &tlv(SEQUENCE, OID_DATA), &tlv(CONTEXT_0, &certificates)].concat();
        let serial = certificate.serial_number().to_bn()?.to_vec();
        let sid = [certificate.issuer_name().to_der()?, unsigned_integer(&serial)].concat();
        let signer = [VERSION_1, &tlv(SEQUENCE, &sid), SHA256].concat();
        Ok(Self { key, head, signer })
    }

    /// Signs a manifest. This costs one operation with the key, for RSA about a quarter of a millisecond: keep it off
    /// the async threads.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn sign(&self, manifest: &[u8], signing_time: Timestamp) -> Result<Vec<u8>, ErrorStack> {
        let digest = Sha256::digest(manifest);
        // DER requires the attributes of a SET in ascending order of their encodings, as these three are.
        let attributes = [
            tlv(SEQUENCE, &[OID_CONTENT_TYPE, &tlv(SET, OID_DATA)].concat()),
            tlv(SEQUENCE, &[OID_SIGNING_TIME, &tlv(SET, &time(signing_time))].concat()),
            tlv(SEQUENCE, &[OID_MESSAGE_DIGEST, &tlv(SET, &tlv(OCTET_STRING, &digest))].concat()),
        ]
        .concat();
        // Signed as a SET, stored as [0] (RFC 5652, 5.4).
        let signature = self.bare_signature(&Sha256::digest(tlv(SET, &attributes)).into())?;
        let info =
            [&self.signer[..], &tlv(CONTEXT_0, &attributes), self.algorithm(), &tlv(OCTET_STRING, &signature)].concat();
        let signed_data = [&self.head[..], &tlv(SET, &tlv(SEQUENCE, &info))].concat();
        let content = [OID_SIGNED_DATA, &tlv(CONTEXT_0, &tlv(SEQUENCE, &signed_data))].concat();
        Ok(tlv(SEQUENCE, &content))
    }

    /// Performs the bare operation with the key (PKCS #1 v1.5, or ECDSA) on a SHA-256 digest: the least that a
    /// signature costs.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn bare_signature(&self, digest: &[u8; 32]) -> Result<Vec<u8>, ErrorStack> {
        let mut context = openssl::pkey_ctx::PkeyCtx::new(&self.key)?;
        context.sign_init()?;
        if self.key.id() == Id::RSA {
            context.set_rsa_padding(openssl::rsa::Padding::PKCS1)?;
        }
        context.set_signature_md(openssl::md::Md::sha256())?;
        let mut signature = Vec::new();
        context.sign_to_vec(digest, &mut signature)?;
        Ok(signature)
    }

    /// Whether a trial signature verifies with a certificate, that is, whether the key really belongs to it.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn signs_as(&self, certificate: &X509Ref) -> Result<bool, ErrorStack> {
        const TRIAL: &[u8] = b"a trial";
        let Ok(signature) = self.bare_signature(&Sha256::digest(TRIAL).into()) else { return Ok(false) };
        let public = certificate.public_key()?;
        let mut verifier = openssl::sign::Verifier::new(openssl::hash::MessageDigest::sha256(), &public)?;
        Ok(verifier.verify_oneshot(&signature, TRIAL).unwrap_or(false))
    }

    fn algorithm(&self) -> &'static [u8] {
        if self.key.id() == Id::RSA { RSA } else { ECDSA }
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match length {
        0..=0x7F => out.push(length as u8),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[length.leading_zeros() as usize / 8..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

fn unsigned_integer(bytes: &[u8]) -> Vec<u8> {
    match bytes.first() {
        Some(&first) if first < 0x80 => tlv(0x02, bytes),
        _ => tlv(0x02, &[&[0], bytes].concat()),
    }
}

fn time(t: Timestamp) -> Vec<u8> {
    let (year, month, day, hour, minute, second) = t.civil();
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    // RFC 5652, 11.3: UTCTime through the year 2049.
    if (1950..2050).contains(&year) {
        tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_encoded_in_the_shortest_form() {
        assert_eq!(tlv(4, &[0; 3])[..2], [4, 3]);
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(tlv(4, &[0; 70_000])[..5], [4, 0x83, 1, 0x11, 0x70]);
    }

    #[test]
    fn the_year_2050_changes_the_form_of_time() {
        let at = |text| time(Timestamp::parse_rfc3339(text).expect("valid"));
        assert_eq!(&at("2049-12-31T23:59:59Z")[2..], b"491231235959Z");
        assert_eq!(&at("2050-01-01T00:00:00Z")[2..], b"20500101000000Z");
    }
}
