use std::io::Cursor;

use base64::Engine;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn context() -> Context {
    Context { now: Timestamp::from_seconds(1_795_000_000), own_addresses: OwnAddresses::Public }
}

fn base() -> Value {
    json!({
        "formatVersion": 1, "passTypeIdentifier": "pass.com.example.loyalty", "teamIdentifier": "ABCDE12345",
        "serialNumber": "0192f0c1-2233-7000-8000-000000000001", "organizationName": "Bakery", "description": "Points card",
        "storeCard": {"headerFields": [{"key": "points", "label": "Points", "value": 120}]}
    })
}

/// Returns the base pass with members replaced; null removes one.
fn with(changes: Value) -> Value {
    let mut pass = base();
    for (key, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            pass.as_object_mut().expect("an object").remove(key);
        } else {
            pass[key] = value.clone();
        }
    }
    pass
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbaImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}

fn icons() -> Files {
    [("icon.png", 38), ("icon@2x.png", 76), ("icon@3x.png", 114)]
        .map(|(name, side)| (name.to_owned(), png(side, side)))
        .into_iter()
        .collect()
}

/// Returns the issues as `E rule pointer` or `W rule pointer`.
fn short(issues: &[Issue]) -> Vec<String> {
    let letter = |issue: &Issue| if issue.severity == Severity::Error { 'E' } else { 'W' };
    issues.iter().map(|issue| format!("{} {} {}", letter(issue), issue.rule, issue.pointer)).collect()
}

#[track_caller]
fn breaks(changes: Value, expected: &[&str]) {
    let mut found = short(&check_pass(&with(changes.clone()), &icons(), &context()));
    let mut expected = expected.to_vec();
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected, "for {changes}");
}

/// Returns a pass with one store card field in a group.
fn field(group: &str, field: Value) -> Value {
    json!({"storeCard": {group: [field]}})
}

#[test]
fn a_sound_pass_breaks_no_rule() {
    breaks(json!({}), &[]);
}

#[test]
fn identity_is_required_and_well_formed() {
    breaks(json!({"description": null}), &["E pass-required-key /description"]);
    breaks(json!({"organizationName": " "}), &["E pass-required-key /organizationName"]);
    breaks(json!({"formatVersion": 2}), &["E format-version /formatVersion"]);
    breaks(json!({"formatVersion": "1"}), &["E format-version /formatVersion", "E key-type /formatVersion"]);
    breaks(json!({"passTypeIdentifier": "com.example"}), &["E pass-type-identifier-format /passTypeIdentifier"]);
    breaks(json!({"passTypeIdentifier": "pass."}), &["E pass-type-identifier-format /passTypeIdentifier"]);
    breaks(json!({"teamIdentifier": "abcde12345"}), &["W team-identifier-format /teamIdentifier"]);
    breaks(json!({"serialNumber": "short"}), &["W serial-number-short /serialNumber"]);
    breaks(json!({"expirationDate": "2020-01-01T00:00Z"}), &["W expired /expirationDate"]);
}

#[test]
fn a_pass_has_one_classic_style_and_perhaps_a_poster_beside_it() {
    breaks(json!({"storeCard": null}), &["E style-missing "]);
    breaks(json!({"coupon": {}}), &["E style-multiple "]);
    breaks(
        json!({"coupon": {}, "posterGeneric": {}}),
        &["W style-multiple-fallbacks ", "W poster-generic-image /posterGeneric"],
    );
    breaks(
        json!({"storeCard": null, "posterGeneric": {}}),
        &["W poster-generic-no-fallback /posterGeneric", "W poster-generic-image /posterGeneric"],
    );
    breaks(json!({"storeCard": null, "boardingPass": {}}), &["E transit-type-missing /boardingPass/transitType"]);
    breaks(
        json!({"storeCard": {"transitType": "PKTransitTypeAir"}}),
        &["E transit-type-misplaced /storeCard/transitType"],
    );
    breaks(
        json!({"preferredStyleSchemes": ["poster", "eventTicket"]}),
        &["E scheme-unknown /preferredStyleSchemes/0", "E scheme-style-mismatch /preferredStyleSchemes/1"],
    );
}

#[test]
fn fields_have_a_key_a_value_and_a_format_that_fits() {
    let header = "/storeCard/headerFields/0";
    let one = |value: Value, rule: &str| breaks(field("headerFields", value), &[rule]);
    one(json!({"value": 1}), &format!("E field-key-missing {header}/key"));
    one(json!({"key": "a"}), &format!("E field-value-missing {header}/value"));
    one(
        json!({"key": "a", "value": 1, "currencyCode": "EURO"}),
        &format!("E field-currency-code {header}/currencyCode"),
    );
    one(
        json!({"key": "a", "value": "12", "numberStyle": "PKNumberStyleDecimal"}),
        &format!("E field-number-format {header}/value"),
    );
    one(json!({"key": "a", "value": "12", "currencyCode": "EUR"}), &format!("W field-number-format {header}/value"));
    one(
        json!({"key": "a", "value": 1, "currencyCode": "EUR", "numberStyle": "PKNumberStyleDecimal"}),
        &format!("E field-currency-and-number-style {header}/numberStyle"),
    );
    one(
        json!({"key": "a", "value": "soon", "dateStyle": "PKDateStyleShort"}),
        &format!("E field-date-value {header}/value"),
    );
    one(json!({"key": "a", "value": 1, "isRelative": true}), &format!("W field-date-option {header}/isRelative"));
    one(
        json!({"key": "a", "value": 1, "dataDetectorTypes": []}),
        &format!("W field-data-detectors {header}/dataDetectorTypes"),
    );
    one(json!({"key": "a", "value": 1, "row": 0}), &format!("W field-row-misplaced {header}/row"));
    breaks(
        json!({"storeCard": {"headerFields": [{"key": "a", "value": 1}], "backFields": [{"key": "a", "value": 1, "textAlignment": "PKTextAlignmentLeft"}]}}),
        &[
            "E field-key-duplicate /storeCard/backFields/0/key",
            "W field-text-alignment /storeCard/backFields/0/textAlignment",
        ],
    );
}

#[test]
fn a_change_message_has_the_new_value_once_and_no_other_code() {
    let pointer = "field-change-message /storeCard/headerFields/0/changeMessage";
    for (message, expected) in [
        ("You have %@ points", None),
        ("100%% sure: %@", None),
        ("Something changed", Some("W")),
        ("%@ of %@", Some("E")),
        ("%d points", Some("E")),
        ("%1$@", Some("E")),
        ("10% off: %@", Some("E")),
        ("%@ is 5%", Some("E")),
    ] {
        let expected: Vec<String> = expected.iter().map(|letter| format!("{letter} {pointer}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        breaks(field("headerFields", json!({"key": "a", "value": 1, "changeMessage": message})), &expected);
    }
}

#[test]
fn a_message_is_a_format_in_every_language_of_the_pass() {
    let pass = with(field("headerFields", json!({"key": "a", "value": 1, "changeMessage": "m %@"})));
    let table = |text: &str| format!("\"m %@\" = \"{text}\";\n\"other\" = \"100% %d\";").into_bytes();
    files_break(
        &pass,
        &[("de.lproj/pass.strings", table("Jetzt %@")), ("en.lproj/pass.strings", table("Now %@"))],
        &[],
    );
    files_break(
        &pass,
        &[
            ("de.lproj/pass.strings", table("Jetzt %d")),
            ("en.lproj/pass.strings", table("Now")),
            ("lv.lproj/pass.strings", table("%@ no %@")),
        ],
        &[
            "E field-change-message de.lproj/pass.strings",
            "W field-change-message en.lproj/pass.strings",
            "E field-change-message lv.lproj/pass.strings",
        ],
    );
}

#[test]
fn texts_stand_out_from_what_lies_behind_them() {
    let colours = |background: &str, foreground: Option<&str>, label: Option<&str>| {
        let mut colours = json!({"backgroundColor": background});
        for (key, colour) in [("foregroundColor", foreground), ("labelColor", label)] {
            if let Some(colour) = colour {
                colours[key] = json!(colour);
            }
        }
        colours
    };
    breaks(colours("#1B4D3E", Some("#FFF6E5"), Some("#F2D59B")), &[]);
    breaks(colours("#f0f0e6", None, None), &[]);
    breaks(colours("#ffffff", Some("#ffffff"), None), &["W color-contrast /foregroundColor"]);
    breaks(
        colours("#ffffff", Some("#fefefe"), Some("rgb(255, 255, 255)")),
        &["W color-contrast /foregroundColor", "W color-contrast /labelColor"],
    );
    breaks(colours("#101010", None, Some("#ffffff")), &["W color-contrast /backgroundColor"]);
    // The limit itself: #949494 on white is 3.03 to 1, #959595 2.99.
    breaks(colours("#ffffff", Some("#949494"), None), &[]);
    breaks(colours("#ffffff", Some("#959595"), None), &["W color-contrast /foregroundColor"]);
    let found = check_pass(&with(colours("#101010", None, None)), &icons(), &context());
    let expected = "the contrast of text in black (Wallet's choice, as no colour is given) on #101010 is 1.1:1; \
                    expected at least 3:1, better 4.5:1";
    assert_eq!(found.iter().map(|issue| issue.detail.as_str()).collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_primary_field_stands_out_from_the_strip_behind_it() {
    let strip = |left: u8, right: u8| {
        let mut bytes = Cursor::new(Vec::new());
        let picture = image::RgbaImage::from_fn(375, 144, |x, _| {
            let light = if x < 250 { left } else { right };
            image::Rgba([light, light, light, 255])
        });
        picture.write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
        bytes.into_inner()
    };
    let mut pass = with(field("primaryFields", json!({"key": "a", "value": 1})));
    for (key, colour) in [("backgroundColor", "#000000"), ("foregroundColor", "#ffffff"), ("labelColor", "#ffff00")] {
        pass[key] = json!(colour);
    }
    let light = ["W color-contrast /foregroundColor", "W color-contrast /labelColor"];
    files_break(&pass, &[("strip.png", strip(40, 40))], &[]);
    files_break(&pass, &[("strip.png", strip(250, 40))], &light);
    files_break(&pass, &[("strip.png", strip(40, 250))], &[]);
    files_break(&pass, &[("de.lproj/strip.png", strip(40, 40)), ("en.lproj/strip.png", strip(250, 40))], &light);
    pass["storeCard"]["primaryFields"] = json!([]);
    files_break(&pass, &[("strip.png", strip(250, 250))], &[]);
}

#[test]
fn attributed_values_hold_plain_links_only() {
    let rule = "W field-attributed-html /storeCard/backFields/0/attributedValue";
    for (markup, expected) in [
        ("see <a href=\"https://example.com\">us</a> &amp; more", &[][..]),
        ("<b>bold</b>", &[rule]),
        ("<a href='x'><a href='y'>z</a></a>", &[rule]),
        ("1 < 2", &[rule]),
        ("<a>x</a>", &[rule]),
    ] {
        breaks(field("backFields", json!({"key": "a", "value": "x", "attributedValue": markup})), expected);
    }
}

#[test]
fn too_many_fields_and_groups_of_other_styles_are_named() {
    let fields = |count: usize| -> Value { (0..count).map(|n| json!({"key": n.to_string(), "value": n})).collect() };
    breaks(json!({"storeCard": {"headerFields": fields(4)}}), &["W field-count /storeCard/headerFields"]);
    breaks(json!({"storeCard": {"primaryFields": fields(2)}}), &["W field-count /storeCard/primaryFields"]);
    let shared = json!({"storeCard": {"secondaryFields": fields(3), "auxiliaryFields": [
        {"key": "x", "value": 1}, {"key": "y", "value": 1}]}});
    breaks(shared, &["W field-count /storeCard/auxiliaryFields"]);
    breaks(json!({"storeCard": {"footerFields": fields(1)}}), &["W field-group-style /storeCard/footerFields"]);
}

#[test]
fn barcodes_can_be_drawn_and_read() {
    let code =
        |format: &str, message: &str| json!({"format": format, "message": message, "messageEncoding": "iso-8859-1"});
    let one = |format: &str, message: &str, expected: &[&str]| {
        breaks(json!({"barcodes": [code(format, message), code("PKBarcodeFormatQR", "x")]}), expected);
    };
    one("PKBarcodeFormatAztec", "M-1001", &[]);
    one("PKBarcodeFormatPDF417", "", &["E barcode-message-missing /barcodes/0/message"]);
    one("PKBarcodeFormatPDF417", "ā", &["E barcode-unencodable /barcodes/0/message"]);
    one("PKBarcodeFormatEAN13", "4006381333931", &[]);
    one("PKBarcodeFormatEAN13", "400638133393", &[]);
    one("PKBarcodeFormatEAN13", "4006381333932", &["E barcode-content /barcodes/0/message"]);
    one("PKBarcodeFormatEAN13", "40", &["E barcode-content /barcodes/0/message"]);
    one("PKBarcodeFormatI2of5", "123", &["W barcode-i2of5-odd /barcodes/0/message"]);
    one("PKBarcodeFormatCode39", "abc", &["E barcode-content /barcodes/0/message"]);
    one("PKBarcodeFormatCodabar", "A12-3B", &[]);
    one("PKBarcodeFormatCodabar", "A123", &["E barcode-content /barcodes/0/message"]);
    one("PKBarcodeFormatAztec", &"x".repeat(2000), &["E barcode-too-long /barcodes/0/message"]);
    one("PKBarcodeFormatQR", "x", &["W barcode-duplicate /barcodes/1"]);
    one("PKBarcodeFormatITF", "12", &["E enum-value /barcodes/0/format"]);
    breaks(json!({"barcodes": [code("PKBarcodeFormatCode39", "A")]}), &["W barcode-legacy-fallback /barcodes"]);
    breaks(json!({"barcode": code("PKBarcodeFormatQR", "A")}), &["W barcode-deprecated-only /barcode"]);
    breaks(
        json!({"barcodes": [{"format": "PKBarcodeFormatQR", "message": "x"}, {"message": "y", "messageEncoding": "klingon"}]}),
        &[
            "E barcode-encoding /barcodes/0/messageEncoding",
            "E barcode-encoding /barcodes/1/messageEncoding",
            "E pass-required-key /barcodes/1/format",
        ],
    );
}

#[test]
fn nfc_needs_a_short_message_and_a_p256_key() {
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).expect("known");
    let key = openssl::ec::EcKey::generate(&group).expect("made");
    let key = openssl::pkey::PKey::from_ec_key(key).expect("made").public_key_to_der().expect("encoded");
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    breaks(json!({"nfc": {"message": "M-1001", "encryptionPublicKey": key}}), &[]);
    breaks(
        json!({"nfc": {"message": "x".repeat(65), "encryptionPublicKey": key}}),
        &["E nfc-message-length /nfc/message"],
    );
    breaks(
        json!({"nfc": {"encryptionPublicKey": "AAAA"}}),
        &["E pass-required-key /nfc/message", "E nfc-public-key /nfc/encryptionPublicKey"],
    );
}

#[test]
fn places_and_times_are_within_their_bounds() {
    let place = json!({"latitude": 56.9, "longitude": 24.1});
    breaks(json!({"locations": vec![place.clone(); 10]}), &[]);
    breaks(json!({"locations": vec![place; 11]}), &["E locations-count /locations"]);
    breaks(
        json!({"locations": [{"latitude": 91}]}),
        &["E location-coordinates /locations/0/latitude", "E location-coordinates /locations/0/longitude"],
    );
    breaks(
        json!({"beacons": [{"proximityUUID": "x", "major": 65536}]}),
        &["E beacon-uuid /beacons/0/proximityUUID", "E beacon-number /beacons/0/major"],
    );
    breaks(json!({"maxDistance": 0}), &["E max-distance /maxDistance"]);
    breaks(json!({"maxDistance": "100"}), &["E key-type /maxDistance", "E max-distance /maxDistance"]);
    breaks(json!({"relevantDate": "2026-11-21T10:00Z"}), &["W relevant-date-deprecated /relevantDate"]);
    let interval = |start: &str, end: &str| json!({"relevantDates": [{"startDate": start, "endDate": end}]});
    breaks(interval("2026-11-21T10:00Z", "2026-11-22T10:00Z"), &[]);
    breaks(interval("2026-11-21T10:00Z", "2026-11-22T10:01Z"), &["W relevant-date-span /relevantDates/0"]);
    breaks(interval("2026-11-21T10:00Z", "2026-11-21T09:00Z"), &["E relevant-date-order /relevantDates/0/endDate"]);
    breaks(json!({"relevantDates": [{"startDate": "2026-11-21T10:00Z"}]}), &["E relevant-date-entry /relevantDates/0"]);
}

#[test]
fn the_web_service_is_https_and_complete() {
    let service = |url: &str, token: &str| json!({"webServiceURL": url, "authenticationToken": token});
    breaks(service("https://example.com/apple/", "0123456789abcdef"), &[]);
    breaks(service("http://example.com", "0123456789abcdef"), &["E web-service-https /webServiceURL"]);
    breaks(service("https://example.com/v1/", "0123456789abcdef"), &["W web-service-version-suffix /webServiceURL"]);
    breaks(service("https://example.com", "short"), &["E web-service-token-length /authenticationToken"]);
    breaks(json!({"webServiceURL": "https://example.com"}), &["E web-service-token-missing /authenticationToken"]);
    breaks(json!({"authenticationToken": "0123456789abcdef"}), &["E web-service-url-missing /webServiceURL"]);
    breaks(json!({"appLaunchURL": "app://x"}), &["E app-launch-without-store /appLaunchURL"]);
    let context = Context { own_addresses: OwnAddresses::Loopback, ..context() };
    let found = check_pass(&with(service("http://localhost:8080", "0123456789abcdef")), &icons(), &context);
    assert_eq!(short(&found), ["W web-service-https /webServiceURL"]);
}

#[test]
fn a_token_too_short_is_not_repeated_in_the_message() {
    let pass = with(json!({"webServiceURL": "https://example.com", "authenticationToken": "s3cret"}));
    assert!(check_pass(&pass, &icons(), &context()).iter().all(|issue| !issue.detail.contains("s3cret")));
}

#[track_caller]
fn files_break(pass: &Value, extra: &[(&str, Vec<u8>)], expected: &[&str]) {
    let mut files = icons();
    for (path, content) in extra {
        files.insert((*path).to_owned(), content.clone());
    }
    let mut found = short(&check_pass(pass, &files, &context()));
    found.sort();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn images_have_a_known_name_the_right_format_and_size() {
    let base = base();
    files_break(&base, &[("logo.png", png(160, 50)), ("strip@2x.png", png(750, 288))], &[]);
    files_break(&base, &[("logo.png", png(161, 50))], &["W image-dimensions logo.png"]);
    files_break(
        &base,
        &[("logo.png", png(100, 50)), ("logo@2x.png", png(300, 100))],
        &["W image-scale-mismatch logo.png"],
    );
    files_break(&base, &[("thumbnail.png", png(90, 90))], &["W image-style-unused thumbnail.png"]);
    files_break(
        &base,
        &[("banner.png", png(9, 9)), ("logo@4x.png", png(9, 9))],
        &["W image-name-unknown banner.png", "W image-name-unknown logo@4x.png"],
    );
    files_break(&base, &[("logo.png", b"\xff\xd8\xff\xe0".to_vec())], &["E image-format logo.png"]);
    files_break(&base, &[("logo.pdf", b"%PDF".to_vec())], &["E image-format logo.pdf"]);
    let mut damaged = png(160, 50);
    damaged.truncate(60);
    files_break(&base, &[("logo.png", damaged)], &["E image-corrupt logo.png"]);
    let mut huge = png(1, 1);
    huge[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    files_break(&base, &[("logo.png", huge)], &["E image-oversize logo.png"]);
    files_break(&base, &[("logo.png", vec![0; 6 << 20])], &["E image-oversize logo.png"]);
}

#[test]
fn an_icon_is_required_and_wanted_at_every_scale() {
    assert_eq!(short(&check_images(&["storeCard"], &Files::new())), ["E image-icon-missing icon.png"]);
    let one = Files::from([("icon@2x.png".to_owned(), png(76, 76))]);
    assert_eq!(
        short(&check_images(&["storeCard"], &one)),
        ["W image-icon-1x-missing icon.png", "W image-icon-3x-missing icon@3x.png"]
    );
}

#[test]
fn translations_lie_in_a_folder_of_a_language_and_parse() {
    let base = base();
    files_break(&base, &[("en-GB.lproj/pass.strings", b"\"a\" = \"b\";".to_vec())], &[]);
    files_break(&base, &[("english_UK.lproj/pass.strings", Vec::new())], &["W lproj-name english_UK.lproj"]);
    files_break(&base, &[("pass.strings", Vec::new())], &["W strings-misplaced pass.strings"]);
    files_break(
        &base,
        &[("lv.lproj/pass.strings", b"\"a\" = \"b\"".to_vec())],
        &["E strings-parse lv.lproj/pass.strings"],
    );
    files_break(
        &base,
        &[("lv.lproj/pass.strings", vec![0x22, 0xe4, 0x22])],
        &["E strings-encoding lv.lproj/pass.strings"],
    );
    files_break(
        &base,
        &[("lv.lproj/pass.strings", b"\"a\"=\"b\";\"a\"=\"c\";".to_vec())],
        &["W strings-duplicate-key lv.lproj/pass.strings"],
    );
    files_break(
        &base,
        &[(".DS_Store", Vec::new()), ("notes.txt", Vec::new())],
        &["W zip-junk-file .DS_Store", "W file-unknown notes.txt"],
    );
    files_break(
        &base,
        &[("personalization.json", b"{}".to_vec())],
        &[
            "E personalization-json personalization.json",
            "E personalization-json personalization.json",
            "W personalization-incomplete personalization.json",
        ],
    );
}

#[test]
fn a_poster_event_ticket_needs_its_tags_a_picture_and_a_way_in() {
    breaks(
        json!({"storeCard": null, "eventTicket": {}, "preferredStyleSchemes": ["posterEventTicket"],
            "semantics": {"eventType": "PKEventTypeSports"}}),
        &[
            "E event-artwork-missing ",
            "E event-away-team-missing /semantics/awayTeamAbbreviation",
            "E event-home-team-missing /semantics/homeTeamAbbreviation",
            "E event-name-missing /semantics/eventName",
            "E event-nfc-missing /nfc",
            "E event-venue-missing /semantics/venueName",
            "W event-start-missing /semantics/eventStartDate",
            "W event-venue-region-missing /semantics",
            "W scheme-no-fallback /preferredStyleSchemes",
            "W seats-missing /semantics/seats",
        ],
    );
}

#[test]
fn a_semantic_boarding_pass_takes_either_spelling_of_the_time_zone() {
    let semantics = json!({
        "airlineCode": "BT", "flightNumber": 101, "originalDepartureDate": "2026-11-21T10:00Z",
        "originalBoardingDate": "2026-11-21T09:30Z", "originalArrivalDate": "2026-11-21T11:00Z",
        "departureAirportTimeZone": "Europe/Riga", "departureAirportCode": "RIX", "departureCityName": "Riga",
        "destinationLocationTimeZone": "Europe/Tallinn", "destinationAirportCode": "TLL",
        "seats": [{"seatNumber": "1A"}], "passengerName": {"phoneticRepresentation": "x"}
    });
    breaks(
        json!({"storeCard": null, "boardingPass": {"transitType": "PKTransitTypeAir"}, "semantics": semantics,
            "preferredStyleSchemes": ["semanticBoardingPass", "boardingPass"]}),
        &[
            "E boarding-passenger-missing /semantics/passengerName",
            "W boarding-destination-city-missing /semantics/destinationCityName",
        ],
    );
}

#[test]
fn featured_actions_are_two_at_most_and_complete() {
    let action = |id: &str| json!({"identifier": id, "type": "shop", "url": "https://example.com"});
    breaks(json!({"featuredActions": [action("a"), action("b")]}), &[]);
    breaks(
        json!({"featuredActions": [action("a"), action("a"), {"identifier": "c", "type": "dance"}]}),
        &[
            "E action-duplicate-identifier /featuredActions/1/identifier",
            "E action-key-missing /featuredActions/2/url",
            "E actions-count /featuredActions",
            "W action-type-unknown /featuredActions/2/type",
        ],
    );
}

#[test]
fn pass_json_is_strict_utf_8_json_without_repeated_keys() {
    let rules = |bytes: &[u8]| parse_pass(bytes).1.iter().map(|issue| issue.rule).collect::<Vec<_>>();
    assert!(rules(b"{}").is_empty());
    assert_eq!(rules(b"\xef\xbb\xbf{}"), ["pass-json-encoding"]);
    assert_eq!(rules(b"{\"a\": \"\xe4\"}"), ["pass-json-encoding"]);
    assert_eq!(rules(b"{,}"), ["pass-json-parse"]);
    assert_eq!(rules(b"{\"a\":1,\"a\":2}"), ["pass-json-duplicate-key"]);
    assert_eq!(short(&check_pass(&json!([]), &Files::new(), &context())), ["E pass-json-parse "]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~ā€%@<>/:]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("key"),
            Just("value"),
            Just("message"),
            Just("format"),
            Just("headerFields"),
            Just("latitude"),
            Just("startDate"),
            Just("identifier"),
            Just("images"),
            Just("URLs"),
            Just("changeMessage")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.prop_map(str::to_owned), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_anywhere_makes_a_rule_panic(
        key in prop::sample::select(vec![
            "storeCard", "eventTicket", "posterGeneric", "barcodes", "barcode", "nfc", "locations", "beacons", "maxDistance",
            "relevantDates", "semantics", "featuredActions", "upcomingPassInformation", "preferredStyleSchemes",
            "webServiceURL", "formatVersion", "expirationDate",
        ]),
        value in any_json(),
    ) {
        let mut pass = base();
        pass["preferredStyleSchemes"] = json!(["posterEventTicket", "semanticBoardingPass"]);
        pass["eventTicket"] = json!({});
        pass["boardingPass"] = json!({});
        pass[key] = value;
        let _ = check_pass(&pass, &Files::new(), &context());
    }
}
