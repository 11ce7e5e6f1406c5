//! Reads private keys in the usual formats: PEM or DER, plain or encrypted, with bounded work.
//!
//! A file itself states how much work its password costs, and a hostile one says 2^31 rounds. Every layer is therefore
//! opened here, its cost charged to a [`Work`] before the work is done, and OpenSSL only gets plain keys whose kind and
//! size have been checked. Formats: RFC 5208 and 5958 (PKCS#8), RFC 8018 (PBES2), RFC 7914 (scrypt), RFC 7292
//! (PKCS#12's own encryption), RFC 1421 (PEM with its own).

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs5;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use openssl::provider::Provider;
use openssl::rsa::Rsa;
use openssl::symm::{Cipher, decrypt};
use zeroize::Zeroizing;

use crate::wallets::apple::certificates::der::{self, NotDer, Reader, tag};
use crate::wallets::apple::certificates::pkcs12;

/// The most rounds of key derivation for opening one file: about a second of one core. OpenSSL writes files with 2,048,
/// Firefox with 600,000 for each of three parts.
pub const MOST_ROUNDS: u64 = 2_000_000;
/// The most memory for scrypt, in bytes.
const SCRYPT_MEMORY: u64 = 64 << 20;
/// The longest salt, in bytes.
const LONGEST_SALT: usize = 1024;
/// The fewest bits of an RSA key; phones refuse signatures of a smaller one.
pub const LEAST_BITS: u32 = 2048;
/// The most bits of an RSA key; each doubling makes a signature eight times as expensive.
pub const MOST_BITS: u32 = 4096;
/// The most bits of a public exponent. The usual one is 65537; OpenSSL accepts 64 bits.
const EXPONENT_BITS: u32 = 64;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.2.840.113549.1.5.13
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
/// 1.2.840.113549.1.5.12
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.3.6.1.4.1.11591.4.11
const SCRYPT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b];
/// 1.2.840.113549.1.12.1, the parent of PKCS#12's own encryption schemes.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// 1.2.840.113549.2, the parent of PBKDF2's hash functions.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
/// 2.16.840.1.101.3.4.1, the parent of the AES variants.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
/// 1.2.840.113549.3.7
const TRIPLE_DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07];

/// Why a key can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyError {
    #[error("it can't be read")]
    Unreadable,
    #[error("the password is wrong")]
    Password,
    #[error("its encryption is of a kind that is not supported")]
    Unsupported,
    #[error("opening it takes {0} rounds")]
    TooMuchWork(u64),
    #[error("it is neither RSA nor on the curve P-256")]
    Kind,
    #[error("it has {0} bits")]
    Bits(u32),
}

impl From<NotDer> for KeyError {
    fn from(_: NotDer) -> Self {
        Self::Unreadable
    }
}

/// The key derivation rounds spent on opening one file.
#[derive(Debug, Default)]
pub struct Work(u64);

impl Work {
    /// Charges rounds before they are done.
    ///
    /// # Errors
    /// When it would be more than [`MOST_ROUNDS`] in all.
    pub fn charge(&mut self, rounds: u64) -> Result<usize, KeyError> {
        let all = self.0.saturating_add(rounds);
        if all > MOST_ROUNDS {
            return Err(KeyError::TooMuchWork(all));
        }
        self.0 = all;
        usize::try_from(rounds).map_err(|_| KeyError::TooMuchWork(rounds))
    }
}

/// Reads a private key in PEM or DER, plain or encrypted.
///
/// # Errors
/// What is wrong with it. No expensive work is done for a key that is refused.
pub fn read_key(bytes: &[u8], password: &str, work: &mut Work) -> Result<PKey<Private>, KeyError> {
    let der = match Pem::find(bytes) {
        Some(pem) => pem.open(password)?,
        None => Zeroizing::new(bytes.to_vec()),
    };
    match is_encrypted(&der) {
        true => parse(&open_pkcs8(&der, password, work)?),
        false => parse(&der),
    }
}

/// A private key's block in a PEM file.
struct Pem<'a> {
    /// The lines of the block, without the first and last.
    body: Vec<&'a str>,
}

impl<'a> Pem<'a> {
    fn find(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))?;
        Some(Self { body: lines.take_while(|line| !line.starts_with("-----END ")).collect() })
    }

    /// Returns the DER in the block. PEM's own encryption derives its key in one round.
    fn open(&self, password: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let header = |name: &str| self.body.iter().find_map(|line| line.strip_prefix(name));
        let text: Zeroizing<String> =
            Zeroizing::new(self.body.iter().filter(|line| !line.contains(':')).copied().collect());
        let der = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| KeyError::Unreadable)?);
        let Some(info) = header("DEK-Info:") else { return Ok(der) };
        let (name, iv) = info.trim().split_once(',').ok_or(KeyError::Unreadable)?;
        let cipher = match name {
            "AES-128-CBC" => Cipher::aes_128_cbc(),
            "AES-192-CBC" => Cipher::aes_192_cbc(),
            "AES-256-CBC" => Cipher::aes_256_cbc(),
            "DES-EDE3-CBC" => Cipher::des_ede3_cbc(),
            _ => return Err(KeyError::Unsupported),
        };
        let iv = hex::decode(iv.trim()).map_err(|_| KeyError::Unreadable)?;
        let salt = iv.get(..8).filter(|_| Some(iv.len()) == cipher.iv_len()).ok_or(KeyError::Unreadable)?;
        let made = pkcs5::bytes_to_key(cipher, MessageDigest::md5(), password.as_bytes(), Some(salt), 1);
        let key = Zeroizing::new(made.map_err(|_| KeyError::Unsupported)?.key);
        decrypt(cipher, &key, Some(&iv), &der).map(Zeroizing::new).map_err(|_| KeyError::Password)
    }
}

/// Whether the DER is an EncryptedPrivateKeyInfo: an algorithm and octets.
fn is_encrypted(der: &[u8]) -> bool {
    let inner = Reader(der).expect(tag::SEQUENCE, "").map(|outer| Reader(outer.content).peek_tag());
    inner == Ok(Some(tag::SEQUENCE))
}

/// Opens an EncryptedPrivateKeyInfo (RFC 5208, 6) and returns PKCS#8 without encryption.
///
/// # Errors
/// When the password is wrong, or it takes too much work.
pub fn open_pkcs8(der: &[u8], password: &str, work: &mut Work) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut info = Reader(Reader(der).expect(tag::SEQUENCE, "the encrypted key is no sequence")?.content);
    let algorithm = info.expect(tag::SEQUENCE, "the encrypted key names no algorithm")?.content;
    let encrypted = info.expect(tag::OCTET_STRING, "the encrypted key has no content")?.content;
    decrypted(algorithm, encrypted, password, work)
}

/// Decrypts with the algorithm that a file names (the content of its AlgorithmIdentifier).
///
/// # Errors
/// When the password is wrong, the algorithm isn't known, or it takes too much work.
pub fn decrypted(
    algorithm: &[u8],
    encrypted: &[u8],
    password: &str,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut algorithm = Reader(algorithm);
    let kind = algorithm.expect(tag::OID, "an algorithm has no name")?.content;
    let mut parameters = Reader(algorithm.expect(tag::SEQUENCE, "an algorithm has no parameters")?.content);
    let (cipher, key, iv) = match kind.strip_prefix(PKCS12_PBE) {
        Some(&[which]) => {
            let salt = salt(&mut parameters)?;
            let rounds = der::counted(parameters.expect(tag::INTEGER, "it has no rounds")?.content);
            let (cipher, key_length) = match which {
                1 => (Cipher::rc4(), 16),
                3 => (Cipher::des_ede3_cbc(), 24),
                // Two keys: the first is also the third.
                4 => (Cipher::des_ede3_cbc(), 16),
                5 => (Cipher::rc2_cbc(), 16),
                6 => (Cipher::rc2_40_cbc(), 5),
                _ => return Err(KeyError::Unsupported),
            };
            if matches!(which, 1 | 5 | 6) {
                load_legacy();
            }
            let rounds = work.charge(rounds)?;
            let password = pkcs12::bmp(password);
            let derive = |purpose, length| pkcs12::Hash::Sha1.derive(&password, salt, purpose, rounds, length);
            let mut key = derive(pkcs12::FOR_KEY, key_length);
            if which == 4 {
                let first: Zeroizing<Vec<u8>> = Zeroizing::new(key.iter().take(8).copied().collect());
                key.extend_from_slice(&first);
            }
            (cipher, key, derive(pkcs12::FOR_IV, cipher.iv_len().unwrap_or(0)).to_vec())
        }
        _ if kind == PBES2 => {
            let derivation = parameters.expect(tag::SEQUENCE, "it names no derivation")?.content;
            let mut encryption = Reader(parameters.expect(tag::SEQUENCE, "it names no cipher")?.content);
            let name = encryption.expect(tag::OID, "a cipher has no name")?.content;
            let cipher = match name.strip_prefix(AES) {
                Some(&[2]) => Cipher::aes_128_cbc(),
                Some(&[22]) => Cipher::aes_192_cbc(),
                Some(&[42]) => Cipher::aes_256_cbc(),
                _ if name == TRIPLE_DES => Cipher::des_ede3_cbc(),
                _ => return Err(KeyError::Unsupported),
            };
            let iv = encryption.expect(tag::OCTET_STRING, "a cipher has no start")?.content.to_vec();
            (cipher, derived(derivation, password, cipher.key_len(), work)?, iv)
        }
        _ => return Err(KeyError::Unsupported),
    };
    if cipher.iv_len().unwrap_or(0) != iv.len() {
        return Err(KeyError::Unreadable);
    }
    decrypt(cipher, &key, Some(&iv), encrypted).map(Zeroizing::new).map_err(|_| KeyError::Password)
}

fn salt<'a>(parameters: &mut Reader<'a>) -> Result<&'a [u8], KeyError> {
    let salt = parameters.expect(tag::OCTET_STRING, "it has no salt")?.content;
    if salt.len() <= LONGEST_SALT { Ok(salt) } else { Err(KeyError::Unreadable) }
}

/// Derives a key of that length with the function that PBES2 names.
fn derived(derivation: &[u8], password: &str, length: usize, work: &mut Work) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut derivation = Reader(derivation);
    let kind = derivation.expect(tag::OID, "a derivation has no name")?.content;
    let mut parameters = Reader(derivation.expect(tag::SEQUENCE, "a derivation has no parameters")?.content);
    let salt = salt(&mut parameters)?;
    let mut key = Zeroizing::new(vec![0; length]);
    let mut count = || Ok::<_, KeyError>(der::counted(parameters.expect(tag::INTEGER, "it has no rounds")?.content));
    if kind == SCRYPT {
        let (n, r, p) = (count()?, count()?, count()?);
        let blocks = n.saturating_mul(r);
        let rounds = blocks.saturating_mul(p);
        if blocks > SCRYPT_MEMORY / 128 {
            return Err(KeyError::TooMuchWork(rounds));
        }
        work.charge(rounds)?;
        let made = pkcs5::scrypt(password.as_bytes(), salt, n, r, p, 2 * SCRYPT_MEMORY, &mut key);
        return made.map(|()| key).map_err(|_| KeyError::Unreadable);
    }
    if kind != PBKDF2 {
        return Err(KeyError::Unsupported);
    }
    let rounds = work.charge(count()?)?;
    parameters.optional(tag::INTEGER)?;
    let hash = match parameters.optional(tag::SEQUENCE)? {
        None => MessageDigest::sha1(),
        Some(prf) => match Reader(prf.content).expect(tag::OID, "a hash has no name")?.content.strip_prefix(HMAC) {
            Some(&[7]) => MessageDigest::sha1(),
            Some(&[8]) => MessageDigest::sha224(),
            Some(&[9]) => MessageDigest::sha256(),
            Some(&[10]) => MessageDigest::sha384(),
            Some(&[11]) => MessageDigest::sha512(),
            _ => return Err(KeyError::Unsupported),
        },
    };
    let made = pkcs5::pbkdf2_hmac(password.as_bytes(), salt, rounds, hash, &mut key);
    made.map(|()| key).map_err(|_| KeyError::Unreadable)
}

/// Loads OpenSSL's provider of old ciphers, such as Keychain's RC2-40, which has been separate since OpenSSL 3.
fn load_legacy() {
    static LEGACY: OnceLock<Option<(Provider, Provider)>> = OnceLock::new();
    // Loading any provider by name disables the automatic loading of the default one.
    LEGACY.get_or_init(|| Some((Provider::load(None, "default").ok()?, Provider::load(None, "legacy").ok()?)));
}

/// Parses a plain key: PKCS#8, PKCS#1 (RSA) or SEC 1 (elliptic curves). It is checked before OpenSSL gets it.
///
/// # Errors
/// When it is of a kind or size that doesn't sign passes, or can't be read.
pub fn parse(der: &[u8]) -> Result<PKey<Private>, KeyError> {
    let mut key = Reader(Reader(der).expect(tag::SEQUENCE, "the key is no sequence")?.content);
    key.expect(tag::INTEGER, "the key has no version")?;
    let parsed = match key.peek_tag() {
        Some(tag::SEQUENCE) => {
            let mut algorithm = Reader(key.next()?.content);
            let kind = algorithm.expect(tag::OID, "the key names no algorithm")?.content;
            let inner = key.expect(tag::OCTET_STRING, "the key has no content")?.content;
            if kind == RSA {
                check_rsa(inner)?;
            } else if kind != EC || algorithm.expect(tag::OID, "the key names no curve").map(|c| c.content) != Ok(P256)
            {
                return Err(KeyError::Kind);
            }
            PKey::private_key_from_pkcs8(der)
        }
        Some(tag::INTEGER) => {
            check_rsa(der)?;
            Rsa::private_key_from_der(der).and_then(PKey::from_rsa)
        }
        Some(tag::OCTET_STRING) => {
            key.next()?;
            let curve = key.optional(tag::CONTEXT_0)?.ok_or(KeyError::Kind)?;
            if Reader(curve.content).expect(tag::OID, "the key names no curve").map(|curve| curve.content) != Ok(P256) {
                return Err(KeyError::Kind);
            }
            EcKey::private_key_from_der(der).and_then(PKey::from_ec_key)
        }
        _ => return Err(KeyError::Unreadable),
    };
    let parsed = parsed.map_err(|_| KeyError::Unreadable)?;
    check_kind(&parsed)?;
    Ok(parsed)
}

/// Checks an RSAPrivateKey (RFC 8017, A.1.2): the modulus has an accepted size, and no other number is longer.
fn check_rsa(der: &[u8]) -> Result<(), KeyError> {
    let mut numbers = Reader(Reader(der).expect(tag::SEQUENCE, "the key is no sequence")?.content);
    numbers.expect(tag::INTEGER, "the key has no version")?;
    let mut next = || Ok::<_, KeyError>(der::bits(numbers.expect(tag::INTEGER, "the key lacks a number")?.content));
    let (modulus, exponent) = (next()?, next()?);
    if !(LEAST_BITS..=MOST_BITS).contains(&modulus) {
        return Err(KeyError::Bits(modulus));
    }
    let mut longest = 0;
    for _ in 0..6 {
        longest = longest.max(next()?);
    }
    // Anything that follows would be further primes, which no usual key has.
    if exponent > EXPONENT_BITS || longest > modulus || !numbers.is_empty() {
        Err(KeyError::Unreadable)
    } else {
        Ok(())
    }
}

/// Checks that a key is of a kind and size that signs passes: RSA of 2048 to 4096 bits, or P-256.
///
/// # Errors
/// The kind or size that it has instead.
pub fn check_kind<T: HasPublic>(key: &PKeyRef<T>) -> Result<(), KeyError> {
    match curve(key) {
        Some(Nid::X9_62_PRIME256V1) => Ok(()),
        _ => check_rsa_public(key),
    }
}

/// Checks that a key may have issued certificates of passes: as [`check_kind`], or P-384 as Apple's own intermediate.
///
/// # Errors
/// The kind or size that it has instead.
pub fn check_issuer_kind<T: HasPublic>(key: &PKeyRef<T>) -> Result<(), KeyError> {
    match curve(key) {
        Some(Nid::SECP384R1) => Ok(()),
        _ => check_kind(key),
    }
}

fn curve<T: HasPublic>(key: &PKeyRef<T>) -> Option<Nid> {
    key.ec_key().ok()?.group().curve_name()
}

fn check_rsa_public<T: HasPublic>(key: &PKeyRef<T>) -> Result<(), KeyError> {
    if key.id() != Id::RSA {
        return Err(KeyError::Kind);
    }
    let rsa = key.rsa().map_err(|_| KeyError::Unreadable)?;
    let (modulus, exponent) = (rsa.n().num_bits().unsigned_abs(), rsa.e().num_bits().unsigned_abs());
    match modulus {
        LEAST_BITS..=MOST_BITS if exponent <= EXPONENT_BITS => Ok(()),
        LEAST_BITS..=MOST_BITS => Err(KeyError::Unreadable),
        _ => Err(KeyError::Bits(modulus)),
    }
}
