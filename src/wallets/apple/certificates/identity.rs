//! The signing identity: a pass type certificate with its key and the intermediate that issued it, read once and
//! checked.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Ref};
use zeroize::Zeroizing;

use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::pkcs12::{self, Pkcs12Error};
use crate::wallets::apple::certificates::private_key::{self, KeyError, LEAST_BITS, MOST_BITS, MOST_ROUNDS, Work};
use crate::wallets::apple::certificates::{der, trust};
use crate::wallets::apple::package::signature::PassSigner;

/// The subject attribute UID, which holds the pass type.
const UID: &str = "0.9.2342.19200300.100.1.1";
/// 2.5.29.37, extended key usage.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// The accepted usages: signing passes (1.2.840.113635.100.4.14), and TLS towards APNs (1.3.6.1.5.5.7.3.2).
const USAGES: [&[u8]; 2] = [
    &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x04, 0x0e],
    &[0x06, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
];
/// The size of RSA keys in the requests that Apple accepts, in bits.
pub const KEY_BITS: u32 = 2048;
/// The most bytes of a certificate. Real ones are shorter, and each is part of every pass that it signs.
const LONGEST_CERTIFICATE: usize = 16 * 1024;
/// The most certificates, beside the first, that are searched for the one that issued it.
const MOST_OTHERS: usize = 20;

/// A usable signing identity.
#[derive(Debug)]
pub struct SigningIdentity {
    /// The certificate's pass type.
    pub pass_type: PassTypeId,
    /// The certificate's team.
    pub team: String,
    /// The certificate's common name.
    pub name: String,
    /// The issuer's name.
    pub issued_by: String,
    /// Its serial number in hexadecimal digits.
    pub serial_number: String,
    /// Its SHA-256 in hexadecimal digits.
    pub fingerprint: String,
    /// The first moment at which the certificate is valid.
    pub not_before: Timestamp,
    /// The moment at which it expires.
    pub not_after: Timestamp,
    /// The signer of manifests.
    pub signer: PassSigner,
    /// The certificate and its intermediate in PEM, for the connection to APNs.
    pub chain_pem: Vec<u8>,
    /// The key as PKCS#8 in PEM, for the connection to APNs. A secret.
    pub key_pem: Secret,
}

/// Bytes that are never printed, and are cleared when dropped.
pub struct Secret(pub Zeroizing<Vec<u8>>);

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
    #[error("the PKCS#12 file can't be opened: the password is wrong or missing")]
    Password,
    #[error(
        "the PKCS#12 file can't be opened: it is damaged, or its encryption or checksum is of a kind that is not supported"
    )]
    Pkcs12,
    #[error("the certificate comes without its key")]
    KeyMissing,
    #[error("the PKCS#12 file has no checksum (MAC); export it with one")]
    Pkcs12Unchecked,
    #[error("the PKCS#12 file holds no {0}")]
    Pkcs12Lacks(&'static str),
    #[error("no intermediate certificate that issued the certificate was given; it was issued by {0}")]
    IntermediateMissing(String),
    #[error("the key doesn't belong to the certificate")]
    KeyMismatch,
    #[error("the key is neither RSA nor on the curve P-256, as those of pass type certificates are")]
    KeyKind,
    #[error("the key has {0} bits; an RSA key has {LEAST_BITS} to {MOST_BITS}, and Apple's have {KEY_BITS}")]
    KeyBits(u32),
    #[error(
        "opening {} takes {found} rounds of deriving keys from the password, and at most {MOST_ROUNDS} are made; export it \
         anew with fewer", if *.part == Part::Key { "the key" } else { "the PKCS#12 file" }
    )]
    TooMuchWork { part: Part, found: u64 },
    #[error("the key's encryption is of a kind that is not supported; export it with AES")]
    KeyCipher,
    #[error("the certificate leads neither to Apple's roots nor to one that PASSLOOM_APPLE_ROOT names")]
    Untrusted,
    #[error("the certificate has {0} bytes; at most {LONGEST_CERTIFICATE} are taken")]
    LongCertificate(usize),
    #[error(
        "the intermediate's key is neither RSA of {LEAST_BITS} to {MOST_BITS} bits nor on the curves P-256 or P-384"
    )]
    IntermediateKey,
    #[error("the certificate was issued by its own key, not by Apple")]
    SelfIssued,
    #[error("the certificate is not for signing passes: it was issued for other uses only")]
    OtherUse,
    #[error(
        "the certificate contradicts itself: its subject names the pass type {subject}, its extension {extension:?}"
    )]
    OtherPassType { subject: PassTypeId, extension: String },
    #[error("the intermediate did not issue the certificate, which was issued by {0}")]
    WrongIntermediate(String),
    #[error("the certificate is not a pass type certificate: its subject has no UID that begins with pass.")]
    NoPassType,
    #[error("the certificate's subject has no organizational unit, which holds the team")]
    NoTeam,
    #[error("OpenSSL failed: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// The part that has to be corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Certificate,
    Key,
    Password,
    Intermediate,
}

impl Part {
    /// Returns a description of what the part should be.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Certificate => "a pass type certificate that Apple issued, as PEM, DER or PKCS#12",
            Self::Key => {
                "the key with which the certificate was requested, as PEM or DER or in one PKCS#12 file with it"
            }
            Self::Password => "the password that opens the PKCS#12 file",
            Self::Intermediate => "the certificate that issued it, as PEM or DER (Apple's own are built in)",
        }
    }
}

impl IdentityError {
    /// Returns which of the parts is wrong.
    pub fn part(&self) -> Part {
        match self {
            Self::Key | Self::KeyMissing | Self::KeyMismatch | Self::KeyKind | Self::KeyBits(_) | Self::KeyCipher => {
                Part::Key
            }
            Self::TooMuchWork { part, .. } => *part,
            Self::Password => Part::Password,
            Self::Intermediate | Self::IntermediateMissing(_) | Self::IntermediateKey | Self::WrongIntermediate(_) => {
                Part::Intermediate
            }
            _ => Part::Certificate,
        }
    }
}

impl SigningIdentity {
    /// Joins the three and checks that they belong together.
    ///
    /// # Errors
    /// A sentence that names what is wrong. Dates are not checked here: an expired identity is known, not unusable.
    pub fn new(certificate: &X509, key: PKey<Private>, intermediate: &X509) -> Result<Self, IdentityError> {
        let (pass_type, team) = check_pair(certificate, &key)?;
        check_intermediate(intermediate)?;
        let issuer_matches = intermediate.issued(certificate) == openssl::x509::X509VerifyResult::OK;
        if !issuer_matches || !certificate.verify(&*intermediate.public_key()?)? {
            return Err(IdentityError::WrongIntermediate(issuer(certificate)));
        }
        let facts = CertificateFacts::of(certificate)?;
        let key_pem = Secret(Zeroizing::new(key.private_key_to_pem_pkcs8()?));
        let signer = PassSigner::new(certificate, intermediate, key)?;
        // Matching public numbers prove nothing: they are known to anybody who has seen a pass.
        if !signer.signs_as(certificate)? {
            return Err(IdentityError::KeyMismatch);
        }
        Ok(Self {
            pass_type,
            team,
            name: facts.name,
            issued_by: facts.issued_by,
            serial_number: facts.serial_number,
            fingerprint: facts.fingerprint,
            not_before: facts.not_before,
            not_after: facts.not_after,
            chain_pem: [certificate.to_pem()?, intermediate.to_pem()?].concat(),
            key_pem,
            signer,
        })
    }

    /// Returns how well the certificate proves that it may sign for its pass type.
    pub fn proof(&self, roots: &trust::Roots, now: Timestamp) -> trust::Proof {
        roots.proof(&self.chain_pem, (self.not_before, self.not_after), now)
    }

    /// Whether the certificate is valid at that moment.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Reads the files that an operator has: a certificate in PEM or DER with a separate key file, or a PKCS#12 file
    /// that holds both; the intermediate as a file of its own, in the PKCS#12 file, or among the `known` ones.
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
        let Parts { certificate: leaf, key, mut others } = read_parts(certificate, key, password)?;
        let key = key.ok_or(IdentityError::KeyMissing)?;
        check_pair(&leaf, &key)?;
        if let Some(given) = intermediate {
            let given = read_certificate(given).ok_or(IdentityError::Intermediate)?;
            return Self::new(&leaf, key, &given);
        }
        others.truncate(MOST_OTHERS);
        others.retain(|other| check_intermediate(other).is_ok());
        others.extend_from_slice(known);
        let chosen = trust::issuer_among(&leaf, &others);
        let chosen = chosen.ok_or_else(|| IdentityError::IntermediateMissing(issuer(&leaf)))?;
        Self::new(&leaf, key, chosen)
    }
}

/// The content of an operator's files.
pub struct Parts {
    /// The certificate; the first one, when a file holds several.
    pub certificate: X509,
    /// The key, when there is one.
    pub key: Option<PKey<Private>>,
    /// The other certificates in the files.
    pub others: Vec<X509>,
}

/// Reads a certificate in PEM or DER with a separate key file, or a PKCS#12 file that holds both. The work is bounded,
/// whatever the files say.
///
/// # Errors
/// The part that can't be read.
pub fn read_parts(certificate: &[u8], key: Option<&[u8]>, password: Option<&str>) -> Result<Parts, IdentityError> {
    let (password, mut work) = (password.unwrap_or_default(), Work::default());
    if key.is_none() && read_certificate(certificate).is_none() {
        return open_pkcs12(certificate, password, &mut work);
    }
    let of_key = |error| match error {
        KeyError::Kind => IdentityError::KeyKind,
        KeyError::Bits(bits) => IdentityError::KeyBits(bits),
        KeyError::Unsupported => IdentityError::KeyCipher,
        KeyError::TooMuchWork(found) => IdentityError::TooMuchWork { part: Part::Key, found },
        KeyError::Unreadable | KeyError::Password => IdentityError::Key,
    };
    Ok(Parts {
        others: X509::stack_from_pem(certificate).map(|all| all.into_iter().skip(1).collect()).unwrap_or_default(),
        certificate: read_certificate(certificate).ok_or(IdentityError::Certificate)?,
        key: key.map(|key| private_key::read_key(key, password, &mut work).map_err(of_key)).transpose()?,
    })
}

/// The facts stated in a certificate.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct CertificateFacts {
    pub name: String,
    pub issued_by: String,
    /// The serial number in hexadecimal digits.
    pub serial_number: String,
    /// The SHA-256 in hexadecimal digits.
    pub fingerprint: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads the facts from a certificate.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        Ok(Self {
            name: entry(certificate, Nid::COMMONNAME).unwrap_or_default(),
            issued_by: issuer(certificate),
            serial_number: certificate.serial_number().to_bn()?.to_hex_str()?.to_string(),
            fingerprint: hex::encode(certificate.digest(MessageDigest::sha256())?),
            not_before: timestamp(certificate.not_before())?,
            not_after: timestamp(certificate.not_after())?,
        })
    }
}

/// Reads a certificate in PEM or DER.
pub fn read_certificate(bytes: &[u8]) -> Option<X509> {
    X509::from_pem(bytes).or_else(|_| X509::from_der(bytes)).ok()
}

/// Checks a certificate and its key before the issuer is searched for, and returns the pass type and team.
fn check_pair(certificate: &X509Ref, key: &PKey<Private>) -> Result<(PassTypeId, String), IdentityError> {
    let named = pass_type_and_team(certificate)?;
    // A key of a kind that can't even be read can't sign passes.
    let public = certificate.public_key().map_err(|_| IdentityError::KeyKind)?;
    let length = certificate.to_der()?.len();
    if length > LONGEST_CERTIFICATE {
        return Err(IdentityError::LongCertificate(length));
    }
    for checked in [private_key::check_kind(key), private_key::check_kind(&public)] {
        checked.map_err(|error| match error {
            KeyError::Bits(bits) => IdentityError::KeyBits(bits),
            _ => IdentityError::KeyKind,
        })?;
    }
    if !public.public_eq(key) {
        return Err(IdentityError::KeyMismatch);
    }
    Ok(named)
}

/// Checks that an intermediate's key is of a kind and size whose signatures OpenSSL verifies quickly.
fn check_intermediate(intermediate: &X509Ref) -> Result<(), IdentityError> {
    let fits = intermediate.public_key().is_ok_and(|key| private_key::check_issuer_kind(&key).is_ok());
    let length = intermediate.to_der()?.len();
    if !fits {
        return Err(IdentityError::IntermediateKey);
    }
    if length > LONGEST_CERTIFICATE { Err(IdentityError::LongCertificate(length)) } else { Ok(()) }
}

/// Returns the pass type and team in a certificate that may sign passes.
///
/// # Errors
/// What the certificate lacks for that.
pub fn pass_type_and_team(certificate: &X509Ref) -> Result<(PassTypeId, String), IdentityError> {
    let pass_type =
        subject(certificate, UID).and_then(|uid| PassTypeId::parse(&uid).ok()).ok_or(IdentityError::NoPassType)?;
    let team = entry(certificate, Nid::ORGANIZATIONALUNITNAME).filter(|team| !team.trim().is_empty());
    let team = team.ok_or(IdentityError::NoTeam)?;
    let der = certificate.to_der()?;
    // Apple never issues self-signed certificates.
    if certificate.issued(certificate) == openssl::x509::X509VerifyResult::OK {
        return Err(IdentityError::SelfIssued);
    }
    if let Some(extension) = der::certificate_extension(&der, der::oid::APPLE_PASS_TYPE) {
        let named = der::text_of(extension).unwrap_or_default();
        if named != pass_type.as_str() {
            let extension = named.chars().take(128).collect();
            return Err(IdentityError::OtherPassType { subject: pass_type, extension });
        }
    } else if let Some(usages) = der::certificate_extension(&der, EXTENDED_KEY_USAGE) {
        // Apple's own have the extension above; one without any restriction comes from a test, and phones decide
        // whether to accept it.
        let fits = USAGES.iter().any(|usage| usages.windows(usage.len()).any(|found| found == *usage));
        if !fits {
            return Err(IdentityError::OtherUse);
        }
    }
    Ok((pass_type, team))
}

/// Opens a PKCS#12 file, including Keychain's.
fn open_pkcs12(bytes: &[u8], password: &str, work: &mut Work) -> Result<Parts, IdentityError> {
    let contents = pkcs12::open(bytes, password, work).map_err(|error| match error {
        Pkcs12Error::NotPkcs12 => IdentityError::Certificate,
        Pkcs12Error::Unchecked => IdentityError::Pkcs12Unchecked,
        Pkcs12Error::Password => IdentityError::Password,
        Pkcs12Error::Key(KeyError::TooMuchWork(found)) => IdentityError::TooMuchWork { part: Part::Certificate, found },
        // The password isn't at fault, since the file's checksum matched.
        Pkcs12Error::Key(_) => IdentityError::Pkcs12,
    })?;
    let key = contents.key.ok_or(IdentityError::Pkcs12Lacks("private key"))?;
    let key = private_key::parse(&key).map_err(|error| match error {
        KeyError::Kind => IdentityError::KeyKind,
        KeyError::Bits(bits) => IdentityError::KeyBits(bits),
        _ => IdentityError::Pkcs12,
    })?;
    let mut others: Vec<X509> =
        contents.certificates.iter().take(MOST_OTHERS).filter_map(|der| X509::from_der(der).ok()).collect();
    let own = others.iter().position(|one| one.public_key().is_ok_and(|public| public.public_eq(&key)));
    let lacks = if others.is_empty() { "certificate" } else { "certificate of its key" };
    let own = own.ok_or(IdentityError::Pkcs12Lacks(lacks))?;
    Ok(Parts { certificate: others.swap_remove(own), key: Some(key), others })
}

fn entry(certificate: &X509Ref, kind: Nid) -> Option<String> {
    certificate.subject_name().entries_by_nid(kind).next()?.data().to_string().ok()
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
