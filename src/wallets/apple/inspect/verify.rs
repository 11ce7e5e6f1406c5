//! Checks what a phone checks before it trusts a pass: the manifest over the files, the signature over the manifest,
//! and the certificate that signed.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::x509::{X509, X509NameRef, X509Ref};
use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::der::{self, SignerName, oid};
use crate::wallets::apple::certificates::trust::{Trust, issued};
use crate::wallets::apple::rules::report::{Report, quoted};
use crate::wallets::apple::rules::{Files, json};

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "signature";
/// The most bytes of a signature. One with its two certificates has about four kilobytes; thousands of certificates
/// would only cost time.
const LARGEST_SIGNATURE: usize = 256 * 1024;

/// The signer of a pass, as the certificate describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SignerInfo {
    /// The certificate's common name.
    pub name: String,
    /// The holder (O).
    pub organization: Option<String>,
    /// The pass type identifier (UID).
    pub pass_type_identifier: Option<String>,
    /// The team (OU).
    pub team_identifier: Option<String>,
    /// The issuer's common name, with its generation (OU) if it has one.
    pub issuer: String,
    /// The first moment at which the certificate is valid.
    pub not_before: Timestamp,
    /// The last moment at which the certificate is valid.
    pub not_after: Timestamp,
    /// The time of signing, as the signature states it.
    pub signed_at: Option<Timestamp>,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

/// Checks the manifest rules (`manifest-…`).
pub fn check_manifest(files: &Files, report: &mut Report) {
    let Some(content) = files.get(MANIFEST) else {
        report.error("manifest-missing", MANIFEST, "manifest.json is absent; it lists the SHA-1 of every file");
        return;
    };
    let parsed = match json::parse(content) {
        Ok(parsed) => parsed,
        Err(error) => {
            report.error("manifest-json", MANIFEST, format!("is not strict JSON: {error}"));
            return;
        }
    };
    for pointer in parsed.duplicates {
        report.error("manifest-json", MANIFEST, format!("lists {} twice", quoted(&pointer)));
    }
    let Value::Object(entries) = parsed.value else {
        report.error("manifest-json", MANIFEST, "is not an object of file names and digests");
        return;
    };
    for (path, digest) in &entries {
        if path == MANIFEST || path == SIGNATURE {
            report.error("manifest-lists-itself", path, "manifest.json and signature are never listed in the manifest");
            continue;
        }
        let Some(digest) = digest.as_str() else {
            report.error("manifest-json", path, "has something other than a text as digest");
            continue;
        };
        if digest.len() != 40 || !digest.bytes().all(|c| c.is_ascii_hexdigit()) {
            let detail = format!("has the digest {}; expected 40 hexadecimal digits of SHA-1", quoted(digest));
            report.error("manifest-hash-format", path, detail);
            continue;
        }
        if digest.bytes().any(|c| c.is_ascii_uppercase()) {
            report.warning("manifest-hash-case", path, "has its digest in upper case; write lower case");
        }
        match files.get(path) {
            None => report.error("manifest-file-absent", path, "is listed in the manifest and not packaged"),
            Some(content) => {
                let found = hex::encode(Sha1::digest(content));
                if !found.eq_ignore_ascii_case(digest) {
                    let detail = format!("has the SHA-1 {found}, and the manifest says {digest}");
                    report.error("manifest-hash-mismatch", path, detail);
                }
            }
        }
    }
    for path in files.keys() {
        if path != MANIFEST && path != SIGNATURE && !entries.contains_key(path) {
            report.error("manifest-file-unlisted", path, "is packaged and not listed in the manifest");
        }
    }
}

/// Checks the signature rules (`signature-…`). Without a pass, those that compare the certificate with it are left out.
pub fn check_signature(
    files: &Files,
    pass: Option<&Value>,
    trust: &Trust,
    now: Timestamp,
    report: &mut Report,
) -> Option<SignerInfo> {
    let Some(signature) = files.get(SIGNATURE) else {
        report.error("signature-missing", SIGNATURE, "the pass is not signed; Wallet refuses it");
        return None;
    };
    if signature.len() > LARGEST_SIGNATURE {
        let detail = format!("has {} bytes; at most {LARGEST_SIGNATURE} are read", signature.len());
        report.error("signature-format", SIGNATURE, detail);
        return None;
    }
    let signed = match der::signed_data(signature) {
        Ok(signed) => signed,
        Err(fault) => {
            report.error("signature-format", SIGNATURE, format!("is not a DER CMS SignedData: {fault}"));
            return None;
        }
    };
    if signed.attached {
        report.error(
            "signature-attached",
            SIGNATURE,
            "carries content; it must be detached, over manifest.json beside it",
        );
    }
    if signed.signers.len() != 1 {
        let detail = format!("has {} signers; expected exactly one", signed.signers.len());
        report.error("signature-signer-count", SIGNATURE, detail);
    }
    if let Some(manifest) = files.get(MANIFEST)
        && !signed.signers.is_empty()
        && let Err(reason) = verify(signature, manifest)
    {
        let detail =
            format!("does not fit manifest.json: {reason}; sign the exact bytes of the manifest that is packaged");
        report.error("signature-verify", SIGNATURE, detail);
    }
    let signer = signed.signers.first()?;
    if signer.digest == oid::SHA1 || signer.digest == oid::MD5 {
        report.warning("signature-digest-weak", SIGNATURE, "uses SHA-1 or MD5 over the manifest; use SHA-256");
    }
    if signer.signing_time.is_none() {
        report.error(
            "signature-signing-time",
            SIGNATURE,
            "the signed attributes lack signingTime, which Wallet requires",
        );
    }
    if let Some(at) = signer.signing_time.filter(|&at| at > now) {
        let detail =
            format!("says it was made at {}, which is still to come; check the clock", at.to_rfc3339_seconds());
        report.warning("signature-signing-time-future", SIGNATURE, detail);
    }
    let shown: Vec<X509> = signed.certificates.iter().filter_map(|der| X509::from_der(der).ok()).collect();
    let Some(leaf) = shown.iter().find(|certificate| is_named(certificate, &signer.name)) else {
        report.error("signature-verify", SIGNATURE, "does not include the certificate of its signer");
        return None;
    };
    let Some(info) = describe(leaf, signer.signing_time) else {
        report.error("signature-verify", SIGNATURE, "the certificate of its signer has a validity that can't be read");
        return None;
    };
    check_time(&info, now, report);
    check_chain(leaf, &shown, &info, trust, now, report);
    check_key(leaf, report);
    if let Some(pass) = pass {
        check_subject(leaf, &info, pass, report);
    }
    Some(info)
}

fn verify(signature: &[u8], manifest: &[u8]) -> Result<(), String> {
    // The certificate is checked separately, since OpenSSL expects an e-mail certificate here.
    let flags = CMSOptions::NO_SIGNER_CERT_VERIFY | CMSOptions::BINARY;
    let mut cms = CmsContentInfo::from_der(signature).map_err(|error| reason(&error))?;
    cms.verify(None, None, Some(manifest), None, flags).map_err(|error| reason(&error))
}

/// Returns only the last cause, without addresses of OpenSSL's source.
fn reason(error: &openssl::error::ErrorStack) -> String {
    let causes: Vec<&str> = error.errors().iter().filter_map(openssl::error::Error::reason).collect();
    if causes.is_empty() { "OpenSSL refuses it".to_owned() } else { causes.join(", ") }
}

fn is_named(certificate: &X509Ref, name: &SignerName<'_>) -> bool {
    match name {
        SignerName::IssuerAndSerial { issuer, serial } => {
            certificate.issuer_name().to_der().is_ok_and(|found| found == *issuer)
                && certificate.serial_number().to_bn().is_ok_and(|found| found.to_vec() == *serial)
        }
        SignerName::KeyIdentifier(id) => certificate.subject_key_id().is_some_and(|found| found.as_slice() == *id),
    }
}

fn describe(certificate: &X509Ref, signed_at: Option<Timestamp>) -> Option<SignerInfo> {
    let subject = certificate.subject_name();
    let issuer = certificate.issuer_name();
    let generation = entry(issuer, Nid::ORGANIZATIONALUNITNAME).map(|unit| format!(" ({unit})"));
    Some(SignerInfo {
        name: entry(subject, Nid::COMMONNAME).unwrap_or_default(),
        organization: entry(subject, Nid::ORGANIZATIONNAME),
        pass_type_identifier: entry(subject, Nid::USERID),
        team_identifier: entry(subject, Nid::ORGANIZATIONALUNITNAME),
        issuer: entry(issuer, Nid::COMMONNAME).unwrap_or_default() + &generation.unwrap_or_default(),
        not_before: timestamp(certificate.not_before())?,
        not_after: timestamp(certificate.not_after())?,
        signed_at,
        fingerprint: hex::encode(certificate.digest(MessageDigest::sha256()).ok()?),
    })
}

/// Returns the first entry of a kind, as text.
fn entry(name: &X509NameRef, kind: Nid) -> Option<String> {
    name.entries_by_nid(kind).next()?.data().to_string().ok()
}

fn timestamp(time: &Asn1TimeRef) -> Option<Timestamp> {
    let passed = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(Timestamp::from_seconds(i64::from(passed.days) * 86_400 + i64::from(passed.secs)))
}

fn check_time(info: &SignerInfo, now: Timestamp, report: &mut Report) {
    if let Some(at) = info.signed_at
        && !(info.not_before..=info.not_after).contains(&at)
    {
        let detail = format!(
            "was made at {}, and the certificate is valid from {} to {}",
            at.to_rfc3339_seconds(),
            info.not_before.to_rfc3339_seconds(),
            info.not_after.to_rfc3339_seconds()
        );
        report.error("signature-signing-time-range", SIGNATURE, detail);
    }
    if now > info.not_after {
        let detail = format!(
            "the pass certificate expired at {}; installed passes stay, new ones are refused",
            info.not_after.to_rfc3339_seconds()
        );
        report.warning("signature-cert-expired", SIGNATURE, detail);
    }
}

fn check_chain(leaf: &X509Ref, shown: &[X509], info: &SignerInfo, trust: &Trust, now: Timestamp, report: &mut Report) {
    if !trust.root_issued(leaf) && !shown.iter().any(|other| issued(other, leaf)) {
        let others: Vec<String> = shown
            .iter()
            .filter_map(|other| describe(other, None))
            .filter(|other| other.fingerprint != info.fingerprint)
            .map(|other| other.name)
            .collect();
        let included =
            if others.is_empty() { "nothing else is".to_owned() } else { format!("{} is", others.join(", ")) };
        let detail = format!("the certificate was issued by {}, which is not included; {included}", info.issuer);
        report.error("signature-intermediate-missing", SIGNATURE, detail);
    }
    // A wrong signing time has a rule of its own, so the chain is checked at the nearest moment of the certificate's
    // validity.
    let at = info.signed_at.unwrap_or(now).clamp(info.not_before, info.not_after.max(info.not_before));
    match trust.verify(leaf, shown, at) {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => {
            let detail = format!("the pass certificate does not chain to {}: {}", trust.name(), reason.error_string());
            report.error("signature-chain", SIGNATURE, detail);
        }
        Err(error) => {
            report.error("signature-chain", SIGNATURE, format!("the chain can't be checked: {}", reason(&error)));
        }
    }
}

fn check_key(leaf: &X509Ref, report: &mut Report) {
    if let Ok(key) = leaf.public_key()
        && key.id() == Id::RSA
        && key.bits() < 2048
    {
        let detail = format!("the pass certificate has an RSA key of {} bits; use 2048", key.bits());
        report.warning("signature-key-weak", SIGNATURE, detail);
    }
}

fn check_subject(leaf: &X509Ref, info: &SignerInfo, pass: &Value, report: &mut Report) {
    let of_pass = |key: &str| pass.get(key).and_then(Value::as_str).unwrap_or_default();
    let (pass_type, team) = (of_pass("passTypeIdentifier"), of_pass("teamIdentifier"));
    let absent = "no such entry".to_owned();
    if info.pass_type_identifier.as_deref() != Some(pass_type) {
        let found = info.pass_type_identifier.as_deref().map_or(absent.clone(), quoted);
        let detail = format!("the certificate's UID is {found}, and passTypeIdentifier is {}", quoted(pass_type));
        report.error("signature-cert-uid", "/passTypeIdentifier", detail);
    }
    if info.team_identifier.as_deref() != Some(team) {
        let found = info.team_identifier.as_deref().map_or(absent, quoted);
        let detail = format!("the certificate's OU is {found}, and teamIdentifier is {}", quoted(team));
        report.error("signature-cert-ou", "/teamIdentifier", detail);
    }
    let common_name =
        ["Pass Type ID: ", "Pass Type ID with NFC: "].iter().find_map(|prefix| info.name.strip_prefix(prefix));
    if let Some(named) = common_name.filter(|named| *named != pass_type) {
        let detail = format!("the certificate's name is for {}, not for {}", quoted(named), quoted(pass_type));
        report.warning("signature-cert-cn", "/passTypeIdentifier", detail);
    }
    let Ok(der) = leaf.to_der() else { return };
    match der::certificate_extension(&der, oid::APPLE_PASS_TYPE).map(der::text_of) {
        Some(Some(named)) if named == pass_type => {}
        Some(named) => {
            let named = quoted(named.unwrap_or("something that is no text"));
            let detail =
                format!("the certificate's pass type extension says {named}, and the pass {}", quoted(pass_type));
            report.error("signature-cert-extension", "/passTypeIdentifier", detail);
        }
        None => {
            let detail =
                "the certificate lacks Apple's pass type extension (1.2.840.113635.100.6.1.16), which phones look at";
            report.warning("signature-cert-extension", SIGNATURE, detail);
        }
    }
    let for_nfc =
        der::certificate_extension(&der, oid::APPLE_NFC).is_some() || info.name.starts_with("Pass Type ID with NFC");
    if pass.get("nfc").is_some_and(Value::is_object) && !for_nfc {
        report.warning(
            "signature-nfc-cert",
            "/nfc",
            "the certificate is not one for NFC; Apple grants those on request",
        );
    }
}
