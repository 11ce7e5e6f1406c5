//! Every pass is held against programs that share nothing with us: OpenSSL's command line and a reader from a
//! package registry.

use std::collections::BTreeMap;
use std::io::Read;

use passloom::startup::{Contents, JobMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::reader::{openssl_cms_verify, read_independently};
use crate::support::service::{Service, anna, bakery};
use crate::support::{Database, TestDatabase};

/// The files of a pass.
pub fn unzip(pkpass: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(pkpass)).unwrap();
    (0..archive.len())
        .map(|i| {
            let mut file = archive.by_index(i).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), content)
        })
        .collect()
}

fn on_sqlite<F: std::future::Future<Output = ()>>(test: impl FnOnce(TestDatabase) -> F) {
    crate::support::run(Database::Sqlite, test);
}

async fn pass_of(service: &Service, id: &str) -> Vec<u8> {
    let answer = service.api(Method::GET, &format!("/api/v1/cards/{id}/apple"), &Value::Null).await;
    assert_eq!(answer.status, 200);
    openssl_cms_verify(&answer.body, &service.root);
    let serial = service.card(id).await["serial_number"].clone();
    assert_eq!(read_independently(&answer.body)["serialNumber"], serial);
    answer.body
}

#[test]
fn the_starters_passes_verify_and_open_elsewhere() {
    on_sqlite(|database| async move {
        let service = Service::start_with(&database, Contents::Starters, JobMode::ByHand).await;
        let cards = [
            ("bakery-points", json!({"points": 120, "tier": "silver", "name": "Anna", "balance": "1.20"})),
            ("bakery-points", json!({"points": 9999, "tier": "gold", "name": "Ильзе", "expires_on": "2027-12-31"})),
            ("club-tiers", json!({})),
            ("club-tiers", json!({"tier": "gold", "visits": 12, "credit": "40.00", "name": "Jānis Bērziņš"})),
            ("club-tiers", json!({"tier": "black", "news": "Line one\nline \"two\" \\ & <three>"})),
        ];
        for (i, (template, attributes)) in cards.iter().enumerate() {
            for state in ["active", "voided", "expired"] {
                let id = format!("M-{i}");
                service
                    .put_card(
                        &id,
                        &json!({"template": template, "attributes": attributes, "state": state, "locale": "lv"}),
                    )
                    .await;
                let pass = pass_of(&service, &id).await;
                let read = read_independently(&pass);
                assert_eq!(read.get("voided").is_some(), state == "voided");
                let files = unzip(&pass);
                for language in ["en", "lv", "ru"] {
                    assert!(files.contains_key(&format!("{language}.lproj/pass.strings")), "{language}");
                }
            }
        }
        // What a customer in Latvia sees.
        let mut phone = service.phone("lv");
        let page = service.card("M-0").await["urls"]["page"].as_str().unwrap().to_owned();
        let serial = phone.add(&page, service.now()).await.unwrap();
        assert_eq!(phone.front(&serial)[0].label, "Punkti");
        service.stop().await;
    });
}

#[test]
fn equal_input_gives_equal_bytes_except_for_the_signature() {
    on_sqlite(|database| async move {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        service.put_card("M-1", &anna(1)).await;
        let first = pass_of(&service, "M-1").await;
        assert_eq!(first, pass_of(&service, "M-1").await, "in the same second even the signature is the same");
        service.clock.advance(std::time::Duration::from_secs(5));
        let (mut first, mut later) = (unzip(&first), unzip(&pass_of(&service, "M-1").await));
        assert_ne!(first.remove("signature"), later.remove("signature"), "it holds the time");
        assert_eq!(first, later);
        service.stop().await;
    });
}

#[test]
fn values_keep_their_types_and_are_never_translated() {
    on_sqlite(|database| async move {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        let document = json!({"template": "bakery", "locale": "lv", "attributes": {
            "points": 1200, "balance": "12.50", "tier": "gold", "name": "Points", "expires_on": "2026-12-31"}});
        service.put_card("M-1", &document).await;
        let files = unzip(&pass_of(&service, "M-1").await);
        let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
        let field = |group: &str, i: usize| pass["storeCard"][group][i].clone();
        assert_eq!(field("headerFields", 0)["value"], 1200);
        assert_eq!(
            (&field("primaryFields", 0)["value"], &field("primaryFields", 0)["currencyCode"]),
            (&json!(12.5), &json!("EUR"))
        );
        let until = field("auxiliaryFields", 1);
        assert_eq!(until["value"], "2026-12-31T00:00:00Z");
        assert_eq!(
            (&until["dateStyle"], &until["timeStyle"], &until["ignoresTimeZone"]),
            (&json!("PKDateStyleMedium"), &json!("PKDateStyleNone"), &json!(true))
        );
        assert_eq!(pass["backgroundColor"], "rgb(138, 109, 29)", "the look of the tier");
        assert_eq!(pass["barcodes"][0]["message"], "M-1");

        // The member is called like a label; the label is a key of ours, the value stays itself.
        assert_eq!(field("auxiliaryFields", 0)["value"], "Points");
        let key = field("headerFields", 0)["label"].as_str().unwrap().to_owned();
        assert_ne!(key, "Points");
        let table =
            |language: &str| String::from_utf8(files[&format!("{language}.lproj/pass.strings")].clone()).unwrap();
        for (language, text) in [("en", "Points"), ("lv", "Punkti"), ("ru", "Баллы")] {
            assert!(table(language).contains(&format!("\"{key}\" = \"{text}\";")), "{language}");
            assert!(!table(language).contains("\"Points\" ="), "no value is ever a key");
        }
        // Words around a value are translated with the value in them.
        let hello = field("backFields", 1)["value"].as_str().unwrap().to_owned();
        assert!(table("lv").contains(&format!("\"{hello}\" = \"Sveiki, Points, ņemiet bulciņu\";")), "{}", table("lv"));
        assert_eq!(
            field("backFields", 0)["attributedValue"],
            "<a href=\"https://kuzina.example\">https://kuzina.example</a>"
        );

        // A member who calls himself like one of our keys is not translated either.
        service.patch_card("M-1", &json!({"attributes": {"name": key}})).await;
        let files = unzip(&pass_of(&service, "M-1").await);
        let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
        assert_eq!(pass["storeCard"]["auxiliaryFields"][0]["value"], format!("\u{200B}{key}"));
        service.stop().await;
    });
}

#[test]
fn a_template_in_latvian_alone_has_english_folders_with_its_own_texts() {
    on_sqlite(|database| async move {
        let service = Service::start(&database).await;
        let mut document = bakery();
        document["languages"] = json!(["lv", "ru"]);
        document["strings"] = json!({"ru": {"Points": "Баллы"}});
        service.publish("bakery", &document).await;
        service.put_card("M-1", &anna(1)).await;
        let files = unzip(&pass_of(&service, "M-1").await);
        assert_eq!(files["en.lproj/pass.strings"], files["lv.lproj/pass.strings"]);
        assert_ne!(files["en.lproj/pass.strings"], files["ru.lproj/pass.strings"]);
        service.stop().await;
    });
}

#[test]
fn apple_pass_is_merged_with_expressions_and_can_not_touch_the_identity() {
    on_sqlite(|database| async move {
        let service = Service::start(&database).await;
        let mut document = bakery();
        document["apple"]["pass"] = json!({"sharingProhibited": true, "userInfo": {"points": "{{ points }}", "who": "{{ name | upper }}"}, "logoText": null});
        service.publish("bakery", &document).await;
        service.put_card("M-1", &anna(7)).await;
        let pass: Value = serde_json::from_slice(&unzip(&pass_of(&service, "M-1").await)["pass.json"]).unwrap();
        assert_eq!(pass["userInfo"], json!({"points": 7, "who": "ANNA"}));
        assert_eq!((pass["sharingProhibited"].as_bool(), pass.get("logoText")), (Some(true), None));
        document["apple"]["pass"] =
            json!({"serialNumber": "mine", "authenticationToken": "mine", "webServiceURL": "https://evil.example"});
        let answer = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
        assert_eq!((answer.status, answer.pointers().len()), (422, 3));
        service.stop().await;
    });
}
