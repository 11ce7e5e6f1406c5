//! Every rule that a template can break is found by its check, with a pointer to where the template breaks it.

use std::collections::BTreeSet;
use std::path::Path;

use passloom::startup::{Contents, JobMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, png};
use crate::support::{Database, run};

/// Rules that no template can break: the service itself writes what they are about, or the API refuses it before.
const OUT_OF_REACH: &[&str] = &[
    // identity and web service are the service's
    "format-version",
    "pass-type-identifier-format",
    "team-identifier-format",
    "serial-number-short",
    "web-service-token-missing",
    "web-service-url-missing",
    "web-service-token-length",
    "web-service-version-suffix",
    // pass.json, tables and folders are written by the service
    "pass-json-encoding",
    "pass-json-parse",
    "pass-json-duplicate-key",
    "strings-encoding",
    "strings-parse",
    "strings-duplicate-key",
    "strings-misplaced",
    "lproj-name",
    "file-unknown",
    "zip-junk-file",
    "personalization-json",
    "personalization-incomplete",
    // every scale of a picture is made by the service, as PNG, in its role's size
    "image-icon-1x-missing",
    "image-icon-2x-missing",
    "image-icon-3x-missing",
    "image-name-unknown",
    "image-format",
    "image-corrupt",
    "image-oversize",
    "image-scale-mismatch",
];

fn card(style: &str, pass: Value) -> Value {
    json!({
        "name": "Card", "organization": "Kuzina",
        "attributes": [{"name": "note", "type": "text", "default": ""}],
        "fields": {"header": [{"key": "a", "label": "A", "value": "1"}]},
        "apple": {"style": style, "pass": pass}
    })
}

/// A store card with these members of pass.json.
fn store(pass: Value) -> Value {
    card("storeCard", pass)
}

/// A store card with one header field as it stands in pass.json.
fn field(field: Value) -> Value {
    store(json!({"storeCard": {"headerFields": [field]}}))
}

/// A code as it stands in pass.json.
fn code(format: &str, message: &str) -> Value {
    json!({"format": format!("PKBarcodeFormat{format}"), "message": message, "messageEncoding": "iso-8859-1"})
}

/// A poster event ticket with these semantics and more members.
fn event(semantics: Value, more: Value) -> Value {
    let mut pass = json!({"preferredStyleSchemes": ["posterEventTicket", "eventTicket"], "semantics": semantics});
    pass.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    card("eventTicket", pass)
}

/// A semantic boarding pass without any semantics.
fn flight() -> Value {
    let schemes = ["semanticBoardingPass", "boardingPass"];
    card("boardingPass", json!({"boardingPass": {"transitType": "PKTransitTypeAir"}, "preferredStyleSchemes": schemes}))
}

/// Rule, severity, pointer, and a template that breaks it there.
fn broken() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let fields =
        |count: usize| -> Value { (0..count).map(|n| json!({"key": format!("f{n}"), "value": "1"})).collect() };
    let with = |member: &str, value: Value| {
        let mut document = store(json!({}));
        document[member] = value;
        document
    };
    let place = json!({"latitude": 56.9, "longitude": 24.1});
    let beacon = json!({"proximityUUID": "01234567-89ab-cdef-0123-456789abcdef"});
    let action = |id: &str| json!({"identifier": id, "type": "shop", "url": "https://kuzina.example"});
    let upcoming = |entry: Value| event(json!({}), json!({"upcomingPassInformation": [entry]}));
    let entry = json!({"identifier": "a", "name": "A", "type": "event"});
    let message = |text: &str| {
        with(
            "fields",
            json!({"header": [{"key": "a", "value": "1"}, {"key": "b", "value": "2", "change_message": text}]}),
        )
    };
    let header = "/apple/pass/storeCard/headerFields/0";
    let at = |member: &str| -> &'static str { Box::leak(format!("{header}/{member}").into_boxed_str()) };
    vec![
        ("pass-required-key", "error", "/apple/pass/description", store(json!({"description": null}))),
        ("key-type", "error", "/apple/pass/sharingProhibited", store(json!({"sharingProhibited": "yes"}))),
        (
            "null-value",
            "warning",
            "/apple/pass/locations/0/altitude",
            store(json!({"locations": [{"latitude": 1, "longitude": 2, "altitude": null}]})),
        ),
        (
            "enum-value",
            "error",
            at("textAlignment"),
            field(json!({"key": "a", "value": "1", "textAlignment": "middle"})),
        ),
        ("unknown-key", "warning", "/apple/pass/shinyness", store(json!({"shinyness": 1}))),
        ("designer-id-key", "warning", at("_id"), field(json!({"key": "a", "value": "1", "_id": "x"}))),
        ("color-format", "error", "/apple/pass/backgroundColor", store(json!({"backgroundColor": "red"}))),
        ("date-format", "error", "/apple/pass/expirationDate", store(json!({"expirationDate": "tomorrow"}))),
        ("url-format", "error", "/apple/pass/sellURL", store(json!({"sellURL": "not an address"}))),
        ("expired", "warning", "/apple/pass/expirationDate", store(json!({"expirationDate": "2020-01-01T00:00Z"}))),
        ("style-missing", "error", "", store(json!({"storeCard": null}))),
        ("style-multiple", "error", "", store(json!({"coupon": {}}))),
        ("style-multiple-fallbacks", "warning", "", store(json!({"coupon": {}, "posterGeneric": {}}))),
        (
            "poster-generic-no-fallback",
            "warning",
            "/apple/pass/posterGeneric",
            store(json!({"storeCard": null, "posterGeneric": {}})),
        ),
        ("poster-generic-image", "warning", "/apple/pass/posterGeneric", store(json!({"posterGeneric": {}}))),
        (
            "scheme-unknown",
            "error",
            "/apple/pass/preferredStyleSchemes/0",
            store(json!({"preferredStyleSchemes": ["poster"]})),
        ),
        (
            "scheme-style-mismatch",
            "error",
            "/apple/pass/preferredStyleSchemes/0",
            store(json!({"preferredStyleSchemes": ["eventTicket"]})),
        ),
        (
            "scheme-no-fallback",
            "warning",
            "/apple/pass/preferredStyleSchemes",
            card("eventTicket", json!({"preferredStyleSchemes": ["posterEventTicket"]})),
        ),
        ("transit-type-missing", "error", "/apple/pass/boardingPass/transitType", card("boardingPass", json!({}))),
        (
            "transit-type-misplaced",
            "error",
            "/apple/pass/storeCard/transitType",
            store(json!({"storeCard": {"transitType": "PKTransitTypeAir"}})),
        ),
        ("field-key-missing", "error", at("key"), field(json!({"value": "1"}))),
        (
            "field-key-duplicate",
            "error",
            "/fields/back/1/key",
            with("fields", json!({"back": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]})),
        ),
        ("field-value-missing", "error", at("value"), field(json!({"key": "a"}))),
        ("field-count", "warning", "/fields/header", with("fields", json!({"header": fields(4)}))),
        ("field-count", "warning", "/fields/primary", with("fields", json!({"primary": fields(2)}))),
        ("field-count", "warning", "/fields/secondary", with("fields", json!({"secondary": fields(5)}))),
        (
            "field-group-style",
            "warning",
            "/apple/pass/storeCard/footerFields",
            store(json!({"storeCard": {"footerFields": fields(1)}})),
        ),
        (
            "field-text-alignment",
            "warning",
            "/apple/pass/storeCard/backFields/0/textAlignment",
            store(
                json!({"storeCard": {"backFields": [{"key": "b", "value": "1", "textAlignment": "PKTextAlignmentLeft"}]}}),
            ),
        ),
        (
            "field-currency-and-number-style",
            "error",
            at("numberStyle"),
            field(json!({"key": "a", "value": 1, "currencyCode": "EUR", "numberStyle": "PKNumberStyleDecimal"})),
        ),
        (
            "field-number-format",
            "error",
            at("value"),
            field(json!({"key": "a", "value": "1", "numberStyle": "PKNumberStyleDecimal"})),
        ),
        (
            "field-number-format",
            "warning",
            at("value"),
            field(json!({"key": "a", "value": "1", "currencyCode": "EUR"})),
        ),
        (
            "field-date-value",
            "error",
            at("value"),
            field(json!({"key": "a", "value": "x", "dateStyle": "PKDateStyleShort"})),
        ),
        ("field-date-option", "warning", at("isRelative"), field(json!({"key": "a", "value": 1, "isRelative": true}))),
        (
            "field-currency-code",
            "error",
            at("currencyCode"),
            field(json!({"key": "a", "value": 1, "currencyCode": "EURO"})),
        ),
        ("field-change-message", "warning", "/fields/header/1/change_message", message("It changed")),
        ("field-change-message", "error", "/fields/header/1/change_message", message("%@ of %@")),
        ("field-change-message", "error", "/fields/header/1/change_message", message("%d points: %@")),
        (
            "field-attributed-html",
            "warning",
            at("attributedValue"),
            field(json!({"key": "a", "value": "1", "attributedValue": "<b>1</b>"})),
        ),
        (
            "field-data-detectors",
            "warning",
            at("dataDetectorTypes"),
            field(json!({"key": "a", "value": "1", "dataDetectorTypes": []})),
        ),
        ("field-row", "error", at("row"), field(json!({"key": "a", "value": "1", "row": 2}))),
        ("field-row-misplaced", "warning", at("row"), field(json!({"key": "a", "value": "1", "row": 1}))),
        (
            "barcode-message-missing",
            "error",
            "/barcode/value",
            with("barcode", json!({"format": "qr", "value": "{{ note }}"})),
        ),
        (
            "barcode-encoding",
            "error",
            "/apple/pass/barcodes/0/messageEncoding",
            store(json!({"barcodes": [{"format": "PKBarcodeFormatQR", "message": "x"}]})),
        ),
        (
            "barcode-unencodable",
            "error",
            "/apple/pass/barcodes/0/message",
            store(json!({"barcodes": [code("QR", "ā")]})),
        ),
        (
            "barcode-content",
            "error",
            "/apple/pass/barcodes/0/message",
            store(json!({"barcodes": [code("EAN13", "40"), code("QR", "40")]})),
        ),
        (
            "barcode-i2of5-odd",
            "warning",
            "/apple/pass/barcodes/0/message",
            store(json!({"barcodes": [code("I2of5", "123"), code("QR", "123")]})),
        ),
        (
            "barcode-too-long",
            "error",
            "/apple/pass/barcodes/0/message",
            store(json!({"barcodes": [code("Aztec", &"x".repeat(3000))]})),
        ),
        (
            "barcode-legacy-fallback",
            "warning",
            "/apple/pass/barcodes",
            store(json!({"barcodes": [code("Code39", "A")]})),
        ),
        ("barcode-deprecated-only", "warning", "/apple/pass/barcode", store(json!({"barcode": code("QR", "A")}))),
        (
            "barcode-duplicate",
            "warning",
            "/apple/pass/barcodes/1",
            store(json!({"barcodes": [code("QR", "A"), code("QR", "A")]})),
        ),
        (
            "nfc-message-length",
            "error",
            "/apple/pass/nfc/message",
            store(json!({"nfc": {"message": "x".repeat(65), "encryptionPublicKey": "AAAA"}})),
        ),
        (
            "nfc-public-key",
            "error",
            "/apple/pass/nfc/encryptionPublicKey",
            store(json!({"nfc": {"message": "x", "encryptionPublicKey": "AAAA"}})),
        ),
        ("locations-count", "error", "/apple/pass/locations", store(json!({"locations": vec![place; 11]}))),
        (
            "location-coordinates",
            "error",
            "/apple/pass/locations/0/longitude",
            store(json!({"locations": [{"latitude": 1}]})),
        ),
        ("beacons-count", "error", "/apple/pass/beacons", store(json!({"beacons": vec![beacon; 11]}))),
        (
            "beacon-uuid",
            "error",
            "/apple/pass/beacons/0/proximityUUID",
            store(json!({"beacons": [{"proximityUUID": "x"}]})),
        ),
        (
            "beacon-number",
            "error",
            "/apple/pass/beacons/0/major",
            store(json!({"beacons": [{"proximityUUID": "01234567-89ab-cdef-0123-456789abcdef", "major": 65536}]})),
        ),
        ("max-distance", "error", "/apple/pass/maxDistance", store(json!({"maxDistance": 0}))),
        ("relevant-date-entry", "error", "/apple/pass/relevantDates/0", store(json!({"relevantDates": [{}]}))),
        (
            "relevant-date-order",
            "error",
            "/apple/pass/relevantDates/0/endDate",
            store(json!({"relevantDates": [{"startDate": "2030-01-01T10:00Z", "endDate": "2030-01-01T09:00Z"}]})),
        ),
        (
            "relevant-date-span",
            "warning",
            "/apple/pass/relevantDates/0",
            store(json!({"relevantDates": [{"startDate": "2030-01-01T10:00Z", "endDate": "2030-01-03T09:00Z"}]})),
        ),
        (
            "relevant-date-deprecated",
            "warning",
            "/apple/pass/relevantDate",
            store(json!({"relevantDate": "2030-01-01T10:00Z"})),
        ),
        ("web-service-https", "warning", "", store(json!({}))),
        ("app-launch-without-store", "error", "/apple/pass/appLaunchURL", store(json!({"appLaunchURL": "app://x"}))),
        ("event-nfc-missing", "error", "/apple/pass/nfc", event(json!({}), json!({}))),
        ("event-barcode-only", "warning", "/apple/pass/nfc", event(json!({}), json!({"barcodes": [code("QR", "A")]}))),
        (
            "event-nfc-auth-missing",
            "error",
            "/apple/pass/nfc/requiresAuthentication",
            event(json!({}), json!({"nfc": {"message": "x", "encryptionPublicKey": "AAAA"}})),
        ),
        ("event-name-missing", "error", "/apple/pass/semantics/eventName", event(json!({}), json!({}))),
        ("event-venue-missing", "error", "/apple/pass/semantics/venueName", event(json!({}), json!({}))),
        ("event-start-missing", "warning", "/apple/pass/semantics/eventStartDate", event(json!({}), json!({}))),
        (
            "event-end-before-start",
            "warning",
            "/apple/pass/semantics/eventEndDate",
            event(json!({"eventStartDate": "2030-01-01T10:00Z", "eventEndDate": "2030-01-01T09:00Z"}), json!({})),
        ),
        (
            "event-away-team-missing",
            "error",
            "/apple/pass/semantics/awayTeamAbbreviation",
            event(json!({"eventType": "PKEventTypeSports"}), json!({})),
        ),
        (
            "event-home-team-missing",
            "error",
            "/apple/pass/semantics/homeTeamAbbreviation",
            event(json!({"eventType": "PKEventTypeSports"}), json!({})),
        ),
        (
            "event-performers-missing",
            "error",
            "/apple/pass/semantics/performerNames",
            event(json!({"eventType": "PKEventTypeLivePerformance"}), json!({})),
        ),
        (
            "event-artist-ids-missing",
            "warning",
            "/apple/pass/semantics/artistIDs",
            event(json!({"eventType": "PKEventTypeLivePerformance"}), json!({})),
        ),
        ("event-artwork-missing", "error", "", event(json!({}), json!({}))),
        ("event-venue-region-missing", "warning", "/apple/pass/semantics", event(json!({}), json!({}))),
        ("seats-missing", "warning", "/apple/pass/semantics/seats", event(json!({}), json!({}))),
        ("boarding-airline-code-missing", "error", "/apple/pass/semantics/airlineCode", flight()),
        ("boarding-flight-number-missing", "error", "/apple/pass/semantics/flightNumber", flight()),
        ("boarding-departure-date-missing", "error", "/apple/pass/semantics/originalDepartureDate", flight()),
        ("boarding-boarding-date-missing", "error", "/apple/pass/semantics/originalBoardingDate", flight()),
        ("boarding-arrival-date-missing", "error", "/apple/pass/semantics/originalArrivalDate", flight()),
        ("boarding-departure-time-zone-missing", "error", "/apple/pass/semantics/departureLocationTimeZone", flight()),
        ("boarding-departure-airport-missing", "error", "/apple/pass/semantics/departureAirportCode", flight()),
        ("boarding-departure-city-missing", "warning", "/apple/pass/semantics/departureCityName", flight()),
        (
            "boarding-destination-time-zone-missing",
            "warning",
            "/apple/pass/semantics/destinationLocationTimeZone",
            flight(),
        ),
        ("boarding-destination-airport-missing", "error", "/apple/pass/semantics/destinationAirportCode", flight()),
        ("boarding-destination-city-missing", "warning", "/apple/pass/semantics/destinationCityName", flight()),
        ("boarding-passenger-missing", "error", "/apple/pass/semantics/passengerName", flight()),
        (
            "actions-count",
            "error",
            "/apple/pass/featuredActions",
            store(json!({"featuredActions": [action("a"), action("b"), action("c")]})),
        ),
        (
            "action-key-missing",
            "error",
            "/apple/pass/featuredActions/0/type",
            store(json!({"featuredActions": [{"identifier": "a", "url": "https://kuzina.example"}]})),
        ),
        (
            "action-duplicate-identifier",
            "error",
            "/apple/pass/featuredActions/1/identifier",
            store(json!({"featuredActions": [action("a"), action("a")]})),
        ),
        (
            "action-type-unknown",
            "warning",
            "/apple/pass/featuredActions/0/type",
            store(json!({"featuredActions": [{"identifier": "a", "type": "dance", "url": "https://kuzina.example"}]})),
        ),
        (
            "action-place-unrendered",
            "warning",
            "/apple/pass/featuredActions/0/type",
            store(json!({"featuredActions": [{"identifier": "a", "type": "place", "placeIdentifier": "x"}]})),
        ),
        (
            "action-style",
            "warning",
            "/apple/pass/featuredActions",
            event(json!({}), json!({"featuredActions": [action("a")]})),
        ),
        (
            "upcoming-key-missing",
            "error",
            "/apple/pass/upcomingPassInformation/0/name",
            upcoming(json!({"identifier": "a", "type": "event"})),
        ),
        (
            "upcoming-duplicate-identifier",
            "error",
            "/apple/pass/upcomingPassInformation/1/identifier",
            event(json!({}), json!({"upcomingPassInformation": [entry.clone(), entry.clone()]})),
        ),
        (
            "upcoming-image",
            "error",
            "/apple/pass/upcomingPassInformation/0/images/venueMap/URLs/0/SHA256",
            upcoming(json!({"identifier": "a", "name": "A", "type": "event",
                "images": {"venueMap": {"URLs": [{"URL": "https://kuzina.example/a.png", "SHA256": "x"}]}}})),
        ),
        (
            "upcoming-style",
            "warning",
            "/apple/pass/upcomingPassInformation",
            store(json!({"upcomingPassInformation": [entry]})),
        ),
        (
            "upcoming-key-spelling",
            "warning",
            "/apple/pass/upcomingPassInformation/0/urls",
            upcoming(json!({"identifier": "a", "name": "A", "type": "event", "urls": []})),
        ),
        ("image-icon-missing", "error", "/images/icon", store(json!({}))),
        ("color-contrast", "warning", "/colors/background", with("colors", json!({"background": "#101010"}))),
        (
            "color-contrast",
            "warning",
            "/colors/label",
            with("colors", json!({"background": "#fff", "foreground": "#000", "label": "#eee"})),
        ),
        // beyond the catalogue of passes
        (
            "color-contrast",
            "warning",
            "/tiers/looks/gold/colors/foreground",
            tiered(json!({"gold": {"colors": {"foreground": "#1B4D3E"}}})),
        ),
        (
            "color-contrast",
            "warning",
            "/tiers/looks/gold/colors/background",
            tiered(json!({"gold": {"colors": {"background": "#ffffff"}}})),
        ),
        ("field-change-message", "error", "/strings/lv/Now ~1 %@ points", translated("lv", "%d punkti")),
        ("field-change-message", "error", "/strings/lv/Now ~1 %@ points", translated("lv", "%@ no %@")),
        ("field-change-message", "error", "/strings/lv/Now ~1 %@ points", translated("lv", "%1$@ punkti")),
        ("field-change-message", "warning", "/strings/lv/Now ~1 %@ points", translated("lv", "Jauni punkti")),
        ("field-change-message", "error", "/fields/header/0/change_message", {
            let mut document = translated("lv", "Punkti: %@");
            document["fields"]["header"][0]["change_message"] = json!("%@ of %@");
            document
        }),
        ("translation-missing", "warning", "/fields/header/0/label", translated("lv", "Punkti: %@")),
        ("translation-table-empty", "warning", "/strings/ru", translated("lv", "Punkti: %@")),
        ("translation-table-empty", "warning", "/languages/3", translated("lv", "Punkti: %@")),
        ("language-unknown", "warning", "/languages/4", translated("lv", "Punkti: %@")),
        (
            "expression-failed",
            "error",
            "/fields/header/0/value",
            // What fails for values that are tried is refused when it is put; this knows one address only.
            with(
                "fields",
                json!({"header": [{"key": "a", "value": "{{ {'https://cards.example/c/sample': 1}[card.url] }}"}]}),
            ),
        ),
    ]
}

/// Dark green with white texts, and these looks of tiers.
fn tiered(looks: Value) -> Value {
    let mut document = store(json!({}));
    document["colors"] = json!({"background": "#1B4D3E", "foreground": "#ffffff"});
    document["attributes"] =
        json!([{"name": "tier", "type": "choice", "choices": ["basic", "gold"], "default": "basic"}]);
    document["tiers"] = json!({"attribute": "tier", "looks": looks});
    document
}

/// A change message with one translation, beside a language without a table, an empty one, and one that there isn't.
fn translated(language: &str, message: &str) -> Value {
    let mut document = store(json!({}));
    document["languages"] = json!(["en", "lv", "ru", "de", "qq"]);
    document["strings"] = json!({language: {"Now / %@ points": message}, "ru": {}});
    document["fields"] =
        json!({"header": [{"key": "a", "label": "Points", "value": "1", "change_message": "Now / %@ points"}]});
    document
}

async fn found(service: &Service, id: &str, document: &Value) -> Vec<(String, String, String)> {
    let put = service.api(Method::PUT, &format!("/api/v1/templates/{id}"), document).await;
    assert!([200, 201].contains(&put.status), "{}", put.json());
    let checked = service.api(Method::POST, &format!("/api/v1/templates/{id}/check"), &Value::Null).await;
    let issues = checked.json()["issues"].as_array().unwrap().clone();
    let text = |issue: &Value, name: &str| issue[name].as_str().unwrap().to_owned();
    issues.iter().map(|i| (text(i, "rule"), text(i, "severity"), text(i, "pointer"))).collect()
}

#[test]
fn every_rule_that_a_template_can_break_is_found_where_it_is_broken() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        let mut missed = Vec::new();
        for (rule, severity, pointer, document) in broken() {
            let found = found(&service, "broken", &document).await;
            if !found.iter().any(|(r, s, p)| (r.as_str(), s.as_str(), p.as_str()) == (rule, severity, pointer)) {
                let near: Vec<_> = found.iter().filter(|(r, ..)| r == rule).collect();
                missed.push(format!("{severity} {rule} {pointer}: {near:?}"));
            }
        }
        assert!(missed.is_empty(), "{missed:#?}");

        // Rules on pictures need pictures.
        service.put_image("broken", "thumbnail", &png(300, 100)).await;
        let unused = found(&service, "broken", &store(json!({}))).await;
        assert!(
            unused.contains(&("image-style-unused".into(), "warning".into(), "/images/thumbnail".into())),
            "{unused:?}"
        );
        let flat = found(&service, "broken", &card("generic", json!({}))).await;
        assert!(flat.contains(&("image-dimensions".into(), "warning".into(), "/images/thumbnail".into())), "{flat:?}");
        service.put_image("broken", "strip", &png(375, 98)).await;
        let both = found(&service, "broken", &card("eventTicket", json!({}))).await;
        assert!(
            both.iter().any(|(r, s, _)| (r.as_str(), s.as_str()) == ("event-strip-conflict", "warning")),
            "{both:?}"
        );
        service.stop().await;
    });
}

#[test]
fn pictures_that_no_card_shows_well_are_found() {
    run(Database::Sqlite, async |database| {
        let service = Service::start(&database).await;
        let mut document = tiered(json!({"gold": {}}));
        document["attributes"] = json!([
            {"name": "tier", "type": "choice", "choices": ["basic", "gold"], "default": "basic"},
            {"name": "stamps", "type": "integer", "default": 0}]);
        document["images"] = json!({"strip": "{{ stamps }}"});
        document["languages"] = json!(["en", "lv"]);
        document["strings"] = json!({"lv": {"Kuzina": "Kuzina", "A": "B"}});
        assert!(found(&service, "card", &document).await.iter().all(|(rule, ..)| rule != "image-choice-missing"));
        for (role, picture) in [
            ("icon", png(114, 114)),
            ("logo", png(480, 20)),
            ("logo?locale=lv", png(480, 20)),
            ("logo?locale=en", png(480, 20)),
            ("logo?tier=gold", png(480, 20)),
            ("strip@0", png(1125, 432)),
            ("strip@10", png(1125, 432)),
            ("strip@9", png(1125, 432)),
        ] {
            service.put_image("card", role, &picture).await;
        }
        let about_pictures = |issues: Vec<(String, String, String)>| -> Vec<(String, String, String)> {
            issues.into_iter().filter(|(_, _, at)| at.starts_with("/images/")).collect()
        };
        let issue = |rule: &str, at: &str| (rule.to_owned(), "warning".to_owned(), format!("/images/{at}"));
        let sound = about_pictures(found(&service, "card", &document).await);
        assert_eq!(sound, [issue("image-choice-missing", "strip")]);
        let checked = service.api(Method::POST, "/api/v1/templates/card/check", &Value::Null).await.json();
        let detail = checked["issues"].as_array().unwrap().iter().find(|i| i["rule"] == "image-choice-missing");
        let detail = detail.unwrap()["detail"].as_str().unwrap();
        let advice = "the largest is strip@10. Add pictures, or stay at it: {{ stamps if stamps < 10 else 10 }}";
        assert!(detail.contains("stamps of 11") && detail.contains(advice), "{detail}");
        document["images"] = json!({"strip": "{{ stamps if stamps < 10 else 10 }}"});
        assert_eq!(about_pictures(found(&service, "card", &document).await), []);

        for (role, picture) in [
            ("icon", png(76, 76)),
            ("logo?locale=de", png(480, 150)),
            ("logo?tier=platinum", png(480, 150)),
            ("strip@9", png(750, 288)),
        ] {
            service.put_image("card", role, &picture).await;
        }
        let mut broken = about_pictures(found(&service, "card", &document).await);
        broken.sort();
        let expected = [
            issue("image-language-undeclared", "logo"),
            issue("image-tier-undeclared", "logo"),
            issue("image-too-small", "icon"),
            issue("image-too-small", "strip@9"),
        ];
        assert_eq!(broken, expected);
        service.stop().await;
    });
}

#[test]
fn a_text_that_can_not_be_read_and_a_message_that_is_no_format_are_found_before_customers_find_them() {
    run(Database::Sqlite, async |database| {
        let service = Service::start_with(&database, Contents::Starters, JobMode::ByHand).await;
        let templates = service.api(Method::GET, "/api/v1/templates", &Value::Null).await.json();
        for template in templates["data"].as_array().unwrap() {
            let path = format!("/api/v1/templates/{}/check", template["id"].as_str().unwrap());
            let issues = service.api(Method::POST, &path, &Value::Null).await.json()["issues"].clone();
            let rules: Vec<&str> = issues.as_array().unwrap().iter().map(|i| i["rule"].as_str().unwrap()).collect();
            // Its own address is this machine's.
            assert_eq!(rules, ["web-service-https"], "{}: {issues:#}", template["id"]);
        }
        let refused = {
            let put = service.api(Method::PUT, "/api/v1/templates/x", &translated("lv", "%d punkti")).await;
            assert_eq!(put.status, 201);
            service.put_image("x", "icon", &png(114, 114)).await;
            service.api(Method::POST, "/api/v1/templates/x/publish", &Value::Null).await
        };
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/strings/lv/Now ~1 %@ points".to_owned()]));
        service.stop().await;
    });
}

/// The names that stand first in the calls by which rules report.
fn rules_of_the_catalogue() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wallets/apple/rules");
    let mut rules = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests.rs") || path.ends_with("report.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for quoted in text.split('"').skip(1).step_by(2) {
            let word =
                |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            if quoted.contains('-') && quoted.split('-').all(word) {
                rules.insert(quoted.to_owned());
            }
        }
    }
    rules
}

#[test]
fn the_table_of_broken_templates_names_every_rule_of_the_catalogue() {
    let mut named: BTreeSet<String> = broken().into_iter().map(|(rule, ..)| rule.to_owned()).collect();
    named.extend(OUT_OF_REACH.iter().map(ToString::to_string));
    named.extend(["image-style-unused", "image-dimensions", "event-strip-conflict"].map(str::to_owned));
    let rules = rules_of_the_catalogue();
    assert!(rules.len() > 100, "{} rules were found", rules.len());
    let encodings = [
        "iso-8859-",
        "utf-",
        "us-ascii",
        "windows-",
        "euc-",
        "iso-2022",
        "shift-",
        "koi8-",
        "big5-",
        "gb",
        "hz-",
        "tis-",
        "20",
    ];
    let missing: Vec<_> =
        rules.iter().filter(|rule| !named.contains(*rule) && !encodings.iter().any(|e| rule.starts_with(e))).collect();
    assert!(missing.is_empty(), "{missing:?} are neither broken by a template here nor known to be out of reach");
}
