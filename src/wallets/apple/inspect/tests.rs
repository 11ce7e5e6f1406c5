use crate::platform::clock::{Clock, SystemClock};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::sync::LazyLock;
use std::time::Duration;

use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::X509;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::domain::ids::PassTypeId;
use crate::wallets::apple::certificates::development_chain::DevelopmentChain;

const PASS_TYPE: &str = "pass.com.example.loyalty";
const TEAM: &str = "ABCDE12345";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The chain is created for the real current time, because OpenSSL puts the real time into a signature.
static CHAIN: LazyLock<(DevelopmentChain, Timestamp)> = LazyLock::new(|| {
    let now = SystemClock.now();
    let pass_type = PassTypeId::parse(PASS_TYPE).expect("valid");
    (DevelopmentChain::mint(&pass_type, TEAM, now).expect("minted"), now)
});

fn soon() -> Timestamp {
    CHAIN.1.plus(Duration::from_secs(600))
}

fn pass() -> Value {
    json!({
        "formatVersion": 1, "passTypeIdentifier": PASS_TYPE, "teamIdentifier": TEAM,
        "serialNumber": "0192f0c1-2233-7000-8000-000000000001", "organizationName": "Bakery", "description": "Points card",
        "storeCard": {"headerFields": [{"key": "points", "label": "Points", "value": 120}]}
    })
}

fn png(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbaImage::new(side, side).write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}

fn files(pass: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([("pass.json".to_owned(), pass.to_string().into_bytes())]);
    for (name, side) in [("icon.png", 38), ("icon@2x.png", 76), ("icon@3x.png", 114)] {
        files.insert(name.to_owned(), png(side));
    }
    files
}

fn add_manifest(files: &mut BTreeMap<String, Vec<u8>>) {
    let digests: serde_json::Map<String, Value> =
        files.iter().map(|(path, content)| (path.clone(), hex::encode(Sha1::digest(content)).into())).collect();
    files.insert("manifest.json".to_owned(), Value::Object(digests).to_string().into_bytes());
}

fn sign(files: &mut BTreeMap<String, Vec<u8>>, leaf: &X509, key: &PKey<Private>, others: &[&X509], flags: CMSOptions) {
    let mut between = Stack::new().expect("stack");
    for other in others {
        between.push((*other).clone()).expect("pushed");
    }
    let manifest = files.get("manifest.json").expect("made before");
    let flags = flags | CMSOptions::BINARY | CMSOptions::NOSMIMECAP;
    let signature =
        CmsContentInfo::sign(Some(leaf), Some(key), Some(&between), Some(manifest), flags).expect("signed").to_der();
    files.insert("signature".to_owned(), signature.expect("encoded"));
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        writer.start_file(path.as_str(), SimpleFileOptions::default()).expect("entry");
        writer.write_all(content).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

fn signed(pass: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(pass);
    add_manifest(&mut files);
    let chain = &CHAIN.0;
    sign(&mut files, &chain.leaf, &chain.leaf_key, &[&chain.intermediate], CMSOptions::DETACHED);
    files
}

fn look(files: &BTreeMap<String, Vec<u8>>) -> Inspection {
    inspect(&pack(files), &Trust::only(CHAIN.0.root.clone()), soon())
}

fn rules_of(inspection: &Inspection) -> Vec<&'static str> {
    inspection.issues.iter().map(|issue| issue.rule).collect()
}

#[test]
fn a_sound_pass_breaks_no_rule_and_says_who_signed() {
    let inspection = look(&signed(&pass()));
    assert_eq!(inspection.issues, []);
    assert!(inspection.valid);
    let signer = inspection.signer.expect("a signer");
    assert_eq!(signer.name, format!("Pass Type ID: {PASS_TYPE}"));
    assert_eq!(signer.pass_type_identifier.as_deref(), Some(PASS_TYPE));
    assert_eq!(signer.issuer, "Passloom Development WWDR (DEV)");
    assert_eq!(signer.not_after.seconds(), CHAIN.1.minus(DAY / 24).plus(395 * DAY).seconds());
    assert_eq!(inspection.pass, Some(pass()));
    assert!(inspection.files.contains_key("signature"));
}

#[test]
fn a_pass_of_another_root_is_valid_but_for_the_chain() {
    let inspection = inspect(&pack(&signed(&pass())), &Trust::apple(), soon());
    assert_eq!(rules_of(&inspection), ["signature-chain"]);
    assert!(!inspection.valid);
}

#[test]
fn a_changed_file_breaks_the_manifest_and_a_changed_manifest_breaks_the_signature() {
    let mut changed = signed(&pass());
    changed.insert("icon.png".into(), png(29));
    changed.insert("icon@2x.png".into(), png(58));
    changed.insert("icon@3x.png".into(), png(87));
    assert_eq!(rules_of(&look(&changed)), ["manifest-hash-mismatch"; 3]);
    add_manifest_again(&mut changed);
    assert_eq!(rules_of(&look(&changed)), ["signature-verify"]);
}

fn add_manifest_again(files: &mut BTreeMap<String, Vec<u8>>) {
    let signature = files.remove("signature").expect("signed");
    files.remove("manifest.json");
    add_manifest(files);
    files.insert("signature".into(), signature);
}

#[test]
fn a_missing_intermediate_is_told_from_a_wrong_one() {
    let chain = &CHAIN.0;
    let mut alone = files(&pass());
    add_manifest(&mut alone);
    sign(&mut alone, &chain.leaf, &chain.leaf_key, &[], CMSOptions::DETACHED);
    assert_eq!(rules_of(&look(&alone)), ["signature-intermediate-missing", "signature-chain"]);
    let pass_type = PassTypeId::parse(PASS_TYPE).expect("valid");
    let other = DevelopmentChain::mint(&pass_type, TEAM, CHAIN.1).expect("minted");
    let mut wrong = files(&pass());
    add_manifest(&mut wrong);
    sign(&mut wrong, &chain.leaf, &chain.leaf_key, &[&other.intermediate], CMSOptions::DETACHED);
    let inspection = look(&wrong);
    assert_eq!(rules_of(&inspection), ["signature-intermediate-missing", "signature-chain"]);
    assert!(inspection.issues.iter().any(|issue| issue.detail.contains("Passloom Development WWDR is")));
}

#[test]
fn a_certificate_for_another_pass_or_team_is_found() {
    let mut other = pass();
    other["passTypeIdentifier"] = "pass.com.example.other".into();
    other["teamIdentifier"] = "ZZZZZ99999".into();
    let found = rules_of(&look(&signed(&other)));
    assert_eq!(found, ["signature-cert-uid", "signature-cert-ou", "signature-cert-extension", "signature-cert-cn"]);
}

#[test]
fn a_signature_made_after_the_certificate_ended_is_refused() {
    let pass_type = PassTypeId::parse(PASS_TYPE).expect("valid");
    let (leaf, key) = CHAIN.0.pass_certificate(&pass_type, TEAM, CHAIN.1.minus(500 * DAY)).expect("issued");
    let mut late = files(&pass());
    add_manifest(&mut late);
    sign(&mut late, &leaf, &key, &[&CHAIN.0.intermediate], CMSOptions::DETACHED);
    let found = rules_of(&look(&late));
    assert!(found.contains(&"signature-signing-time-range") && found.contains(&"signature-cert-expired"), "{found:?}");
    assert!(!found.contains(&"signature-verify"), "{found:?}");
}

#[test]
fn a_signature_from_the_future_an_attached_one_and_one_without_a_time_are_found() {
    let early = inspect(&pack(&signed(&pass())), &Trust::only(CHAIN.0.root.clone()), CHAIN.1.minus(DAY));
    assert_eq!(rules_of(&early), ["signature-signing-time-future"]);
    let chain = &CHAIN.0;
    let mut attached = files(&pass());
    add_manifest(&mut attached);
    sign(&mut attached, &chain.leaf, &chain.leaf_key, &[&chain.intermediate], CMSOptions::empty());
    assert_eq!(rules_of(&look(&attached)), ["signature-attached"]);
    let mut timeless = files(&pass());
    add_manifest(&mut timeless);
    let flags = CMSOptions::DETACHED | CMSOptions::NOATTR;
    sign(&mut timeless, &chain.leaf, &chain.leaf_key, &[&chain.intermediate], flags);
    assert_eq!(rules_of(&look(&timeless)), ["signature-signing-time"]);
}

#[test]
fn what_is_missing_or_unlisted_is_named() {
    let mut files = signed(&pass());
    files.remove("icon@3x.png");
    files.insert("notes.txt".into(), b"x".to_vec());
    let found = rules_of(&look(&files));
    assert_eq!(found, ["manifest-file-absent", "manifest-file-unlisted", "file-unknown", "image-icon-3x-missing"]);
    let mut bare = files.clone();
    for name in ["manifest.json", "signature", "pass.json"] {
        bare.remove(name);
    }
    assert_eq!(rules_of(&look(&bare)), ["manifest-missing", "signature-missing", "pass-json-missing"]);
    files.insert("signature".into(), b"not a signature".to_vec());
    assert!(rules_of(&look(&files)).contains(&"signature-format"));
}

#[test]
fn a_sandbox_pass_may_use_plain_http_on_loopback() {
    let mut local = pass();
    local["webServiceURL"] = "http://localhost:8080/apple".into();
    local["authenticationToken"] = "0123456789abcdef".into();
    let inspection = look(&signed(&local));
    assert_eq!(rules_of(&inspection), ["web-service-https"]);
    assert!(inspection.valid);
    local["webServiceURL"] = "http://example.com/apple".into();
    assert!(!look(&signed(&local)).valid);
}

#[test]
fn the_json_form_has_the_members_of_the_contract() {
    let inspection = serde_json::to_value(look(&signed(&pass()))).expect("serialised");
    assert_eq!(inspection["valid"], true);
    assert_eq!(inspection["issues"], json!([]));
    assert_eq!(inspection["pass"]["description"], "Points card");
    let broken = serde_json::to_value(inspect(b"junk", &Trust::apple(), soon())).expect("serialised");
    assert_eq!(broken["issues"][0]["rule"], "zip-invalid");
    assert_eq!(broken["issues"][0]["severity"], "error");
    assert_eq!(broken["pass"], Value::Null);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_archive_never_makes_the_inspection_panic(at in 0_usize..8000, byte: u8) {
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| pack(&signed(&pass())));
        let mut bytes = BYTES.clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = inspect(&bytes, &Trust::apple(), soon());
        bytes.truncate(at);
        let _ = inspect(&bytes, &Trust::apple(), soon());
    }
}
