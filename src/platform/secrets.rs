//! Secrets at rest, and secrets that are derived instead of stored.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::ids::{AuthToken, PageToken, SerialNumber};
use crate::platform::random::{self, Random};

/// Encrypts what the database must not hold in plain text (AES-256-GCM).
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<[u8; 32]>,
    id: [u8; 4],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", hex::encode(self.id))
    }
}

/// Why a secret can't be opened or made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SecretError {
    #[error("a stored secret was encrypted under another master key")]
    OtherKey,
    #[error("a stored secret is damaged")]
    Damaged,
    #[error("OpenSSL failed: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
}

const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

impl MasterKey {
    /// Makes a key of 32 bytes.
    pub fn new(key: [u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"passloom master key id").chain_update(key).finalize();
        let mut id = [0; 4];
        id.copy_from_slice(&digest[..4]);
        Self { key: Zeroizing::new(key), id }
    }

    /// Reads a key of 64 hexadecimal digits, or the base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes =
            hex::decode(text).or_else(|_| STANDARD.decode(text)).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
        Some(Self::new(Zeroizing::new(bytes).as_slice().try_into().ok()?))
    }

    /// Returns the key's name, which is part of every sealed secret. It reveals nothing about the key.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// Returns the same name as the bytes that stand in a sealed secret, from the second byte on.
    pub fn mark(&self) -> &[u8] {
        &self.id
    }

    /// Encrypts a secret; `purpose` must be the same when it is opened.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, random: &dyn Random, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random::bytes::<NONCE>(random)?;
        let mut tag = [0; TAG];
        let sealed =
            encrypt_aead(Cipher::aes_256_gcm(), &*self.key, Some(&nonce), purpose.as_bytes(), secret, &mut tag)?;
        Ok([&[VERSION], &self.id[..], &nonce, &tag, &sealed].concat())
    }

    /// Decrypts a sealed secret.
    ///
    /// # Errors
    /// When it was sealed under another key or for another purpose, or was changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let head = 1 + self.id.len() + NONCE + TAG;
        if sealed.len() < head || sealed.first() != Some(&VERSION) {
            return Err(SecretError::Damaged);
        }
        let (id, rest) = sealed[1..].split_at(self.id.len());
        if id != self.id {
            return Err(SecretError::OtherKey);
        }
        let (nonce, rest) = rest.split_at(NONCE);
        let (tag, content) = rest.split_at(TAG);
        decrypt_aead(Cipher::aes_256_gcm(), &*self.key, Some(nonce), purpose.as_bytes(), content, tag)
            .map(Zeroizing::new)
            .map_err(|_| SecretError::Damaged)
    }
}

/// The master keys of a node: the one that encrypts, and optionally one that only decrypts, so that a key can be
/// replaced while nodes serve.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    /// Encrypts and decrypts.
    pub current: MasterKey,
    /// Decrypts only.
    pub previous: Option<MasterKey>,
}

impl MasterKeys {
    /// Encrypts under the current key; see [`MasterKey::seal`].
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, random: &dyn Random, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        self.current.seal(random, purpose, secret)
    }

    /// Decrypts with the key under which it was sealed; see [`MasterKey::open`].
    ///
    /// # Errors
    /// When it was sealed under neither key or for another purpose, or was changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        match (self.current.open(purpose, sealed), &self.previous) {
            (Err(SecretError::OtherKey), Some(previous)) => previous.open(purpose, sealed),
            (opened, _) => opened,
        }
    }
}

impl From<MasterKey> for MasterKeys {
    fn from(current: MasterKey) -> Self {
        Self { current, previous: None }
    }
}

/// A workspace's secret, from which the tokens of its cards are derived. Never rotated: copies of old passes keep
/// their tokens for ever.
#[derive(Clone)]
pub struct WorkspaceSecret(Hmac<Sha256>);

impl std::fmt::Debug for WorkspaceSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl WorkspaceSecret {
    /// Makes a secret of 32 bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Hmac::new_from_slice(&secret).unwrap_or_else(|_| unreachable!("HMAC takes any key")))
    }

    fn derive(&self, parts: &[&str]) -> String {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Returns the authentication token in every Apple pass of that serial number.
    pub fn auth_token(&self, serial: &SerialNumber) -> AuthToken {
        AuthToken::trusted(self.derive(&["apple:", serial.as_str()]))
    }

    /// Returns the name of an erased card in what remains of it: the same for the same serial number, which can't be
    /// derived from it.
    pub fn stand_in(&self, serial: &SerialNumber) -> String {
        format!("erased:{}", &self.derive(&["erased:", serial.as_str()])[..16])
    }

    /// Returns the token in a card's public address; another generation gives another address.
    pub fn page_token(&self, serial: &SerialNumber, generation: i64) -> PageToken {
        PageToken::trusted(self.derive(&["page:", serial.as_str(), ":", &generation.to_string()])[..32].to_owned())
    }
}

/// Returns the digest under which the database stores a secret that a caller will present.
pub fn fingerprint(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Returns a stable short form of a name that is itself partly secret, such as a device's: enough to distinguish
/// devices, useless for making requests in their name.
pub fn short_form(name: &str) -> String {
    hex::encode(digest(name.as_bytes())).chars().take(12).collect()
}

/// Returns the SHA-256 of content, by which equal contents share one row.
pub fn digest(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

/// Compares two texts in a time that doesn't depend on where they differ.
pub fn same(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::random::SystemRandom;

    #[test]
    fn a_sealed_secret_opens_under_its_own_key_and_purpose_only() {
        let key = MasterKey::new([7; 32]);
        let sealed = key.seal(&SystemRandom, "workspace", b"secret").expect("seals");
        assert_eq!(key.open("workspace", &sealed).expect("opens").as_slice(), b"secret");
        assert!(matches!(key.open("issuer", &sealed), Err(SecretError::Damaged)));
        assert!(matches!(MasterKey::new([8; 32]).open("workspace", &sealed), Err(SecretError::OtherKey)));
        for cut in 0..sealed.len() {
            assert!(key.open("workspace", &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn two_master_keys_open_what_either_sealed_and_seal_by_the_first() {
        let [old, new] = [MasterKey::new([7; 32]), MasterKey::new([8; 32])];
        let both = MasterKeys { current: new.clone(), previous: Some(old.clone()) };
        let sealed = both.seal(&SystemRandom, "workspace", b"secret").expect("seals");
        assert!(sealed[1..].starts_with(new.mark()) && !sealed[1..].starts_with(old.mark()));
        for sealed in [sealed, old.seal(&SystemRandom, "workspace", b"secret").expect("seals")] {
            assert_eq!(both.open("workspace", &sealed).expect("opens").as_slice(), b"secret");
            assert!(matches!(both.open("issuer", &sealed), Err(SecretError::Damaged)));
        }
        let others = MasterKey::new([9; 32]).seal(&SystemRandom, "workspace", b"secret").expect("seals");
        assert!(matches!(both.open("workspace", &others), Err(SecretError::OtherKey)));
    }

    #[test]
    fn a_master_key_is_read_from_hexadecimal_and_base64() {
        assert!(MasterKey::parse(&"ab".repeat(32)).is_some());
        assert!(MasterKey::parse(&STANDARD.encode([1; 32])).is_some());
        for bad in ["", "abc", &"ab".repeat(31), &STANDARD.encode([1; 16])] {
            assert!(MasterKey::parse(bad).is_none());
        }
    }

    #[test]
    fn tokens_differ_by_card_and_generation_and_stay_the_same() {
        let secret = WorkspaceSecret::new([3; 32]);
        let serial = |text| SerialNumber::parse(text).expect("valid");
        assert_eq!(secret.auth_token(&serial("a")).as_str().len(), 43);
        assert_ne!(secret.auth_token(&serial("a")).as_str(), secret.auth_token(&serial("b")).as_str());
        let page = |generation| secret.page_token(&serial("a"), generation).as_str().to_owned();
        assert_ne!(page(1), page(2));
        assert_eq!(page(1), page(1));
    }
}
