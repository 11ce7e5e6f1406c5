//! A certificate chain of our own, shaped like Apple's: root, intermediate, pass certificate.
//!
//! The sandbox signs with it, the simulated APNs presents a certificate of the same root, and the tests create one
//! each. No phone trusts it, and nothing here is ever used with a real issuer. Keys are stored where the caller puts
//! them.

use std::time::Duration;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time, Asn1Type};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameRef, X509Ref};

use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The validity of a pass certificate, about that of Apple's; browsers and macOS refuse TLS certificates that last
/// longer.
const LEAF_LIFE: Duration = DAY.saturating_mul(395);
const ROOT_LIFE: Duration = DAY.saturating_mul(3652);
/// How far certificates' validity begins in the past, so that two machines whose clocks differ agree that they are
/// valid.
const BACKDATED: Duration = Duration::from_secs(3600);

/// The extended key usage of Apple's pass certificates (Apple's open-source security framework, policy for pass
/// signing).
const PASS_SIGNING: &str = "1.2.840.113635.100.4.14";
/// The extension in which Apple repeats the pass type identifier.
pub(super) const PASS_TYPE_EXTENSION: &str = "1.2.840.113635.100.6.1.16";

/// A root, the intermediate that it issued, and a pass certificate from that, with their private keys.
#[derive(Clone)]
pub struct DevelopmentChain {
    /// The root that a verifier has to trust (see `Trust::only`).
    pub root: X509,
    /// The key that signs intermediates and the certificates of simulated servers.
    pub root_key: PKey<Private>,
    /// The counterpart of Apple's WWDR intermediate.
    pub intermediate: X509,
    /// The key that signs pass certificates.
    pub intermediate_key: PKey<Private>,
    /// The pass certificate: UID is the pass type, OU the team.
    pub leaf: X509,
    /// The key that signs passes, also the TLS client key towards APNs.
    pub leaf_key: PKey<Private>,
}

impl DevelopmentChain {
    /// Creates a new chain with RSA-2048 keys. The pass certificate is valid from an hour before `now` for 395 days,
    /// the root and the intermediate for ten years.
    ///
    /// # Errors
    /// OpenSSL's, when it has no randomness or a name can't be encoded.
    pub fn mint(pass_type: &PassTypeId, team: &str, now: Timestamp) -> Result<Self, ErrorStack> {
        let root_key = rsa_key()?;
        let root_name =
            name(&[(Nid::ORGANIZATIONNAME, "Passloom"), (Nid::COMMONNAME, "Passloom Development Root CA")])?;
        let mut builder = begin(&root_name, &root_name, &root_key, now, ROOT_LIFE)?;
        add_authority_extensions(&mut builder, None)?;
        builder.sign(&root_key, MessageDigest::sha256())?;
        let root = builder.build();

        let intermediate_key = rsa_key()?;
        let intermediate_name = name(&[
            (Nid::COMMONNAME, "Passloom Development WWDR"),
            (Nid::ORGANIZATIONALUNITNAME, "DEV"),
            (Nid::ORGANIZATIONNAME, "Passloom"),
        ])?;
        let mut builder = begin(&intermediate_name, root.subject_name(), &intermediate_key, now, ROOT_LIFE)?;
        add_authority_extensions(&mut builder, Some(&root))?;
        builder.sign(&root_key, MessageDigest::sha256())?;
        let intermediate = builder.build();

        let (leaf, leaf_key) = issue_leaf(&intermediate, &intermediate_key, pass_type, team, now)?;
        Ok(Self { root, root_key, intermediate, intermediate_key, leaf, leaf_key })
    }

    /// Returns another pass certificate from the same intermediate: a renewal, or one for a second pass type.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn pass_certificate(
        &self,
        pass_type: &PassTypeId,
        team: &str,
        now: Timestamp,
    ) -> Result<(X509, PKey<Private>), ErrorStack> {
        issue_leaf(&self.intermediate, &self.intermediate_key, pass_type, team, now)
    }

    /// Returns a pass certificate for a key held elsewhere, as Apple does for a certificate request.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn pass_certificate_for(
        &self,
        key: &PKeyRef<Private>,
        pass_type: &PassTypeId,
        team: &str,
        now: Timestamp,
    ) -> Result<X509, ErrorStack> {
        certify(&self.intermediate, &self.intermediate_key, key, pass_type, team, now)
    }

    /// Returns a TLS server certificate for a simulated server, signed by the root directly, with a P-256 key. Names
    /// and addresses go into the subject alternative name; without any, no client accepts it.
    ///
    /// # Errors
    /// OpenSSL's, for instance when an address isn't one.
    pub fn server_certificate(
        &self,
        dns_names: &[&str],
        ips: &[&str],
        now: Timestamp,
    ) -> Result<(X509, PKey<Private>), ErrorStack> {
        let key = p256_key()?;
        let common_name = dns_names.first().or(ips.first()).copied().unwrap_or("Passloom simulator");
        let subject = name(&[(Nid::ORGANIZATIONNAME, "Passloom"), (Nid::COMMONNAME, common_name)])?;
        let mut builder = begin(&subject, self.root.subject_name(), &key, now, LEAF_LIFE)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
        add_key_identifiers(&mut builder, Some(&self.root))?;
        if !dns_names.is_empty() || !ips.is_empty() {
            let mut alternative = SubjectAlternativeName::new();
            for dns in dns_names {
                alternative.dns(dns);
            }
            for ip in ips {
                alternative.ip(ip);
            }
            let extension = alternative.build(&builder.x509v3_context(Some(&self.root), None))?;
            builder.append_extension(extension)?;
        }
        builder.sign(&self.root_key, MessageDigest::sha256())?;
        Ok((builder.build(), key))
    }
}

fn issue_leaf(
    issuer: &X509Ref,
    issuer_key: &PKeyRef<Private>,
    pass_type: &PassTypeId,
    team: &str,
    now: Timestamp,
) -> Result<(X509, PKey<Private>), ErrorStack> {
    let key = rsa_key()?;
    let leaf = certify(issuer, issuer_key, &key, pass_type, team, now)?;
    Ok((leaf, key))
}

fn certify(
    issuer: &X509Ref,
    issuer_key: &PKeyRef<Private>,
    key: &PKeyRef<Private>,
    pass_type: &PassTypeId,
    team: &str,
    now: Timestamp,
) -> Result<X509, ErrorStack> {
    let subject = name(&[
        (Nid::USERID, pass_type.as_str()),
        (Nid::COMMONNAME, &format!("Pass Type ID: {pass_type}")),
        (Nid::ORGANIZATIONALUNITNAME, team),
        (Nid::ORGANIZATIONNAME, "Passloom Sandbox"),
        (Nid::COUNTRYNAME, "US"),
    ])?;
    let mut builder = begin(&subject, issuer.subject_name(), key, now, LEAF_LIFE)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().critical().client_auth().other(PASS_SIGNING).build()?)?;
    add_key_identifiers(&mut builder, Some(issuer))?;
    let marker = Asn1OctetString::new_from_bytes(&der_utf8_string(pass_type.as_str()))?;
    let oid = Asn1Object::from_str(PASS_TYPE_EXTENSION)?;
    builder.append_extension(X509Extension::new_from_der(&oid, false, &marker)?)?;
    builder.sign(issuer_key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn rsa_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_rsa(Rsa::generate(2048)?)
}

fn p256_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// Builds a name with explicit string types, because OpenSSL otherwise refuses a common name over 64 characters, and a
/// pass type identifier may be longer.
fn name(entries: &[(Nid, &str)]) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    for &(nid, value) in entries {
        let kind = if nid == Nid::COUNTRYNAME { Asn1Type::PRINTABLESTRING } else { Asn1Type::UTF8STRING };
        builder.append_entry_by_nid_with_type(nid, value, kind)?;
    }
    Ok(builder.build())
}

fn begin(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKeyRef<Private>,
    now: Timestamp,
    life: Duration,
) -> Result<X509Builder, ErrorStack> {
    let from = now.minus(BACKDATED);
    let asn1_time = |at: Timestamp| Asn1Time::from_unix(at.seconds());
    let mut serial = BigNum::new()?;
    // At most 20 octets and positive (RFC 5280, 4.1.2.2).
    serial.rand(159, MsbOption::ONE, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*asn1_time(from)?)?;
    builder.set_not_after(&*asn1_time(from.plus(life))?)?;
    Ok(builder)
}

fn add_authority_extensions(builder: &mut X509Builder, issuer: Option<&X509Ref>) -> Result<(), ErrorStack> {
    let mut constraints = BasicConstraints::new();
    constraints.critical().ca();
    if issuer.is_some() {
        constraints.pathlen(0);
    }
    builder.append_extension(constraints.build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    add_key_identifiers(builder, issuer)
}

fn add_key_identifiers(builder: &mut X509Builder, issuer: Option<&X509Ref>) -> Result<(), ErrorStack> {
    let subject = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(subject)?;
    if let Some(issuer) = issuer {
        let authority = AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(authority)?;
    }
    Ok(())
}

/// Returns the DER of a UTF8String of at most 255 bytes; a pass type identifier has at most 128.
fn der_utf8_string(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut der = vec![0x0c];
    if length >= 0x80 {
        der.push(0x81);
    }
    der.push(length);
    der.extend(text.bytes().take(usize::from(length)));
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::x509::X509VerifyResult;

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }

    #[test]
    fn each_certificate_of_the_chain_is_signed_by_the_one_above_and_names_it() -> Result<(), ErrorStack> {
        let pass_type = PassTypeId::trusted("pass.com.example.sandbox".into());
        let chain = DevelopmentChain::mint(&pass_type, "ABCDE12345", now())?;
        for (child, parent) in [(&chain.leaf, &chain.intermediate), (&chain.intermediate, &chain.root)] {
            assert!(child.verify(&*parent.public_key()?)?);
            assert_eq!(parent.issued(child), X509VerifyResult::OK);
            let authority = child.authority_key_id().map(|id| id.as_slice().to_vec());
            assert!(authority.is_some());
            assert_eq!(authority, parent.subject_key_id().map(|id| id.as_slice().to_vec()));
        }
        assert!(chain.leaf.public_key()?.public_eq(&chain.leaf_key));
        Ok(())
    }

    #[test]
    fn the_pass_certificate_carries_pass_type_and_team_also_when_the_name_is_long() -> Result<(), ErrorStack> {
        let text = format!("pass.{}", "x".repeat(123));
        let pass_type = PassTypeId::trusted(text.clone());
        let chain = DevelopmentChain::mint(&pass_type, "ABCDE12345", now())?;
        let entry = |nid| {
            let entry = chain.leaf.subject_name().entries_by_nid(nid).next();
            entry.map(|entry| entry.data().as_slice().to_vec())
        };
        assert_eq!(entry(Nid::USERID), Some(text.clone().into_bytes()));
        assert_eq!(entry(Nid::COMMONNAME), Some(format!("Pass Type ID: {text}").into_bytes()));
        assert_eq!(entry(Nid::ORGANIZATIONALUNITNAME), Some(b"ABCDE12345".to_vec()));
        Ok(())
    }

    #[test]
    fn a_simulated_server_gets_a_certificate_of_the_same_root() -> Result<(), ErrorStack> {
        let pass_type = PassTypeId::trusted("pass.com.example.sandbox".into());
        let chain = DevelopmentChain::mint(&pass_type, "ABCDE12345", now())?;
        let (certificate, key) = chain.server_certificate(&["localhost"], &["127.0.0.1", "::1"], now())?;
        assert!(certificate.verify(&*chain.root.public_key()?)?);
        assert!(certificate.public_key()?.public_eq(&key));
        assert_eq!(certificate.subject_alt_names().map(|names| names.len()), Some(3));
        Ok(())
    }
}
