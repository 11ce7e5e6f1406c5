//! What a phone shows of a card, whatever its style: fields, places, and texts that name the card and its template.

use std::collections::BTreeMap;
use std::time::Duration;

use passloom::sandbox::phone::{Phone, Refreshed};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::reader::unzip;
use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_card_of_each_style_is_delivered_and_shows_its_new_value,
    a_places_text_stands_in_the_table_of_each_language,
    texts_may_name_the_card_and_its_template,
    a_field_without_a_value_is_left_out_until_it_has_one,
];

const STYLES: [&str; 5] = ["storeCard", "coupon", "generic", "eventTicket", "boardingPass"];
const GROUPS: [&str; 5] = ["headerFields", "primaryFields", "secondaryFields", "auxiliaryFields", "backFields"];

/// Changes a card; the push leaves, and the phone fetches what is new.
async fn change(service: &Service, phone: &mut Phone, card: &str, attributes: &Value) -> Vec<Refreshed> {
    service.patch_card(card, &json!({"attributes": attributes})).await;
    // A push may wait until the window after the one before has passed.
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(service.deliver().await, 1);
    service.wake(phone).await
}

/// A template of that style with a field in each group.
fn design(style: &str) -> Value {
    let mut document = json!({
        "name": "One of each", "organization": "Kuzina",
        "attributes": [
            {"name": "points", "type": "integer", "default": 0},
            {"name": "name", "type": "text", "personal": true},
            {"name": "until", "type": "date"},
            {"name": "credit", "type": "money", "currency": "EUR"}],
        "fields": {
            "header": [{"key": "points", "label": "Points", "value": "{{ points }}", "change_message": "Now %@"}],
            "primary": [{"key": "name", "label": "Member", "value": "{{ name }}"}],
            "secondary": [{"key": "until", "label": "Until", "value": "{{ until }}"}],
            "auxiliary": [{"key": "credit", "label": "Credit", "value": "{{ credit }}"}],
            "back": [{"key": "terms", "label": "Terms", "value": "{{ points }} points of {{ name }}"}]},
        "apple": {"style": style}
    });
    if style == "boardingPass" {
        document["apple"]["pass"] = json!({"boardingPass": {"transitType": "PKTransitTypeAir"}});
    }
    document
}

/// The style's dictionary in a pass of [`design`].
fn face(style: &str, points: i64) -> Value {
    let mut face = json!({
        "headerFields": [
            {"key": "points", "label": "Points", "value": points, "numberStyle": "PKNumberStyleDecimal"}],
        "primaryFields": [{"key": "name", "label": "Member", "value": "Anna"}],
        "secondaryFields": [{"key": "until", "label": "Until", "value": "2030-12-31T00:00:00Z",
            "dateStyle": "PKDateStyleMedium", "timeStyle": "PKDateStyleNone", "ignoresTimeZone": true}],
        "auxiliaryFields": [{"key": "credit", "label": "Credit", "value": 12.5, "currencyCode": "EUR"}],
        "backFields": [{"key": "terms", "label": "Terms", "value": format!("{points} points of Anna")},
            {"key": "passloom.message", "value": ""}]
    });
    if style == "boardingPass" {
        face["transitType"] = json!("PKTransitTypeAir");
    }
    face
}

async fn a_card_of_each_style_is_delivered_and_shows_its_new_value(database: TestDatabase) {
    let service = Service::start(&database).await;
    for style in STYLES {
        service.publish(style, &design(style)).await;
        let attributes = json!({"points": 3, "name": "Anna", "until": "2030-12-31", "credit": "12.50"});
        let card = service.put_card(style, &json!({"template": style, "attributes": attributes})).await;
        let (mut phone, serial) = service.phone_with(&card).await;
        assert_eq!(phone.passes()[&serial].pass[style], face(style, 3), "{style}");

        let refreshed = change(&service, &mut phone, style, &json!({"points": 7})).await;
        let notices: Vec<_> = refreshed.iter().map(|r| (r.serial.as_str(), r.notice.as_deref())).collect();
        assert_eq!(notices, [(serial.as_str(), Some("Now 7"))], "{style}");
        let mut expected = face(style, 7);
        expected["headerFields"][0]["changeMessage"] = json!("Now %@");
        let pass = &phone.passes()[&serial].pass;
        assert_eq!(pass[style], expected, "{style}");
        let styles: Vec<&str> = STYLES.into_iter().filter(|other| pass.get(other).is_some()).collect();
        assert_eq!(styles, [style]);
        let front: Vec<String> =
            phone.front(&serial).into_iter().map(|field| format!("{}: {}", field.label, field.value)).collect();
        assert_eq!(front, ["Points: 7", "Member: Anna", "Until: 2030-12-31", "Credit: 12.50 EUR"], "{style}");
        assert_eq!(phone.field(&serial, "terms").as_deref(), Some("7 points of Anna"), "{style}");
        assert!(phone.complaints().is_empty(), "{style}: {:?}", phone.complaints());
    }
    service.stop().await;
}

/// The files of a card's pass, as its page hands it out.
async fn files(service: &Service, card: &Value) -> BTreeMap<String, Vec<u8>> {
    let path = card["urls"]["apple"].as_str().unwrap().strip_prefix(&service.base).unwrap();
    let answer = service.send(Method::GET, path, &[], Vec::new()).await;
    assert_eq!(answer.status, 200);
    unzip(&answer.body)
}

/// What stands under a key in a language's table of a pass.
fn text_of(files: &BTreeMap<String, Vec<u8>>, language: &str, key: &str) -> Option<String> {
    let table = String::from_utf8(files[&format!("{language}.lproj/pass.strings")].clone()).unwrap();
    let start = format!("\"{key}\" = \"");
    let text = table.lines().find_map(|line| line.strip_prefix(start.as_str())?.strip_suffix("\";"));
    text.map(str::to_owned)
}

async fn a_places_text_stands_in_the_table_of_each_language(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["locations"] = json!([
        {"latitude": 56.9496, "longitude": 24.1052, "text": "Kuzina is near"},
        {"latitude": 56.5047, "longitude": 21.0108, "altitude": 12.5, "text": "Come in, {{ name }}"},
        {"latitude": 57.3129, "longitude": 25.2689, "text": "Cēsis"},
        {"latitude": -56.6511, "longitude": -23.7128}]);
    document["strings"]["lv"]["Kuzina is near"] = json!("Kuzina ir tuvu");
    document["strings"]["lv"]["Come in, {{ name }}"] = json!("Nāc iekšā, {{ name }}");
    document["strings"]["ru"]["Come in, {{ name }}"] = json!("Заходи, {{ name }}");
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // What is the same in every language needs no key.
    let expected = json!([
        {"latitude": 56.9496, "longitude": 24.1052, "relevantText": "l10n:locations.0.text"},
        {"latitude": 56.5047, "longitude": 21.0108, "altitude": 12.5, "relevantText": "l10n:locations.1.text"},
        {"latitude": 57.3129, "longitude": 25.2689, "relevantText": "Cēsis"},
        {"latitude": -56.6511, "longitude": -23.7128}]);
    let check = async |phone: &Phone, name: &str| {
        assert_eq!(phone.passes()[&serial].pass["locations"], expected);
        let files = files(&service, &card).await;
        let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
        assert_eq!(pass["locations"], expected);
        for (language, near, come) in [
            ("en", "Kuzina is near", "Come in"),
            ("lv", "Kuzina ir tuvu", "Nāc iekšā"),
            ("ru", "Kuzina is near", "Заходи"),
        ] {
            assert_eq!(text_of(&files, language, "l10n:locations.0.text").as_deref(), Some(near), "{language}");
            let come = format!("{come}, {name}");
            assert_eq!(text_of(&files, language, "l10n:locations.1.text"), Some(come), "{language}");
            assert_eq!(text_of(&files, language, "l10n:locations.2.text"), None, "{language}");
        }
    };
    check(&phone, "Anna").await;
    assert_eq!(change(&service, &mut phone, "M-1", &json!({"name": "Berta"})).await.len(), 1);
    check(&phone, "Berta").await;
    service.stop().await;
}

async fn texts_may_name_the_card_and_its_template(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"] = json!({
        "header": [{"key": "card", "value": "{{ card.id }}"}],
        "primary": [{"key": "owner", "value": "{{ name | default(card.id) }}"}],
        "secondary": [{"key": "design", "value": "{{ template.name | upper }} of {{ template.organization }}"}],
        "auxiliary": [{"key": "both", "value": "{{ template.id ~ '/' ~ card.id }}"}],
        "back": [
            {"key": "serial", "value": "No. {{ card.serial_number }}"},
            {"key": "template", "value": "{{ template.id }}"},
            {"key": "name", "value": "{{ template.name }}"},
            {"key": "organization", "value": "{{ template.organization }}"},
            {"key": "address", "value": "{{ card.url }}"},
            {"key": "page", "value": "Open", "link": "{{ card.url }}"}]});
    document["barcode"] = json!({"format": "qr", "value": "{{ card.url }}", "text": "{{ card.id | lower }}"});
    document["apple"]["pass"] = json!({"userInfo": {"serial": "{{ card.serial_number }}"}});
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(card["serial_number"], serial);
    let (number, page) = (format!("No. {serial}"), card["urls"]["page"].as_str().unwrap());
    for (key, text) in [
        ("card", "M-1"),
        ("owner", "M-1"),
        ("design", "BAKERY POINTS of Kuzina"),
        ("both", "bakery/M-1"),
        ("serial", number.as_str()),
        ("template", "bakery"),
        ("name", "Bakery points"),
        ("organization", "Kuzina"),
        ("address", page),
        ("page", "Open"),
    ] {
        assert_eq!(phone.field(&serial, key).as_deref(), Some(text), "{key}");
    }
    let pass = &phone.passes()[&serial].pass;
    assert_eq!(pass["storeCard"]["backFields"][5]["attributedValue"], format!("<a href=\"{page}\">Open</a>"));
    let barcode =
        json!({"format": "PKBarcodeFormatQR", "message": page, "messageEncoding": "iso-8859-1", "altText": "m-1"});
    assert_eq!((&pass["barcodes"], &pass["barcode"]), (&json!([barcode]), &barcode));
    assert_eq!(pass["userInfo"], json!({"serial": serial}));

    assert_eq!(change(&service, &mut phone, "M-1", &json!({"name": "Anna"})).await.len(), 1);
    assert_eq!(phone.field(&serial, "owner").as_deref(), Some("Anna"));
    service.stop().await;
}

/// The keys of a pass's fields, in the order in which it shows them.
fn keys(phone: &Phone, serial: &str) -> Vec<String> {
    let style = &phone.passes()[serial].pass["storeCard"];
    let fields = GROUPS.into_iter().flat_map(|group| style[group].as_array().unwrap());
    let fields = fields.filter(|field| field["value"] != ""); // places of fields that may appear
    fields.map(|field| field["key"].as_str().unwrap().to_owned()).collect()
}

async fn a_field_without_a_value_is_left_out_until_it_has_one(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // These two have a default, and the website needs none.
    assert_eq!(keys(&phone, &serial), ["points", "tier", "site"]);
    let shown = |phone: &Phone, key: &str| phone.field(&serial, key);
    assert_eq!(shown(&phone, "points").as_deref(), Some("0"));
    assert_eq!(shown(&phone, "tier").as_deref(), Some("basic"));

    assert_eq!(change(&service, &mut phone, "M-1", &json!({"name": "Anna"})).await.len(), 1);
    assert_eq!(keys(&phone, &serial), ["points", "tier", "name", "site", "hello"]);
    assert_eq!(shown(&phone, "name").as_deref(), Some("Anna"));
    assert_eq!(shown(&phone, "hello").as_deref(), Some("Hello Anna, have a bun"));

    let more = json!({"balance": "12.50", "expires_on": "2030-12-31"});
    assert_eq!(change(&service, &mut phone, "M-1", &more).await.len(), 1);
    assert_eq!(keys(&phone, &serial), ["points", "balance", "tier", "name", "until", "site", "hello"]);
    assert_eq!(shown(&phone, "balance").as_deref(), Some("12.50 EUR"));
    assert_eq!(shown(&phone, "until").as_deref(), Some("2030-12-31"));

    assert_eq!(change(&service, &mut phone, "M-1", &json!({"name": null})).await.len(), 1);
    assert_eq!(keys(&phone, &serial), ["points", "balance", "tier", "until", "site"]);
    service.stop().await;
}
