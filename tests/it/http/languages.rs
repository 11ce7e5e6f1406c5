//! What stands on a card in its owner's language and in the business's time zone, on the page and in the pass.

use std::collections::BTreeMap;

use passloom::domain::values::zone::Zone;
use reqwest::Method;
use serde_json::{Value, json};

use super::template_archives::zip_of;
use crate::support::reader::unzip;
use crate::support::service::{ADMIN_KEY, Answer, Service, anna, bakery, png};
use crate::support::{Database, TestDatabase, on_both_databases, run};

on_both_databases![a_workspace_writes_moments_in_its_own_zone];

/// The card's page as somebody of that language gets it, with ordinary spaces.
async fn page(service: &Service, card: &Value, language: &str) -> String {
    let path = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap();
    let answer = service.send(Method::GET, path, &[("accept-language", language)], Vec::new()).await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap().replace(['\u{a0}', '\u{202f}'], " ")
}

async fn files(service: &Service, card: &Value) -> BTreeMap<String, Vec<u8>> {
    let path = card["urls"]["apple"].as_str().unwrap().strip_prefix(&service.base).unwrap();
    let answer = service.send(Method::GET, path, &[], Vec::new()).await;
    assert_eq!(answer.status, 200);
    unzip(&answer.body)
}

async fn pass(service: &Service, card: &Value) -> Value {
    serde_json::from_slice(&files(service, card).await["pass.json"]).unwrap()
}

/// Case 50: three typed values, in one language.
fn card_in(language: &str) -> Value {
    json!({
        "name": "Karte", "organization": "Lindgren", "languages": [language],
        "attributes": [
            {"name": "points", "type": "integer"},
            {"name": "saved", "type": "money", "currency": "EUR"},
            {"name": "rate", "type": "decimal"},
            {"name": "until", "type": "date"}],
        "fields": {
            "header": [{"key": "p", "label": "Punkte", "value": "{{ points }}"}],
            "secondary": [
                {"key": "s", "label": "Gespart", "value": "{{ saved }}"},
                {"key": "r", "label": "Rabatt", "value": "{{ rate }}"},
                {"key": "u", "label": "Gültig bis", "value": "{{ until }}"}]},
        "apple": {"style": "storeCard"}
    })
}

#[test]
fn a_cards_page_writes_values_as_its_language_does_whichever_it_is() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        for (language, expected) in [
            ("de", ["1.234", "12,50 €", "0,5", "31.12.2026"]),
            ("de-AT", ["1 234", "€ 12,50", "0,5", "31.12.2026"]),
            ("fr", ["1 234", "12,50 €", "0,5", "31 déc. 2026"]),
            ("pl", ["1234", "12,50 €", "0,5", "31 gru 2026"]),
            ("en-GB", ["1,234", "€12.50", "0.5", "31 Dec 2026"]),
            ("lv", ["1234", "12,50 €", "0,5", "2026. g. 31. dec."]),
        ] {
            service.publish(language, &card_in(language)).await;
            let values = json!({"points": 1234, "saved": "12.5", "rate": 0.5, "until": "2026-12-31"});
            let card = json!({"template": language, "locale": language, "attributes": values});
            let card = service.put_card(language, &card).await;
            let html = page(&service, &card, language).await;
            assert!(html.contains(&format!("lang=\"{language}\"")), "{html}");
            for value in expected {
                assert!(html.contains(&format!("<dd>{value}</dd>")), "{language}: {value} isn't in {html}");
            }
        }
        service.stop().await;
    });
}

#[test]
fn a_card_in_a_language_that_is_written_from_the_right_says_so() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        service.publish("he", &card_in("he")).await;
        let card = service.put_card("M-1", &json!({"template": "he", "attributes": {"points": 1}})).await;
        let html = page(&service, &card, "he").await;
        assert!(html.contains("lang=\"he\" dir=\"rtl\""), "{html}");
        service.stop().await;
    });
}

/// A slot of a shop, in every way that a template can write it.
fn slots() -> Value {
    let slot = |key: &str, more: Value| {
        let mut field = json!({"key": key, "label": key, "value": "{{ slot }}"});
        field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        field
    };
    json!({
        "name": "Slots", "organization": "Lindgren", "languages": ["en-GB", "de"],
        "attributes": [{"name": "slot", "type": "datetime"}],
        "fields": {
            "header": [slot("clock", json!({"date_style": "none", "time_style": "short", "ignores_time_zone": true}))],
            "secondary": [slot("both", json!({})), slot("long", json!({"date_style": "long", "time_style": "none"}))],
            "back": [
                {"key": "texts", "value": "{{ slot | date }}; {{ slot | time }}; {{ slot | datetime('short') }}"},
                {"key": "plain", "value": "Come at {{ slot }}"},
                slot("linked", json!({"link": "https://kuzina.example/?at={{ slot }}"}))]},
        "apple": {"style": "storeCard"}
    })
}

const SLOT: &str = "2026-12-24T22:30:00Z";

/// What the card says of [`SLOT`]: the pass's fields and the page in both languages.
async fn said(service: &Service, card: &Value) -> (Value, String, String, String) {
    let files = files(service, card).await;
    let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
    let table = String::from_utf8(files["de.lproj/pass.strings"].clone()).unwrap();
    (pass["storeCard"].clone(), table, page(service, card, "en-GB").await, page(service, card, "de").await)
}

async fn shows_the_slot_of_dubai(service: &Service, card: &Value) {
    let (style, table, british, german) = said(service, card).await;
    assert_eq!(
        style["headerFields"][0],
        json!({"key": "clock", "label": "clock", "value": "2026-12-25T02:30:00+04:00", "dateStyle": "PKDateStyleNone",
            "timeStyle": "PKDateStyleShort", "ignoresTimeZone": true})
    );
    // What a phone may show in its owner's zone stays a moment.
    assert_eq!(
        style["secondaryFields"][0],
        json!({"key": "both", "label": "both", "value": SLOT, "dateStyle": "PKDateStyleMedium",
            "timeStyle": "PKDateStyleShort"})
    );
    assert_eq!(style["secondaryFields"][1]["dateStyle"], "PKDateStyleLong");
    assert_eq!(style["secondaryFields"][1]["timeStyle"], "PKDateStyleNone");
    assert!(table.contains("\"25.12.2026; 02:30; 25.12.26, 02:30\""), "{table}");
    assert_eq!(style["backFields"][1]["value"], "Come at 2026-12-25T02:30:00+04:00");
    let link = style["backFields"][2]["attributedValue"].as_str().unwrap();
    assert!(link.contains("25 Dec 2026, 02:30</a>") && link.contains("2026-12-25T02"), "{link}");
    for value in ["<dd>02:30</dd>", "<dd>25 Dec 2026, 02:30</dd>", "<dd>25 December 2026</dd>"] {
        assert!(british.contains(value), "{value} isn't in {british}");
    }
    for value in ["<dd>02:30</dd>", "<dd>25.12.2026, 02:30</dd>", "<dd>25. Dezember 2026</dd>"] {
        assert!(german.contains(value), "{value} isn't in {german}");
    }
}

#[test]
fn moments_are_written_in_the_zone_of_the_template_or_else_of_the_service() {
    run(Database::Sqlite, async |database| {
        let dubai = |config: &mut passloom::config::Config| config.time_zone = Zone::parse("Asia/Dubai").unwrap();
        let service = Service::start_configured(&database, dubai).await;
        service.publish("slots", &slots()).await;
        let of = |template: &str| json!({"template": template, "attributes": {"slot": SLOT}});
        let card = service.put_card("M-1", &of("slots")).await;
        shows_the_slot_of_dubai(&service, &card).await;
        let mut elsewhere = slots();
        elsewhere["time_zone"] = json!("America/New_York");
        service.publish("elsewhere", &elsewhere).await;
        let card = service.put_card("M-2", &of("elsewhere")).await;
        let (style, _, british, _) = said(&service, &card).await;
        assert_eq!(style["headerFields"][0]["value"], "2026-12-24T17:30:00-05:00");
        assert!(british.contains("<dd>24 Dec 2026, 17:30</dd>"), "{british}");

        let preview = service.api(Method::POST, "/api/v1/templates/slots/preview", &of("slots")["attributes"]).await;
        assert_eq!(preview.status, 422, "attributes stand under their name");
        let values = json!({"attributes": {"slot": SLOT}});
        let preview = service.api(Method::POST, "/api/v1/templates/slots/preview", &values).await;
        let shown = preview.json()["apple"]["storeCard"]["headerFields"][0]["value"].clone();
        assert_eq!(shown, "2026-12-25T02:30:00+04:00");

        elsewhere["time_zone"] = json!("Dubai");
        let refused = service.api(Method::PUT, "/api/v1/templates/elsewhere", &elsewhere).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/time_zone".to_owned()]));
        service.stop().await;
    });
}

async fn a_workspace_writes_moments_in_its_own_zone(database: TestDatabase) {
    let service = Service::start(&database).await;
    let make = async |body: Value| service.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &body).await;
    let made = make(json!({"id": "dubai", "name": "Dubai", "time_zone": "Asia/Dubai"})).await;
    assert_eq!((made.status, made.json()["time_zone"].as_str()), (201, Some("Asia/Dubai")), "{}", made.json());
    assert_eq!(make(json!({"id": "other", "name": "Other"})).await.json().get("time_zone"), None);
    let refused = make(json!({"id": "third", "name": "Third", "time_zone": "+15:00"})).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/time_zone".to_owned()]));

    let key = made.json()["key"]["secret"].as_str().unwrap().to_owned();
    let api = async |method: Method, path: &str, body: &Value| -> Answer {
        service.api_as(&key, method, &format!("/api/v1/{path}"), body).await
    };
    assert_eq!(api(Method::PUT, "templates/slots", &slots()).await.status, 201);
    let preview = api(Method::POST, "templates/slots/preview", &json!({"attributes": {"slot": SLOT}})).await;
    let header = preview.json()["apple"]["storeCard"]["headerFields"][0].clone();
    assert_eq!(header["value"], "2026-12-25T02:30:00+04:00", "{}", preview.json());
    service.stop().await;
}

#[test]
fn a_time_of_day_of_an_imported_pass_stays_the_shops_on_every_phone() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        let field = json!({"key": "slot", "label": "Your slot", "value": "2026-12-24T18:30+04:00",
            "dateStyle": "PKDateStyleNone", "timeStyle": "PKDateStyleShort", "ignoresTimeZone": true});
        let original = json!({
            "formatVersion": 1, "passTypeIdentifier": "pass.dev.passloom.sandbox", "teamIdentifier": "PASSLOOM00",
            "serialNumber": "case-0000000000000001", "organizationName": "Lindgren", "description": "Lindgren card",
            "foregroundColor": "rgb(0,0,0)", "backgroundColor": "rgb(240,240,230)",
            "storeCard": {"headerFields": [field]}});
        let archive = zip_of(&[("pass.json", original.to_string().as_bytes())]);
        let bearer = format!("Bearer {}", service.key);
        let headers = [("authorization", bearer.as_str())];
        let answer = service.send(Method::POST, "/api/v1/templates/import?id=slot", &headers, archive).await;
        assert_eq!(answer.status, 201, "{}", answer.json());
        let draft = service.api(Method::GET, "/api/v1/templates/slot", &Value::Null).await.json();
        assert_eq!(draft["time_zone"], "+04:00");
        service.put_image("slot", "icon", &png(114, 114)).await;
        let published = service.api(Method::POST, "/api/v1/templates/slot/publish", &Value::Null).await;
        assert_eq!(published.status, 200, "{}", published.json());
        let card = service.put_card("M-1", &json!({"template": "slot"})).await;
        let expected = json!({"key": "slot", "label": "Your slot", "value": "2026-12-24T18:30:00+04:00",
            "dateStyle": "PKDateStyleNone", "timeStyle": "PKDateStyleShort", "ignoresTimeZone": true});
        assert_eq!(pass(&service, &card).await["storeCard"]["headerFields"][0], expected);
        let (phone, serial) = service.phone_with(&card).await;
        assert_eq!(phone.field(&serial, "slot").as_deref(), Some("18:30"));
        service.stop().await;
    });
}

#[test]
fn a_locale_is_a_language_that_there_is_and_finds_the_nearest_of_the_template() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        let with = |locale: &str| {
            let mut card = anna(7);
            card["locale"] = json!(locale);
            card
        };
        for (given, shown, label) in
            [("lv", "lv", "Punkti"), ("LV-lv", "lv-LV", "Punkti"), ("de-AT", "de-AT", "Points")]
        {
            let card = service.put_card("M-1", &with(given)).await;
            assert_eq!(card["locale"], shown);
            assert!(page(&service, &card, "ja").await.contains(label), "{given}");
        }
        for bad in ["xx-nonsense", "english", "xx", "de_AT", ""] {
            for (method, body) in [(Method::PUT, with(bad)), (Method::PATCH, json!({"locale": bad}))] {
                let refused = service.api(method, "/api/v1/cards/M-1", &body).await;
                assert_eq!((refused.status, refused.pointers()), (422, vec!["/locale".to_owned()]), "{bad}");
                let detail = refused.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
                assert!(detail.contains("expected for example en, lv"), "{detail}");
            }
            let preview = service.api(Method::POST, "/api/v1/templates/bakery/preview", &json!({"locale": bad})).await;
            assert_eq!((preview.status, preview.pointers()), (422, vec!["/locale".to_owned()]), "{bad}");
        }
        assert_eq!(service.card("M-1").await["locale"], "de-AT");
        service.stop().await;
    });
}
