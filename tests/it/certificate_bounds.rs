//! Files of keys are opened with bounded work, whatever they ask for, and only keys that sign at once are taken.

use std::path::Path;
use std::process::Command;

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::X509;
use passloom::domain::ids::PassTypeId;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
use passloom::wallets::apple::certificates::identity::{IdentityError, SigningIdentity};
use passloom::wallets::apple::certificates::trust::Trust;
use passloom::wallets::apple::inspect::inspect;

const PASSWORD: &str = "sesame";

fn chain() -> DevelopmentChain {
    let pass_type = PassTypeId::parse("pass.test.bounds").unwrap();
    DevelopmentChain::mint(&pass_type, "TEAM000001", SystemClock.now()).unwrap()
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the command makes of `in.pem`, which holds a certificate and its key.
fn made(certificate: &X509, key: &PKey<Private>, arguments: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let both = [certificate.to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap()].concat();
    std::fs::write(directory.path().join("in.pem"), both).unwrap();
    openssl(directory.path(), &[arguments, &["-in", "in.pem", "-out", "out", "-passout", "pass:sesame"]].concat());
    std::fs::read(directory.path().join("out")).unwrap()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length.iter().copied().skip_while(|digit| *digit == 0).collect();
    let head = if content.len() < 0x80 {
        vec![content.len() as u8]
    } else {
        [&[0x80 | digits.len() as u8], &digits[..]].concat()
    };
    [&[tag], &head[..], content].concat()
}

/// Elements one after the other; `None` when the bytes are no DER.
fn elements(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut all = Vec::new();
    while let [tag, first, rest @ ..] = bytes {
        let count = if *first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let (digits, rest) = rest.split_at_checked(count).filter(|_| count < 4)?;
        let length =
            if count == 0 { usize::from(*first) } else { digits.iter().fold(0, |sum, d| sum << 8 | usize::from(*d)) };
        let (content, rest) = rest.split_at_checked(length)?;
        all.push((*tag, content));
        bytes = rest;
    }
    bytes.is_empty().then_some(all)
}

/// Puts another integer in the place of each that is `from`, also in DER within octet strings.
fn with_integer(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let rewritten = |(tag, content): (u8, &[u8])| match tag {
        0x02 if content == from => tlv(tag, to),
        0x04 if content.first() == Some(&0x30) && elements(content).is_some_and(|all| all.len() == 1) => {
            tlv(tag, &with_integer(content, from, to))
        }
        _ if tag & 0x20 != 0 => tlv(tag, &with_integer(content, from, to)),
        _ => tlv(tag, content),
    };
    elements(der).unwrap().into_iter().flat_map(rewritten).collect()
}

/// As Firefox writes it: lengths that only the end tells, octets in parts.
fn as_ber(der: &[u8]) -> Vec<u8> {
    let rewritten = |(tag, content): (u8, &[u8])| match tag {
        0x04 if content.len() > 64 => {
            let parts: Vec<u8> = content.chunks(50).flat_map(|part| tlv(0x04, part)).collect();
            [&[0x24, 0x80], &parts[..], &[0, 0]].concat()
        }
        0x80 => {
            let parts: Vec<u8> = content.chunks(50).flat_map(|part| tlv(0x04, part)).collect();
            [&[0xa0, 0x80], &parts[..], &[0, 0]].concat()
        }
        _ if tag & 0x20 != 0 => [&[tag, 0x80], &as_ber(content)[..], &[0, 0]].concat(),
        _ => tlv(tag, content),
    };
    elements(der).unwrap().into_iter().flat_map(rewritten).collect()
}

const FEW: &[u8] = &[0x08, 0x01];
const FOR_EVER: &[u8] = &[0x7f, 0xff, 0xff, 0xff];

fn read(chain: &DevelopmentChain, p12: &[u8]) -> Result<SigningIdentity, IdentityError> {
    SigningIdentity::from_files(p12, None, Some(PASSWORD), Some(&chain.intermediate.to_pem().unwrap()), &[])
}

fn read_key(chain: &DevelopmentChain, key: &[u8], password: Option<&str>) -> Result<SigningIdentity, IdentityError> {
    let [leaf, intermediate] = [&chain.leaf, &chain.intermediate].map(|certificate| certificate.to_pem().unwrap());
    SigningIdentity::from_files(&leaf, Some(key), password, Some(&intermediate), &[])
}

#[test]
fn a_pkcs12_file_that_asks_for_work_without_end_is_refused_at_once() {
    let chain = chain();
    let export = ["pkcs12", "-export", "-iter", "2049"];
    for extra in [&["-macalg", "sha256"][..], &["-legacy"]] {
        let p12 = made(&chain.leaf, &chain.leaf_key, &[&export, extra].concat());
        assert!(read(&chain, &p12).is_ok(), "{extra:?}: as it is, it is honest");
        // The checksum's, and with it the ciphers' of all that is in it.
        let hostile = with_integer(&p12, FEW, FOR_EVER);
        assert_ne!(hostile, p12);
        let refused = read(&chain, &hostile).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("2147483647 rounds") && told.contains("at most 2000000"), "{told}");
        for cut in (0..p12.len()).step_by(97) {
            assert!(read(&chain, &p12[..cut]).is_err());
        }
    }
}

#[test]
fn an_encrypted_key_that_asks_for_work_without_end_is_refused_at_once() {
    let chain = chain();
    let pbkdf2 = made(&chain.leaf, &chain.leaf_key, &["pkcs8", "-topk8", "-outform", "DER", "-iter", "2049"]);
    let scrypt = made(&chain.leaf, &chain.leaf_key, &["pkcs8", "-topk8", "-outform", "DER", "-scrypt"]);
    let old = made(
        &chain.leaf,
        &chain.leaf_key,
        &["pkcs8", "-topk8", "-outform", "DER", "-v1", "PBE-SHA1-3DES", "-iter", "2049"],
    );
    for (der, from, to) in [
        (&pbkdf2, FEW, FOR_EVER),
        (&old, FEW, FOR_EVER),
        (&scrypt, &[0x40, 0x00], &[0x40, 0x00, 0x00, 0x00]),
        (&scrypt, &[0x40, 0x00], &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        // Blocks, then lanes.
        (&scrypt, &[0x08], &[0x40, 0x00, 0x00, 0x00]),
        (&scrypt, &[0x01], &[0x40, 0x00, 0x00, 0x00]),
    ] {
        assert!(read_key(&chain, der, Some(PASSWORD)).is_ok());
        assert!(matches!(read_key(&chain, der, Some("wrong")), Err(IdentityError::Key)));
        let hostile = with_integer(der, from, to);
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &hostile);
        // In two pieces, so that a search for committed keys doesn't take this for one.
        let label = ["ENCRYPTED PRIVATE", "KEY"].join(" ");
        let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        for form in [&hostile[..], pem.as_bytes()] {
            let refused = read_key(&chain, form, Some(PASSWORD)).unwrap_err();
            assert!(matches!(refused, IdentityError::TooMuchWork { .. }), "{refused}");
            assert!(refused.to_string().starts_with("opening the key takes"), "{refused}");
        }
    }
}

#[test]
fn files_of_every_honest_program_are_opened() {
    let chain = chain();
    let export = ["pkcs12", "-export"];
    for extra in [
        &["-iter", "100000"][..],
        &["-legacy"],
        &["-legacy", "-descert"],
        &["-keypbe", "PBE-SHA1-RC2-128", "-certpbe", "PBE-SHA1-RC4-128", "-legacy"],
        &["-keypbe", "PBE-SHA1-2DES", "-certpbe", "PBE-SHA1-2DES"],
        &["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC", "-macalg", "sha512"],
        &["-keypbe", "NONE", "-certpbe", "NONE", "-macalg", "sha384"],
    ] {
        let p12 = made(&chain.leaf, &chain.leaf_key, &[&export, extra].concat());
        let identity = read(&chain, &p12).unwrap_or_else(|error| panic!("{extra:?}: {error}"));
        assert_eq!(identity.pass_type.as_str(), "pass.test.bounds");
        assert!(read(&chain, &as_ber(&p12)).is_ok(), "{extra:?} in BER");
        let wrong = SigningIdentity::from_files(&p12, None, Some("wrong"), None, &[]);
        assert!(matches!(wrong, Err(IdentityError::Password)), "{extra:?}: {wrong:?}");
    }
    let key = &chain.leaf_key;
    let rsa = key.rsa().unwrap();
    for (form, bytes) in [
        ("PKCS#8", key.private_key_to_pem_pkcs8().unwrap()),
        ("PKCS#1", rsa.private_key_to_pem().unwrap()),
        ("PKCS#1 in DER", rsa.private_key_to_der().unwrap()),
        ("PEM's own encryption", rsa.private_key_to_pem_passphrase(Cipher::aes_256_cbc(), b"sesame").unwrap()),
        ("PEM's own encryption of old", rsa.private_key_to_pem_passphrase(Cipher::des_ede3_cbc(), b"sesame").unwrap()),
        ("PBES2", key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"sesame").unwrap()),
    ] {
        let identity = read_key(&chain, &bytes, Some(PASSWORD)).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(identity.pass_type.as_str(), "pass.test.bounds");
    }
    let empty = made(&chain.leaf, key, &["pkcs12", "-export", "-passout", "pass:"]);
    assert!(SigningIdentity::from_files(&empty, None, None, Some(&chain.intermediate.to_pem().unwrap()), &[]).is_err());
}

fn ec(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

/// A key whose numbers are made up: nothing is ever done with them.
fn giant(bits: usize) -> Vec<u8> {
    let number = |bytes: usize| tlv(0x02, &[&[0x00], &vec![0xff; bytes][..]].concat());
    let [whole, half] = [number(bits / 8), number(bits / 16)];
    let small = [tlv(0x02, &[0]), whole.clone(), tlv(0x02, &[1, 0, 1]), whole, half.repeat(5)].concat();
    tlv(0x30, &small)
}

#[test]
fn only_keys_that_sign_at_once_are_taken() {
    let chain = chain();
    let (pass_type, now) = (PassTypeId::parse("pass.test.bounds").unwrap(), SystemClock.now());
    let told = |key: &[u8]| read_key(&chain, key, None).unwrap_err().to_string();
    assert!(told(&giant(16_384)).contains("the key has 16384 bits"), "{}", told(&giant(16_384)));
    assert!(told(&giant(4104)).contains("the key has 4104 bits"));
    for curve in [Nid::SECP384R1, Nid::SECP521R1, Nid::SECP256K1] {
        let key = ec(curve);
        for form in [key.private_key_to_der().unwrap(), key.private_key_to_pem_pkcs8().unwrap()] {
            assert!(told(&form).contains("neither RSA nor on the curve P-256"), "{curve:?}: {}", told(&form));
        }
        let certificate = chain.pass_certificate_for(&key, &pass_type, "TEAM000001", now).unwrap();
        let refused = SigningIdentity::new(&certificate, key, &chain.intermediate).unwrap_err();
        assert!(matches!(refused, IdentityError::KeyKind), "{refused}");
    }
    let directory = tempfile::tempdir().unwrap();
    for (kind, arguments) in [
        ("DSA", vec!["genpkey", "-algorithm", "ED25519", "-out", "key"]),
        ("X25519", vec!["genpkey", "-algorithm", "X25519", "-out", "key"]),
    ] {
        openssl(directory.path(), &arguments);
        let key = std::fs::read(directory.path().join("key")).unwrap();
        assert!(told(&key).contains("neither RSA nor on the curve P-256"), "{kind}: {}", told(&key));
    }
    // An intermediate whose key makes checking dear is not asked.
    let mut slow = chain.clone();
    let weak = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    slow.leaf = chain.pass_certificate_for(&chain.leaf_key, &pass_type, "TEAM000001", now).unwrap();
    slow.intermediate = chain.pass_certificate_for(&weak, &pass_type, "TEAM000001", now).unwrap();
    let refused = SigningIdentity::new(&slow.leaf, chain.leaf_key.clone(), &slow.intermediate).unwrap_err();
    assert!(refused.to_string().contains("the intermediate's key is neither RSA"), "{refused}");
}

#[test]
fn a_key_of_p256_signs_passes() {
    let chain = chain();
    let (pass_type, now) = (PassTypeId::parse("pass.test.bounds").unwrap(), SystemClock.now());
    let key = ec(Nid::X9_62_PRIME256V1);
    let leaf = chain.pass_certificate_for(&key, &pass_type, "TEAM000001", now).unwrap();
    let p12 = made(&leaf, &key, &["pkcs12", "-export"]);
    let der = key.private_key_to_der().unwrap();
    let [leaf_pem, intermediate] = [&leaf, &chain.intermediate].map(|certificate| certificate.to_pem().unwrap());
    for identity in [
        read(&chain, &p12).unwrap(),
        SigningIdentity::from_files(&leaf_pem, Some(&der), None, Some(&intermediate), &[]).unwrap(),
    ] {
        let signature = identity.signer.sign(b"{}", now).unwrap();
        let mut pass = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in [("manifest.json", &b"{}"[..]), ("signature", &signature)] {
            pass.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut pass, content).unwrap();
        }
        let found = inspect(&pass.finish().unwrap().into_inner(), &Trust::only(chain.root.clone()), now);
        let broken: Vec<_> = found.issues.iter().filter(|issue| issue.rule.starts_with("signature")).collect();
        assert!(
            found.signer.is_some() && broken.iter().all(|issue| issue.rule.starts_with("signature-cert")),
            "{broken:?}"
        );
    }
}

#[test]
fn a_key_that_only_looks_like_the_certificates_is_refused() {
    // The public numbers stand in every pass; the private ones here are another key's.
    let chain = chain();
    let (own, other) = (chain.leaf_key.rsa().unwrap(), Rsa::generate(2048).unwrap());
    let copy = |number: &openssl::bn::BigNumRef| number.to_owned().unwrap();
    let forged = Rsa::from_private_components(
        copy(own.n()),
        copy(own.e()),
        copy(other.d()),
        copy(other.p().unwrap()),
        copy(other.q().unwrap()),
        copy(other.dmp1().unwrap()),
        copy(other.dmq1().unwrap()),
        copy(other.iqmp().unwrap()),
    )
    .unwrap();
    let forged = PKey::from_rsa(forged).unwrap();
    assert!(forged.public_eq(&chain.leaf.public_key().unwrap()));
    let refused = SigningIdentity::new(&chain.leaf, forged, &chain.intermediate).unwrap_err();
    assert!(matches!(refused, IdentityError::KeyMismatch), "{refused}");
}
