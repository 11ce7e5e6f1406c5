//! Issuers by API: certificates are checked, kept encrypted, overlap, and reach every node.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::{X509, X509Extension, X509Name, X509NameRef};
use passloom::actions::issuers::load_issuers;
use passloom::actions::issuers::watch::{CertificateWatch, Warning};
use passloom::config::Config;
use passloom::domain::ids::PassTypeId;
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::sandbox::certificates;
use passloom::startup::{Contents, Outside, prepare};
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
use passloom::wallets::apple::certificates::trust::Trust;
use passloom::wallets::apple::inspect::inspect;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{ADMIN_KEY, Answer, PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_workspace_signs_and_pushes_by_the_certificate_that_it_was_given,
    a_workspace_without_an_issuer_drafts_only,
    a_renewal_overlaps_and_the_newest_valid_certificate_signs,
    a_card_keeps_the_pass_type_it_was_issued_under,
    what_one_node_is_given_all_nodes_sign_with,
    a_certificate_comes_in_every_form,
    a_wrong_certificate_is_refused_at_its_place,
    a_pass_type_of_another_workspace_is_not_free,
    private_parts_go_in_and_never_out,
    an_issuer_in_the_database_ends_the_sandbox,
    the_end_of_a_certificate_is_told_at_each_threshold_once,
    a_renewal_ends_the_warnings,
    a_node_is_not_ready_only_when_it_can_not_sign_for_its_operator_or_for_anybody,
];

const DAY: Duration = Duration::from_secs(24 * 3600);
const SPA: &str = "pass.test.spa";
const PATH: &str = "/api/v1/issuers/apple";

fn chain(service: &Service) -> DevelopmentChain {
    certificates::load_or_make(service.root.parent().unwrap(), SystemClock.now()).unwrap()
}

pub fn mint(service: &Service, pass_type: &str, at: Timestamp) -> (X509, PKey<Private>) {
    chain(service).pass_certificate(&PassTypeId::parse(pass_type).unwrap(), "TEAM000001", at).unwrap()
}

fn pem(certificate: &X509) -> String {
    String::from_utf8(certificate.to_pem().unwrap()).unwrap()
}

fn key_pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

pub fn document((certificate, key): &(X509, PKey<Private>)) -> Value {
    json!({"certificate": pem(certificate), "key": key_pem(key)})
}

async fn put(service: &Service, document: &Value) -> Value {
    let answer = service.api(Method::PUT, PATH, document).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn fingerprint(certificate: &X509) -> String {
    hex::encode(certificate.digest(MessageDigest::sha256()).unwrap())
}

fn active(issuer: &Value, pass_type: &str) -> Vec<String> {
    let all = issuer["certificates"].as_array().unwrap().iter();
    let active = all.filter(|one| one["active"] == true && one["pass_type"] == pass_type);
    active.map(|one| one["fingerprint"].as_str().unwrap().to_owned()).collect()
}

/// The pass type of a card's pass and the serial number of the certificate that signed it; every rule is checked.
async fn signed_by(service: &Service, card: &str) -> (String, Timestamp) {
    let answer = service.api(Method::GET, &format!("/api/v1/cards/{card}/apple"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let root = X509::from_pem(&std::fs::read(&service.root).unwrap()).unwrap();
    let found = inspect(&answer.body, &Trust::only(root), service.now());
    let errors: Vec<_> = found.issues.iter().filter(|issue| issue.rule.starts_with("signature")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    (found.pass.unwrap()["passTypeIdentifier"].as_str().unwrap().to_owned(), found.signer.unwrap().not_after)
}

/// A service whose key is that of a workspace of its own.
async fn spa(database: &TestDatabase) -> Service {
    let mut service = Service::start(database).await;
    service.key = service.workspace("spa").await;
    service
}

async fn a_workspace_signs_and_pushes_by_the_certificate_that_it_was_given(database: TestDatabase) {
    let service = spa(&database).await;
    let none = service.api(Method::GET, PATH, &Value::Null).await;
    assert_eq!((none.status, none.json()["type"].as_str()), (404, Some("/problems/not-found")));
    let minted = mint(&service, SPA, service.now());
    let issuer = put(&service, &document(&minted)).await;
    assert_eq!((&issuer["pass_type"], &issuer["team"]), (&json!(SPA), &json!("TEAM000001")));
    let shown = &issuer["certificates"][0];
    assert_eq!(shown["fingerprint"], fingerprint(&minted.0));
    assert_eq!(shown["name"], format!("Pass Type ID: {SPA}"));
    assert!(shown["issued_by"].as_str().unwrap().contains("Passloom Development WWDR"), "{shown}");
    assert_eq!(shown["serial_number"], minted.0.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string());
    assert_eq!((&shown["active"], &shown["valid"], &shown["source"]), (&json!(true), &json!(true), &json!("api")));
    assert_eq!(shown["apple"], false, "no phone but the sandbox's takes what it signs");
    assert_eq!(service.api(Method::GET, PATH, &Value::Null).await.json(), issuer);

    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(phone.passes()[&serial].pass["passTypeIdentifier"], SPA);
    service.patch_card("M-1", &anna(2)["attributes"].as_object().map(|a| json!({"attributes": a})).unwrap()).await;
    assert_eq!(service.deliver().await, 1);
    let push = service.apns().pushes().pop().expect("the simulated APNs takes the uploaded certificate");
    assert_eq!(push.topic, SPA);
    phone.update(SPA, service.now()).await.unwrap();
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("2"));
    service.stop().await;
}

async fn a_workspace_without_an_issuer_drafts_only(database: TestDatabase) {
    let service = spa(&database).await;
    assert_eq!(service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await.status, 201);
    let missing =
        |answer: &Answer| (answer.status, answer.json()["type"].as_str().map(|kind| kind.ends_with("/issuer-missing")));
    let publish = "/api/v1/templates/bakery/publish";
    let answer = service.api(Method::POST, publish, &Value::Null).await;
    assert_eq!(answer.status, 422, "what is wrong (there is no icon) is told first");
    service.put_image("bakery", "icon", &crate::support::service::png(114, 114)).await;
    assert_eq!(missing(&service.api(Method::POST, publish, &Value::Null).await), (409, Some(true)));
    assert_eq!(missing(&service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await), (409, Some(true)));
    let wrong = service.api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery", "state": "x"})).await;
    assert_eq!((wrong.status, wrong.pointers()), (422, vec!["/state".to_owned()]));
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    assert_eq!(service.api(Method::POST, publish, &Value::Null).await.status, 200);
    assert_eq!(service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await.status, 201);
    service.stop().await;
}

async fn a_renewal_overlaps_and_the_newest_valid_certificate_signs(database: TestDatabase) {
    let service = spa(&database).await;
    let now = service.now();
    // Ends in 15 days; valid for a year; begins in 30 days.
    let [old, new, next] = [now.minus(380 * DAY), now, now.plus(30 * DAY)].map(|at| mint(&service, SPA, at));
    let ends = |one: &(X509, PKey<Private>)| {
        passloom::wallets::apple::certificates::identity::SigningIdentity::new(
            &one.0,
            one.1.clone(),
            &chain(&service).intermediate,
        )
        .unwrap()
        .not_after
    };
    put(&service, &document(&next)).await;
    let issuer = put(&service, &document(&old)).await;
    assert_eq!(active(&issuer, SPA), [fingerprint(&old.0)], "one that isn't valid yet doesn't sign");
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    assert_eq!(signed_by(&service, "M-1").await.1, ends(&old));
    let issuer = put(&service, &document(&new)).await;
    assert_eq!(issuer["certificates"].as_array().unwrap().len(), 3, "it stands beside the others");
    assert_eq!(active(&issuer, SPA), [fingerprint(&new.0)]);
    assert_eq!(signed_by(&service, "M-1").await.1, ends(&new));
    service.clock.set(now.plus(31 * DAY));
    let issuer = service.api(Method::GET, PATH, &Value::Null).await.json();
    assert_eq!(active(&issuer, SPA), [fingerprint(&next.0)]);
    let valid: Vec<bool> = issuer["certificates"].as_array().unwrap().iter().map(|one| one["valid"] == true).collect();
    assert_eq!(valid.iter().filter(|valid| **valid).count(), 2, "the oldest has ended");
    service.clock.set(now.plus(600 * DAY));
    let issuer = service.api(Method::GET, PATH, &Value::Null).await.json();
    assert_eq!(active(&issuer, SPA), [] as [String; 0], "none is valid any more");
    service.clock.set(now);
    service.stop().await;
}

async fn a_card_keeps_the_pass_type_it_was_issued_under(database: TestDatabase) {
    let service = spa(&database).await;
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    service.clock.advance(Duration::from_secs(1));
    let second = "pass.test.spa.second";
    let issuer = put(&service, &document(&mint(&service, second, service.now()))).await;
    assert_eq!(issuer["pass_type"], second);
    service.put_card("M-2", &anna(1)).await;
    assert_eq!(signed_by(&service, "M-1").await.0, SPA);
    assert_eq!(signed_by(&service, "M-2").await.0, second);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.apns().pushes().pop().unwrap().topic, SPA);
    phone.update(SPA, service.now()).await.unwrap();
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("2"));
    // Set anew, the first is what new cards get.
    service.clock.advance(Duration::from_secs(1));
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    service.put_card("M-3", &anna(1)).await;
    assert_eq!(signed_by(&service, "M-3").await.0, SPA);
    service.stop().await;
}

async fn what_one_node_is_given_all_nodes_sign_with(database: TestDatabase) {
    let one = spa(&database).await;
    let mut other = Service::start(&database).await;
    other.key = one.key.clone();
    let first = mint(&one, SPA, one.now().minus(10 * DAY));
    put(&one, &document(&first)).await;
    // Asked at once, before any job has looked.
    other.publish("bakery", &bakery()).await;
    other.put_card("M-1", &anna(1)).await;
    assert_eq!(signed_by(&other, "M-1").await.0, SPA);
    // A renewal is found by the job.
    let renewed = mint(&one, SPA, one.now());
    one.clock.advance(Duration::from_secs(1));
    put(&one, &document(&renewed)).await;
    let shown = other.api(Method::GET, PATH, &Value::Null).await.json();
    assert_eq!(active(&shown, SPA), [fingerprint(&first.0)]);
    assert!(load_issuers(&other.app).await.unwrap().is_none());
    let shown = other.api(Method::GET, PATH, &Value::Null).await.json();
    assert_eq!(active(&shown, SPA), [fingerprint(&renewed.0)]);
    one.stop().await;
    other.stop().await;
    // And after a start anew.
    let mut third = Service::start(&database).await;
    third.key = third.new_key(ADMIN_KEY, &["admin"]).await;
    let own = third.api(Method::GET, PATH, &Value::Null).await.json();
    assert_eq!((&own["pass_type"], own["certificates"].as_array().unwrap().len()), (&json!(PASS_TYPE), 1));
    assert_eq!(third.app.issuers.all().len(), 3);
    third.stop().await;
}

/// A PKCS#12 file of a kind that the library doesn't write. Keychain's is `-legacy`: RC2-40 and triple DES, which
/// OpenSSL 3 has in its legacy provider only.
fn exported_pkcs12(minted: &(X509, PKey<Private>), kind: &str, password: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("both.pem"), format!("{}{}", pem(&minted.0), key_pem(&minted.1))).unwrap();
    let password = format!("pass:{password}");
    let arguments = ["pkcs12", "-export", kind, "-in", "both.pem", "-out", "out.p12", "-passout", &password];
    let output = Command::new("openssl").args(arguments).current_dir(&directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(directory.path().join("out.p12")).unwrap()
}

async fn a_certificate_comes_in_every_form(database: TestDatabase) {
    let service = spa(&database).await;
    let wwdr = pem(&chain(&service).intermediate);
    let minted = mint(&service, SPA, service.now());
    let (certificate, key) = &minted;
    let mut modern = Pkcs12::builder();
    modern.pkey(key).cert(certificate).name("spa");
    let modern = modern.build2("sesame").unwrap().to_der().unwrap();
    let legacy = exported_pkcs12(&minted, "-legacy", "sesame");
    let encrypted =
        String::from_utf8(key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"sesame").unwrap()).unwrap();
    let der = |bytes: Vec<u8>| STANDARD.encode(bytes);
    for (form, document) in [
        ("PEM with its intermediate", json!({"certificate": pem(certificate), "key": key_pem(key), "wwdr": wwdr})),
        ("PEM of Windows", json!({"certificate": pem(certificate).replace('\n', "\r\n"), "key": key_pem(key)})),
        ("an encrypted key", json!({"certificate": pem(certificate), "key": encrypted, "key_password": "sesame"})),
        (
            "DER",
            json!({"certificate": der(certificate.to_der().unwrap()), "key": der(key.private_key_to_der().unwrap())}),
        ),
        ("PKCS#12", json!({"pkcs12": der(modern), "password": "sesame"})),
        ("PKCS#12 of Keychain", json!({"pkcs12": der(legacy), "password": "sesame", "wwdr": der(wwdr.into_bytes())})),
    ] {
        let answer = service.api(Method::PUT, PATH, &document).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.json());
        let shown = answer.json();
        assert_eq!(active(&shown, SPA), [fingerprint(certificate)], "{form}");
        assert_eq!(shown["certificates"].as_array().unwrap().len(), 1, "{form}: the same certificate is there once");
    }
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    assert_eq!(signed_by(&service, "M-1").await.0, SPA, "the provider of old ciphers leaves the others as they are");
    service.stop().await;
}

/// A certificate that no authority would issue like that, in PEM; without an issuer it names itself as one.
fn odd(
    subject: &[(Nid, &str)],
    extension: Option<X509Extension>,
    key: &PKey<Private>,
    issuer: Option<&X509NameRef>,
    signer: &PKey<Private>,
) -> String {
    let mut name = X509Name::builder().unwrap();
    for (kind, value) in subject {
        name.append_entry_by_nid(*kind, value).unwrap();
    }
    let name = name.build();
    let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
    let [from, until] = [0, 9].map(|days| Asn1Time::days_from_now(days).unwrap());
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(issuer.unwrap_or(&name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&from).unwrap();
    builder.set_not_after(&until).unwrap();
    if let Some(extension) = extension {
        builder.append_extension(extension).unwrap();
    }
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    pem(&builder.build())
}

async fn a_wrong_certificate_is_refused_at_its_place(database: TestDatabase) {
    let service = spa(&database).await;
    let development = chain(&service);
    let minted = mint(&service, SPA, service.now());
    let (good, key) = (pem(&minted.0), key_pem(&minted.1));
    let other_key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let short_key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let ended = mint(&service, SPA, service.now().minus(500 * DAY));
    let stranger = DevelopmentChain::mint(&PassTypeId::parse(SPA).unwrap(), "TEAM000001", service.now()).unwrap();
    let (server, server_key) = development.server_certificate(&["localhost"], &[], service.now()).unwrap();
    let encrypted =
        String::from_utf8(minted.1.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"sesame").unwrap())
            .unwrap();
    let p12 = STANDARD.encode(exported_pkcs12(&minted, "-legacy", "sesame"));
    // Without a checksum nothing tells a wrong password from a cipher that isn't known.
    let unchecked = STANDARD.encode(exported_pkcs12(&minted, "-nomac", "sesame"));
    let keyless = STANDARD.encode(exported_pkcs12(&minted, "-nokeys", "sesame"));
    let packed = |key: &PKey<Private>, certificate: Option<&X509>| {
        let mut file = Pkcs12::builder();
        file.pkey(key);
        if let Some(certificate) = certificate {
            file.cert(certificate);
        }
        json!({"pkcs12": STANDARD.encode(file.build2("sesame").unwrap().to_der().unwrap()), "password": "sesame"})
    };
    let spa = PassTypeId::parse(SPA).unwrap();
    let short = development.pass_certificate_for(&short_key, &spa, "TEAM000001", service.now()).unwrap();
    let by_intermediate = |subject: &[(Nid, &str)], extension: Option<X509Extension>| {
        let (issuer, signer) = (development.intermediate.subject_name(), &development.intermediate_key);
        json!({"certificate": odd(subject, extension, &minted.1, Some(issuer), signer), "key": key})
    };
    let (uid, team) = ((Nid::USERID, SPA), (Nid::ORGANIZATIONALUNITNAME, "TEAM000001"));
    let other_use = ExtendedKeyUsage::new().server_auth().build().unwrap();
    let other_pass_type = X509Extension::new_from_der(
        &Asn1Object::from_str("1.2.840.113635.100.6.1.16").unwrap(),
        false,
        &Asn1OctetString::new_from_bytes(b"pass.test.other").unwrap(),
    )
    .unwrap();
    let self_issued = odd(&[uid, team], None, &minted.1, None, &minted.1);
    let forged = odd(&[uid, team], None, &minted.1, Some(development.intermediate.subject_name()), &other_key);
    // Its key is of a kind that nobody knows.
    let mut strange = minted.0.to_der().unwrap();
    let rsa: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let place = strange.windows(rsa.len()).position(|part| *part == rsa).unwrap();
    strange[place + rsa.len() - 1] = 0x63;
    for (document, pointer, sentence) in [
        (json!({"key": key}), "/certificate", "is required"),
        (json!({"certificate": good}), "/key", "is required"),
        (json!({"certificate": "hello?", "key": key}), "/certificate", "neither PEM"),
        (json!({"certificate": STANDARD.encode("hello"), "key": key}), "/certificate", "can't be read"),
        (json!({"certificate": good, "key": good}), "/key", "can't be read"),
        (json!({"certificate": good, "key": encrypted, "key_password": "wrong"}), "/key", "password"),
        (json!({"certificate": good, "key": key_pem(&other_key)}), "/key", "doesn't belong"),
        (json!({"certificate": good, "key": key_pem(&short_key)}), "/key", "1024 bits"),
        (json!({"certificate": good, "key": key_pem(&server_key)}), "/key", "doesn't belong"),
        (json!({"certificate": pem(&server), "key": key_pem(&server_key)}), "/certificate", "UID"),
        (json!({"certificate": pem(&development.root), "key": key}), "/certificate", "UID"),
        (json!({"certificate": pem(&ended.0), "key": key_pem(&ended.1)}), "/certificate", "ended on"),
        (json!({"certificate": good, "key": key, "wwdr": pem(&development.root)}), "/wwdr", "did not issue"),
        (json!({"certificate": good, "key": key, "wwdr": "?"}), "/wwdr", "neither PEM"),
        (document(&(stranger.leaf.clone(), stranger.leaf_key.clone())), "/wwdr", "no intermediate"),
        (json!({"pkcs12": p12, "password": "wrong"}), "/password", "password"),
        (json!({"pkcs12": STANDARD.encode("hello")}), "/pkcs12", "can't be read"),
        (json!({"certificate": good, "key": 7}), "/key", "is not a text of 1 to 262144 characters"),
        (
            by_intermediate(&[(Nid::USERID, "com.example.app"), team], None),
            "/certificate",
            "no UID that begins with pass.",
        ),
        (by_intermediate(&[uid], None), "/certificate", "no organizational unit, which holds the team"),
        (
            by_intermediate(&[uid, (Nid::ORGANIZATIONALUNITNAME, " ")], None),
            "/certificate",
            "no organizational unit, which holds the team",
        ),
        (
            by_intermediate(&[uid, team], Some(other_use)),
            "/certificate",
            "is not for signing passes: it was issued for other uses only",
        ),
        (
            by_intermediate(&[uid, team], Some(other_pass_type)),
            "/certificate",
            "its subject names the pass type pass.test.spa, its extension \"pass.test.other\"",
        ),
        (json!({"certificate": self_issued, "key": key}), "/certificate", "issued by its own key, not by Apple"),
        (
            json!({"certificate": STANDARD.encode(&strange), "key": key}),
            "/key",
            "the key is neither RSA nor on the curve P-256",
        ),
        (
            json!({"certificate": forged, "key": key}),
            "/wwdr",
            "no intermediate certificate that issued the certificate was given; it was issued by Passloom Development WWDR",
        ),
        (
            json!({"certificate": good, "key": key, "wwdr": STANDARD.encode("hello")}),
            "/wwdr",
            "the intermediate certificate can't be read: it is neither PEM nor DER",
        ),
        (json!({"pkcs12": unchecked, "password": "sesame"}), "/pkcs12", "has no checksum (MAC); export it with one"),
        (json!({"pkcs12": unchecked}), "/pkcs12", "has no checksum (MAC); export it with one"),
        (json!({"pkcs12": good}), "/pkcs12", "comes without its key"),
        (packed(&minted.1, None), "/pkcs12", "the PKCS#12 file holds no certificate; expected a pass type"),
        (
            json!({"pkcs12": keyless, "password": "sesame"}),
            "/pkcs12",
            "the PKCS#12 file holds no private key; expected a pass type",
        ),
        (packed(&short_key, Some(&short)), "/pkcs12", "the key has 1024 bits"),
        (packed(&stranger.leaf_key, Some(&stranger.leaf)), "/wwdr", "no intermediate certificate"),
        (json!({"pkcs12": p12, "key": key}), "/key", "is unknown"),
        (json!({"certificate": good, "key": key, "team": "X"}), "/team", "is unknown"),
    ] {
        let answer = service.api(Method::PUT, PATH, &document).await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, vec![pointer.to_owned()]),
            "{sentence}: {}",
            answer.json()
        );
        let told = answer.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
        assert!(told.contains(sentence), "{told:?} instead of {sentence:?}");
        assert!(!told.contains("PRIVATE") && !told.contains("sesame"), "{told}");
    }
    assert_eq!(service.api(Method::GET, PATH, &Value::Null).await.status, 404, "nothing was stored");
    service.stop().await;
}

async fn a_pass_type_of_another_workspace_is_not_free(database: TestDatabase) {
    let service = spa(&database).await;
    let answer = service.api(Method::PUT, PATH, &document(&mint(&service, PASS_TYPE, service.now()))).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/certificate".to_owned()]));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("is not free") && !text.contains("default"), "{text}");
    assert_eq!(service.api(Method::GET, PATH, &Value::Null).await.status, 404);
    service.stop().await;
}

async fn private_parts_go_in_and_never_out(database: TestDatabase) {
    let service = spa(&database).await;
    let minted = mint(&service, SPA, service.now());
    let key = key_pem(&minted.1);
    let lines: Vec<&str> = key.lines().filter(|line| line.len() == 64).collect();
    let der = minted.1.private_key_to_der().unwrap();
    let mut answers = vec![service.api(Method::PUT, PATH, &document(&minted)).await];
    answers.push(service.api(Method::GET, PATH, &Value::Null).await);
    let mut wrong = document(&minted);
    wrong["certificate"] = json!(key);
    answers.push(service.api(Method::PUT, PATH, &wrong).await);
    wrong[key.clone()] = json!(1);
    answers.push(service.api(Method::PUT, PATH, &wrong).await);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 422, 422]);
    for answer in &answers {
        let text = String::from_utf8_lossy(&answer.body);
        assert!(lines.iter().all(|line| !text.contains(line)), "{text}");
    }
    // Encrypted at rest, with the master key's id in the record.
    let mut reader = service.app.store.read().await.unwrap();
    let stored = passloom::store::issuers::list_apple(&mut reader).await.unwrap();
    let sealed = passloom::store::issuers::sealed_apple(&mut reader, &stored[0]).await.unwrap().unwrap();
    drop(reader);
    let master = passloom::platform::secrets::MasterKey::parse(&"5e".repeat(32)).unwrap();
    assert_eq!(hex::encode(&sealed[1..5]), master.id());
    for secret in [b"PRIVATE KEY".as_slice(), lines[0].as_bytes(), &der[40..60]] {
        assert!(sealed.windows(secret.len()).all(|part| part != secret));
    }
    let shown = format!("{:?}", service.app.issuers.all());
    assert!(lines.iter().all(|line| !shown.contains(line)), "{shown}");
    service.stop().await;
}

async fn an_issuer_in_the_database_ends_the_sandbox(database: TestDatabase) {
    let directory = tempfile::tempdir().unwrap();
    let config = |sandbox: Option<bool>| {
        let mut config = Config::load(None, |_| None).unwrap();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.internal_listen = None;
        config.data_dir = directory.path().to_owned();
        config.data_dir_given = true;
        config.database_url = database.url().to_owned();
        config.public_url = "https://cards.example.com".to_owned();
        config.public_url_default = false;
        config.master_key = passloom::platform::secrets::MasterKey::parse(&"5e".repeat(32));
        config.sandbox = sandbox;
        config
    };
    let outside = || Outside {
        clock: std::sync::Arc::new(SystemClock),
        random: std::sync::Arc::new(SystemRandom),
        wallets: Vec::new(),
    };
    let start = async |config: Config| prepare(config, outside(), Contents::Nothing).await;
    let refused = start(config(None)).await.expect_err("a public address without an issuer").to_string();
    assert!(refused.starts_with("PASSLOOM_PUBLIC_URL"), "{refused}");
    assert!(start(config(Some(false))).await.unwrap().sandbox.is_none());

    let service = spa(&database).await;
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    let root = directory.path().join("root.pem");
    std::fs::copy(&service.root, &root).unwrap();
    service.stop().await;
    let config = |sandbox: Option<bool>| {
        let mut config = config(sandbox);
        config.apple_root = Some(root.clone());
        config
    };
    let production = start(config(None)).await.unwrap();
    assert!(production.sandbox.is_none() && production.app.sandbox.is_none());
    assert_eq!(production.app.apns_endpoint.url, "https://api.push.apple.com");
    assert_eq!(production.app.issuers.all().len(), 1, "no development chain signs there");
    assert!(start(config(Some(true))).await.unwrap().sandbox.is_some(), "said explicitly, it stays");
    let mut other = config(None);
    other.master_key = passloom::platform::secrets::MasterKey::parse(&"5f".repeat(32));
    let refused = start(other).await.expect_err("another master key").to_string();
    assert!(refused.starts_with("PASSLOOM_MASTER_KEY: does not open"), "{refused}");
}

fn told(warnings: &[Warning], pass_type: &str) -> Vec<(u32, bool)> {
    let mine = warnings.iter().filter(|warning| warning.pass_type.as_str() == pass_type);
    mine.map(|warning| (warning.days, warning.urgent)).collect()
}

/// A service whose key is that of a workspace with a certificate that was minted so long ago: it ends 395 days, less an
/// hour, after that.
async fn aged(database: &TestDatabase, age: Duration) -> Service {
    let mut service = Service::start(database).await;
    service.key = service.workspace("spa").await;
    put(&service, &document(&mint(&service, SPA, service.now().minus(age)))).await;
    service
}

async fn remaining(service: &Service, pass_type: &str) -> i64 {
    let metrics = service.send(Method::GET, "/metrics", &[], Vec::new()).await;
    let text = String::from_utf8(metrics.body).unwrap();
    let name = format!("passloom_certificate_remaining_seconds{{pass_type=\"{pass_type}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
}

async fn the_end_of_a_certificate_is_told_at_each_threshold_once(database: TestDatabase) {
    // 61 days are left.
    let service = aged(&database, 334 * DAY - Duration::from_secs(3600)).await;
    let mut watch = CertificateWatch::default();
    assert_eq!(watch.look(&service.app), []);
    let left = remaining(&service, SPA).await;
    assert!((61 * 86_400 - 2..=61 * 86_400).contains(&left), "{left}");
    assert!(remaining(&service, PASS_TYPE).await > 300 * 86_400);
    let start = service.now();
    for (days_later, expected) in
        [(1, (60, false)), (31, (30, false)), (47, (14, false)), (54, (7, true)), (60, (1, true)), (61, (0, true))]
    {
        service.clock.set(start.plus(days_later * DAY));
        assert_eq!(told(&watch.look(&service.app), SPA), [expected], "after {days_later} days");
        assert_eq!(told(&watch.look(&service.app), SPA), [], "once");
        service.clock.set(start.plus(days_later * DAY - Duration::from_secs(7200)));
        assert_eq!(told(&watch.look(&service.app), SPA), [], "a clock that goes back repeats nothing");
        // Each start says it anew, the nearest threshold only.
        service.clock.set(start.plus(days_later * DAY));
        assert_eq!(told(&CertificateWatch::default().look(&service.app), SPA), [expected]);
    }
    assert_eq!(remaining(&service, SPA).await, 0);
    service.clock.set(start);
    service.stop().await;
}

async fn a_renewal_ends_the_warnings(database: TestDatabase) {
    let service = aged(&database, 390 * DAY).await;
    let mut watch = CertificateWatch::default();
    assert_eq!(told(&watch.look(&service.app), SPA), [(7, true)]);
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    service.clock.advance(10 * DAY);
    assert_eq!(told(&watch.look(&service.app), SPA), [], "what it replaces may end");
    assert!(remaining(&service, SPA).await > 380 * 86_400);
    service.clock.set(service.now().minus(10 * DAY));
    service.stop().await;
}

async fn a_node_is_not_ready_only_when_it_can_not_sign_for_its_operator_or_for_anybody(database: TestDatabase) {
    let service = aged(&database, 390 * DAY).await;
    let ready = async || service.send(Method::GET, "/readyz", &[], Vec::new()).await;
    assert_eq!(ready().await.status, 200);
    let start = service.now();
    service.clock.advance(6 * DAY);
    let answer = ready().await;
    assert_eq!(answer.status, 200, "one tenant takes the node from nobody else");
    let warnings = answer.json()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains(SPA) && warnings.as_array().unwrap().len() == 1, "{warnings}");
    put(&service, &document(&mint(&service, "pass.test.spa.second", service.now()))).await;
    assert_eq!(ready().await.json(), json!({"status": "ready", "warnings": []}), "it can issue again");
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    service.clock.advance(420 * DAY);
    put(&service, &document(&mint(&service, SPA, service.now()))).await;
    let answer = ready().await;
    assert_eq!(answer.status, 503, "the operator's own certificate ended");
    assert!(answer.json()["reasons"].to_string().contains(PASS_TYPE), "{}", answer.json());
    let shown = service.api(Method::GET, "/api/v1/issuers/apple", &Value::Null).await.json();
    assert_eq!(shown["certificates"].as_array().unwrap().len(), 4);
    service.clock.set(start);
    service.stop().await;
}
