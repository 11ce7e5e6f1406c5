//! Opens PKCS#12 files (RFC 7292) with bounded work: [`Work`] is charged for every password-based step before it is
//! done, including steps inside encrypted parts, which can't be counted from outside.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::wallets::apple::certificates::der::{self, NotDer, Reader, tag};
use crate::wallets::apple::certificates::private_key::{KeyError, Work, decrypted, open_pkcs8};

/// The purpose "encryption key" of a derived key (RFC 7292, B.3).
pub(super) const FOR_KEY: u8 = 1;
/// The purpose "initial vector of a cipher".
pub(super) const FOR_IV: u8 = 2;
const FOR_MAC: u8 = 3;
/// The deepest nesting of safes in safes.
const DEPTH: usize = 4;

/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.6
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// 1.2.840.113549.1.12.10.1, the parent of the kinds of bags.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
/// 1.2.840.113549.1.9.22.1
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 2.16.840.1.101.3.4.2, the parent of the SHA-2 functions.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// Why a file can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Pkcs12Error {
    #[error("it is no PKCS#12 file")]
    NotPkcs12,
    #[error("it has no checksum")]
    Unchecked,
    #[error("the password is wrong")]
    Password,
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<NotDer> for Pkcs12Error {
    fn from(_: NotDer) -> Self {
        Self::NotPkcs12
    }
}

/// The content of a file.
#[derive(Default)]
pub struct Contents {
    /// The first private key, as plain PKCS#8.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// The DER of each certificate.
    pub certificates: Vec<Vec<u8>>,
}

/// Opens a file with its password.
///
/// # Errors
/// When it isn't PKCS#12, has no checksum, the password is wrong, or opening it takes too much work.
pub fn open(file: &[u8], password: &str, work: &mut Work) -> Result<Contents, Pkcs12Error> {
    let file = der::from_ber(file)?;
    let mut pfx = Reader(Reader(&file).expect(tag::SEQUENCE, "it is no sequence")?.content);
    pfx.expect(tag::INTEGER, "it has no version")?;
    let mut safe = Reader(pfx.expect(tag::SEQUENCE, "it has no content")?.content);
    let kind = safe.expect(tag::OID, "its content has no kind")?.content;
    let explicit = safe.expect(tag::CONTEXT_0, "its content is empty")?.content;
    if kind != DATA {
        return Err(KeyError::Unsupported.into());
    }
    let safe = Reader(explicit).expect(tag::OCTET_STRING, "its content is not octets")?.content;
    let mac = pfx.optional(tag::SEQUENCE)?.ok_or(Pkcs12Error::Unchecked)?;
    check_mac(mac.content, safe, password, work)?;
    let safe = der::from_ber(safe)?;
    let mut infos = Reader(Reader(&safe).expect(tag::SEQUENCE, "it holds no list")?.content);
    let mut found = Contents::default();
    while !infos.is_empty() {
        let mut info = Reader(infos.expect(tag::SEQUENCE, "an entry is no sequence")?.content);
        let kind = info.expect(tag::OID, "an entry has no kind")?.content;
        let explicit = info.expect(tag::CONTEXT_0, "an entry is empty")?.content;
        if kind == DATA {
            let octets = Reader(explicit).expect(tag::OCTET_STRING, "an entry is not octets")?.content;
            bags(&der::from_ber(octets)?, password, work, &mut found, DEPTH)?;
        } else if kind == ENCRYPTED_DATA {
            let opened = encrypted_data(explicit, password, work)?;
            bags(&Zeroizing::new(der::from_ber(&opened)?), password, work, &mut found, DEPTH)?;
        } else {
            return Err(KeyError::Unsupported.into());
        }
    }
    Ok(found)
}

/// Decrypts an EncryptedData (RFC 5652, 8).
fn encrypted_data(explicit: &[u8], password: &str, work: &mut Work) -> Result<Zeroizing<Vec<u8>>, Pkcs12Error> {
    let mut data = Reader(Reader(explicit).expect(tag::SEQUENCE, "encrypted data is no sequence")?.content);
    data.expect(tag::INTEGER, "encrypted data has no version")?;
    let mut info = Reader(data.expect(tag::SEQUENCE, "encrypted data has no content")?.content);
    info.expect(tag::OID, "encrypted data has no kind")?;
    let algorithm = info.expect(tag::SEQUENCE, "encrypted data names no algorithm")?.content;
    let content = info.next()?;
    let octets = match content.tag {
        tag::CONTEXT_0_PRIMITIVE => content.content.to_vec(),
        tag::CONTEXT_0 => der::octets_in_parts(content.content)?,
        _ => return Err(Pkcs12Error::NotPkcs12),
    };
    Ok(decrypted(algorithm, &octets, password, work)?)
}

/// Reads a SafeContents (RFC 7292, 4.2), given as DER.
fn bags(
    contents: &[u8],
    password: &str,
    work: &mut Work,
    found: &mut Contents,
    depth: usize,
) -> Result<(), Pkcs12Error> {
    let deeper = depth.checked_sub(1).ok_or(Pkcs12Error::NotPkcs12)?;
    let mut all = Reader(Reader(contents).expect(tag::SEQUENCE, "a safe is no list")?.content);
    while !all.is_empty() {
        let mut bag = Reader(all.expect(tag::SEQUENCE, "a bag is no sequence")?.content);
        let kind = bag.expect(tag::OID, "a bag has no kind")?.content;
        let value = bag.expect(tag::CONTEXT_0, "a bag is empty")?.content;
        match kind.strip_prefix(BAG) {
            Some(&[1]) if found.key.is_none() => found.key = Some(Zeroizing::new(value.to_vec())),
            Some(&[2]) if found.key.is_none() => found.key = Some(open_pkcs8(value, password, work)?),
            Some(&[3]) => {
                let mut certificate =
                    Reader(Reader(value).expect(tag::SEQUENCE, "a certificate is no sequence")?.content);
                let kind = certificate.expect(tag::OID, "a certificate has no kind")?.content;
                let explicit = certificate.expect(tag::CONTEXT_0, "a certificate is empty")?.content;
                if kind == X509 {
                    let der = Reader(explicit).expect(tag::OCTET_STRING, "a certificate is not octets")?.content;
                    found.certificates.push(der.to_vec());
                }
            }
            Some(&[6]) => bags(value, password, work, found, deeper)?,
            // Revocation lists, and other kinds of secrets.
            _ => {}
        }
    }
    Ok(())
}

/// Checks the MacData (RFC 7292, 4): whether the password is the one that the file was made with.
fn check_mac(mac: &[u8], content: &[u8], password: &str, work: &mut Work) -> Result<(), Pkcs12Error> {
    let mut mac = Reader(mac);
    let mut info = Reader(mac.expect(tag::SEQUENCE, "the checksum is no sequence")?.content);
    let algorithm = info.expect(tag::SEQUENCE, "the checksum names no algorithm")?.content;
    let expected = info.expect(tag::OCTET_STRING, "the checksum is empty")?.content;
    let salt = mac.expect(tag::OCTET_STRING, "the checksum has no salt")?.content;
    let rounds = mac.optional(tag::INTEGER)?.map_or(1, |rounds| der::counted(rounds.content));
    let hash = Hash::of(Reader(algorithm).expect(tag::OID, "the checksum's hash has no name")?.content)?;
    if salt.len() > 1024 {
        return Err(Pkcs12Error::NotPkcs12);
    }
    // For an empty password, some programs use none and some an empty one.
    let forms = if password.is_empty() { vec![bmp(""), Zeroizing::default()] } else { vec![bmp(password)] };
    for form in forms {
        let rounds = work.charge(rounds)?;
        let key = hash.derive(&form, salt, FOR_MAC, rounds, hash.length());
        let key = PKey::hmac(&key).map_err(|_| Pkcs12Error::NotPkcs12)?;
        let made = Signer::new(hash.digest(), &key).and_then(|mut signer| signer.sign_oneshot_to_vec(content));
        if made.is_ok_and(|made| made.len() == expected.len() && openssl::memcmp::eq(&made, expected)) {
            return Ok(());
        }
    }
    Err(Pkcs12Error::Password)
}

/// Returns the password as this format derives keys from it: UTF-16, with a zero at its end.
pub(super) fn bmp(password: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect())
}

/// A hash function used to derive keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(oid: &[u8]) -> Result<Self, KeyError> {
        match oid.strip_prefix(SHA2) {
            Some(&[1]) => Ok(Self::Sha256),
            Some(&[2]) => Ok(Self::Sha384),
            Some(&[3]) => Ok(Self::Sha512),
            Some(&[4]) => Ok(Self::Sha224),
            _ if oid == der::oid::SHA1 => Ok(Self::Sha1),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn digest(self) -> MessageDigest {
        match self {
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha224 => MessageDigest::sha224(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    fn length(self) -> usize {
        self.digest().size()
    }

    /// Derives a key from a password (RFC 7292, B.2). The caller has already charged the rounds.
    pub(super) fn derive(
        self,
        password: &[u8],
        salt: &[u8],
        purpose: u8,
        rounds: usize,
        length: usize,
    ) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => derive::<Sha1>(64, password, salt, purpose, rounds, length),
            Self::Sha224 => derive::<Sha224>(64, password, salt, purpose, rounds, length),
            Self::Sha256 => derive::<Sha256>(64, password, salt, purpose, rounds, length),
            Self::Sha384 => derive::<Sha384>(128, password, salt, purpose, rounds, length),
            Self::Sha512 => derive::<Sha512>(128, password, salt, purpose, rounds, length),
        }
    }
}

fn derive<D: Digest>(
    block: usize,
    password: &[u8],
    salt: &[u8],
    purpose: u8,
    rounds: usize,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let filled = |text: &[u8]| -> Zeroizing<Vec<u8>> {
        let length = text.len().div_ceil(block) * block;
        Zeroizing::new(text.iter().copied().cycle().take(length).collect())
    };
    let diversifier = vec![purpose; block];
    let mut input = filled(salt);
    input.extend_from_slice(&filled(password));
    let mut out = Zeroizing::new(Vec::with_capacity(length + 64));
    while out.len() < length {
        let mut hash = D::new().chain_update(&diversifier).chain_update(&*input).finalize();
        for _ in 1..rounds {
            hash = D::digest(&hash);
        }
        out.extend_from_slice(&hash);
        // Each block of the input is increased by the hash, repeated to a block's length, plus one.
        let added: Zeroizing<Vec<u8>> = Zeroizing::new(hash.iter().copied().cycle().take(block).collect());
        for part in input.chunks_mut(block) {
            let mut carry = 1_u16;
            for (byte, more) in part.iter_mut().zip(added.iter()).rev() {
                carry += u16::from(*byte) + u16::from(*more);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallets::apple::certificates::private_key::MOST_ROUNDS;
    use openssl::symm::{Cipher, encrypt};

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        der::write(tag, &parts.concat(), &mut out);
        out
    }

    /// Returns an AlgorithmIdentifier of PKCS#12's own encryption with triple DES.
    fn algorithm(rounds: &[u8]) -> Vec<u8> {
        let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, 0x03];
        let parameters = tlv(tag::SEQUENCE, &[&tlv(tag::OCTET_STRING, &[b"saltsalt"]), &tlv(tag::INTEGER, &[rounds])]);
        tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[&oid]), &parameters])
    }

    fn sealed(content: &[u8]) -> Vec<u8> {
        let derive = |purpose, length| Hash::Sha1.derive(&bmp("sesame"), b"saltsalt", purpose, 1, length);
        encrypt(Cipher::des_ede3_cbc(), &derive(FOR_KEY, 24), Some(&derive(FOR_IV, 8)), content).expect("encrypted")
    }

    /// Returns a file whose only safe is encrypted in one round and holds these bags.
    fn file(bags: &[u8]) -> Vec<u8> {
        let octets = tlv(tag::CONTEXT_0_PRIMITIVE, &[&sealed(&tlv(tag::SEQUENCE, &[bags]))]);
        let info = tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[DATA]), &algorithm(&[1]), &octets]);
        let data = tlv(tag::SEQUENCE, &[&tlv(tag::INTEGER, &[&[0]]), &info]);
        let entry = tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[ENCRYPTED_DATA]), &tlv(tag::CONTEXT_0, &[&data])]);
        let safe = tlv(tag::SEQUENCE, &[&entry]);
        let key = Hash::Sha1.derive(&bmp("sesame"), b"saltsalt", FOR_MAC, 1, 20);
        let key = PKey::hmac(&key).expect("a key");
        let mut signer = Signer::new(MessageDigest::sha1(), &key).expect("a signer");
        let made = signer.sign_oneshot_to_vec(&safe).expect("made");
        let digest = tlv(
            tag::SEQUENCE,
            &[&tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[der::oid::SHA1])]), &tlv(tag::OCTET_STRING, &[&made])],
        );
        let mac = tlv(tag::SEQUENCE, &[&digest, &tlv(tag::OCTET_STRING, &[b"saltsalt"])]);
        let content = tlv(tag::CONTEXT_0, &[&tlv(tag::OCTET_STRING, &[&safe])]);
        let content = tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[DATA]), &content]);
        tlv(tag::SEQUENCE, &[&tlv(tag::INTEGER, &[&[3]]), &content, &mac])
    }

    fn bag(kind: u8, value: &[u8]) -> Vec<u8> {
        let oid = [BAG, &[kind]].concat();
        tlv(tag::SEQUENCE, &[&tlv(tag::OID, &[&oid]), &tlv(tag::CONTEXT_0, &[value])])
    }

    #[test]
    fn work_that_is_asked_for_inside_what_is_encrypted_is_refused_too() {
        let key = |rounds: &[u8]| {
            bag(2, &tlv(tag::SEQUENCE, &[&algorithm(rounds), &tlv(tag::OCTET_STRING, &[&sealed(b"a key")])]))
        };
        let opened = open(&file(&key(&[1])), "sesame", &mut Work::default()).expect("opened");
        assert_eq!(opened.key.as_deref().map(Vec::as_slice), Some(&b"a key"[..]));
        let result = open(&file(&key(&[0x7f, 0xff, 0xff, 0xff])), "sesame", &mut Work::default()).map(|_| ());
        assert_eq!(result, Err(KeyError::TooMuchWork(0x7fff_ffff + 2).into()), "with the two before it");
        assert_eq!(
            open(&file(&key(&[0xff])), "sesame", &mut Work::default()).map(|_| ()),
            Err(KeyError::TooMuchWork(u64::MAX).into())
        );
    }

    #[test]
    fn rounds_are_counted_over_the_whole_file() {
        let mut work = Work::default();
        assert_eq!(work.charge(MOST_ROUNDS / 2), Ok(1_000_000));
        assert_eq!(work.charge(MOST_ROUNDS / 2), Ok(1_000_000));
        assert_eq!(work.charge(1), Err(KeyError::TooMuchWork(MOST_ROUNDS + 1)));
    }

    #[test]
    fn safes_in_safes_are_followed_a_little() {
        let mut nested = bag(1, &tlv(tag::SEQUENCE, &[b""]));
        for depth in 0..8 {
            let opened = open(&file(&nested), "sesame", &mut Work::default());
            assert_eq!(opened.is_ok(), depth < DEPTH, "{depth}");
            nested = bag(6, &tlv(tag::SEQUENCE, &[&nested]));
        }
    }
}
