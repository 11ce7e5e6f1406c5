//! Templates that leave as an archive and come back, and those that are made of other people's passes.

use std::io::{Cursor, Write};

use reqwest::Method;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::passes::unzip;
use crate::support::service::{Answer, Service, anna, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_template_that_was_exported_is_imported_as_it_was,
    a_pass_becomes_a_template_whose_cards_look_like_it,
    a_bundle_of_apples_pass_designer_becomes_a_template,
    what_is_wrong_with_an_archive_is_told_at_its_place_and_nothing_is_stored,
];

const IMPORT: &str = "/api/v1/templates/import";

pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        archive.start_file(*path, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

async fn import(service: &Service, key: &str, query: &str, archive: &[u8]) -> Answer {
    let headers = [("authorization", &*format!("Bearer {key}")), ("content-type", "application/zip")];
    service.send(Method::POST, &format!("{IMPORT}{query}"), &headers, archive.to_vec()).await
}

async fn imported(service: &Service, key: &str, query: &str, archive: &[u8]) -> String {
    let answer = import(service, key, query, archive).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/api/v1/templates/{id}"));
    id
}

async fn export(service: &Service, key: &str, id: &str) -> Vec<u8> {
    let answer = service.api_as(key, Method::GET, &format!("/api/v1/templates/{id}/export"), &Value::Null).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/zip"));
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{id}.zip\""));
    answer.body
}

async fn read(service: &Service, key: &str, path: &str) -> Value {
    let answer = service.api_as(key, Method::GET, path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    answer.json()
}

async fn a_template_that_was_exported_is_imported_as_it_was(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["attributes"][2]["choices"] = json!(["basic", "silver", "gold", "Zelta / 5%"]);
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    assert_eq!(put.status, 201, "{}", put.json());
    let jpeg = {
        let mut out = Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(750, 288).write_to(&mut out, image::ImageFormat::Jpeg).unwrap();
        out.into_inner()
    };
    for (place, bytes) in [
        ("icon", png(114, 114)),
        ("logo?locale=lv", png(320, 100)),
        ("strip", jpeg),
        ("strip@6", png(750, 288)),
        ("strip@6?locale=ru&tier=Zelta%20%2F%205%25", png(750, 290)),
    ] {
        service.put_image("bakery", place, &bytes).await;
    }
    let key = service.key.clone();
    let archive = export(&service, &key, "bakery").await;
    assert_eq!(archive, export(&service, &key, "bakery").await, "equal drafts are equal bytes");
    let paths: Vec<String> = unzip(&archive).into_keys().collect();
    assert_eq!(
        paths,
        [
            "images/icon.png",
            "images/lv.lproj/logo.png",
            "images/ru.lproj/Zelta%20%2F%205%25.tier/strip@6.png",
            "images/strip.jpg",
            "images/strip@6.png",
            "template.json"
        ]
    );

    // Here its id is taken, in another workspace it isn't.
    let copy = imported(&service, &key, "", &archive).await;
    assert!(copy.starts_with("tpl_"), "{copy}");
    let elsewhere = service.workspace("elsewhere").await;
    assert_eq!(imported(&service, &elsewhere, "", &archive).await, "bakery");
    assert_eq!(imported(&service, &key, "?id=third", &archive).await, "third");
    for (key, id) in [(&key, &*copy), (&elsewhere, "bakery"), (&key, "third")] {
        let mut draft = read(&service, key, &format!("/api/v1/templates/{id}")).await;
        assert_eq!((draft["id"].take(), draft["published_version"].take()), (json!(id), Value::Null));
        for (member, value) in document.as_object().unwrap() {
            assert_eq!(&draft[member], value, "{member}");
        }
        let pictures = format!("/api/v1/templates/{id}/images");
        let own = read(&service, &service.key, "/api/v1/templates/bakery/images").await;
        assert_eq!(read(&service, key, &pictures).await, own);
        let strip = service.api_as(key, Method::GET, &format!("{pictures}/strip"), &Value::Null).await;
        assert_eq!(strip.body, unzip(&archive)["images/strip.jpg"], "as it was uploaded");
    }
    let taken = import(&service, &key, "?id=third", &archive).await;
    assert_eq!(taken.status, 409, "{}", taken.json());

    // A repeat makes no second one.
    let headers = [("authorization", &*format!("Bearer {key}")), ("idempotency-key", "import-1")];
    let first = service.send(Method::POST, IMPORT, &headers, archive.clone()).await;
    let again = service.send(Method::POST, IMPORT, &headers, archive).await;
    assert_eq!((first.status, first.json()), (201, again.json()));
    service.stop().await;
}

async fn a_pass_becomes_a_template_whose_cards_look_like_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["barcode"]["text"] = json!("No. {{ card.id }}");
    document["fields"]["back"].as_array_mut().unwrap().push(json!({"key": "braces", "value": "{{ '{{' }} no sum }}"}));
    document["apple"]["pass"] = json!({"sharingProhibited": true, "userInfo": {"member": "{{ name }}"}});
    service.publish("bakery", &document).await;
    service.put_image("bakery", "strip?locale=lv", &png(1125, 432)).await;
    service.publish("bakery", &document).await;
    let mut values = anna(120);
    values["attributes"]["balance"] = json!("12.50");
    values["attributes"]["expires_on"] = json!("2030-12-31");
    let card = service.put_card("M-1", &values).await;
    let (original, serial) = service.phone_with(&card).await;
    let original = original.passes()[&serial].pass.clone();
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await.body;

    let key = service.key.clone();
    let id = imported(&service, &key, "?id=copy", &pass).await;
    let draft = read(&service, &key, "/api/v1/templates/copy").await;
    let attribute = |name: &str| {
        let mut all = draft["attributes"].as_array().unwrap().iter();
        all.find(|attribute| attribute["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(attribute("points"), json!({"type": "integer", "default": 120, "name": "points"}));
    assert_eq!(attribute("balance"), json!({"type": "money", "currency": "EUR", "default": 12.5, "name": "balance"}));
    assert_eq!(attribute("until"), json!({"type": "date", "default": "2030-12-31", "name": "until"}));
    assert_eq!(draft["languages"], json!(["en", "lv", "ru"]));
    assert_eq!(draft["strings"]["lv"]["Points"], "Punkti");
    assert_eq!(draft["barcode"], json!({"format": "qr", "value": "{{ card.id }}", "text": "{{ card.id }}"}));
    assert_eq!(draft["apple"], json!({"style": "storeCard", "pass": {"sharingProhibited": true}}));
    let pictures = read(&service, &key, "/api/v1/templates/copy/images").await;
    let pictures = pictures["data"].as_array().unwrap();
    assert!(pictures.iter().any(|picture| picture["role"] == "strip" && picture["locale"] == "lv"), "{pictures:?}");

    let published = service.api(Method::POST, &format!("/api/v1/templates/{id}/publish"), &Value::Null).await;
    assert_eq!(published.status, 200, "{}", published.json());
    let card = service.put_card("M-2", &json!({"template": "copy"})).await;
    let (copy, serial) = service.phone_with(&card).await;
    let copy = &copy.passes()[&serial].pass;
    for member in ["organizationName", "description", "logoText", "backgroundColor", "labelColor", "sharingProhibited"]
    {
        assert_eq!(copy[member], original[member], "{member}");
    }
    assert_eq!((&copy["barcodes"][0]["message"], copy.get("userInfo")), (&json!("M-2"), None));
    let shown = |pass: &Value, group: &str| {
        let fields = pass["storeCard"][group].as_array().unwrap().clone();
        fields.into_iter().map(|field| (field["key"].clone(), field["value"].clone())).collect::<Vec<_>>()
    };
    for group in ["headerFields", "primaryFields", "secondaryFields", "auxiliaryFields"] {
        assert_eq!(shown(copy, group), shown(&original, group), "{group}");
    }
    let back = &copy["storeCard"]["backFields"];
    assert_eq!(back[0]["attributedValue"], original["storeCard"]["backFields"][0]["attributedValue"]);
    assert_eq!(back[2]["value"], "{{ no sum }}", "what was written is shown, not computed");
    service.stop().await;
}

async fn a_bundle_of_apples_pass_designer_becomes_a_template(database: TestDatabase) {
    let service = Service::start(&database).await;
    let pass = json!({
        "formatVersion": 1, "passTypeIdentifier": "", "serialNumber": "", "teamIdentifier": "",
        "organizationName": "Cinema", "description": "Ticket", "backgroundColor": "rgb(10,20,30)",
        "eventTicket": {
            "primaryFields": [{"key": "film", "label": "film_label", "value": "The Film"}],
            "secondaryFields": [
                {"key": "starts at", "label": "Starts", "value": "2030-05-01T19:30+03:00", "dateStyle": "PKDateStyleMedium",
                 "timeStyle": "PKDateStyleShort"},
                {"key": "Card", "label": "Card", "value": "x"}, {"key": "card", "label": "Card", "value": "y"}]},
        "barcodes": [{"format": "PKBarcodeFormatAztec", "message": "123", "messageEncoding": "iso-8859-1"}],
        "locations": [{"latitude": 56.9, "longitude": 24.1, "relevantText": "near"}],
        "relevantDates": [{"date": "2030-05-01T19:30+03:00"}],
        "semantics": {"attendeeName": "Anna"}});
    let (small, large) = (png(58, 58), png(87, 87));
    let english = "\"film_label\" = \"Film\"; \"near\" = \"The cinema is near\";";
    let archive = zip_of(&[
        ("Ticket.pkpasstemplate/pass.json", pass.to_string().as_bytes()),
        ("Ticket.pkpasstemplate/tooling.json", br#"{"automaticallyGenerateCompatiblePass": false}"#),
        ("Ticket.pkpasstemplate/icon@2x.png", &small),
        ("Ticket.pkpasstemplate/icon@3x.png", &large),
        ("Ticket.pkpasstemplate/en.lproj/pass.strings", english.as_bytes()),
        ("Ticket.pkpasstemplate/lv.lproj/pass.strings", "\"film_label\" = \"Filma\";".as_bytes()),
        ("__MACOSX/Ticket.pkpasstemplate/._pass.json", b"junk"),
    ]);
    let key = service.key.clone();
    let id = imported(&service, &key, "", &archive).await;
    let draft = read(&service, &key, &format!("/api/v1/templates/{id}")).await;
    assert_eq!((&draft["name"], &draft["kind"]), (&json!("Ticket"), &json!("event")));
    assert_eq!(draft["fields"]["primary"], json!([{"key": "film", "label": "Film", "value": "{{ film }}"}]));
    let names: Vec<&Value> = draft["attributes"].as_array().unwrap().iter().map(|a| &a["name"]).collect();
    assert_eq!(names, ["film", "starts_at", "value_card", "value_card_2"]);
    assert_eq!(draft["attributes"][1]["default"], "2030-05-01T16:30:00Z");
    let keys: Vec<&Value> = draft["fields"]["secondary"].as_array().unwrap().iter().map(|f| &f["key"]).collect();
    assert_eq!(keys, ["starts_at", "Card", "card"]);
    // The table has a translation for one of the texts only.
    assert_eq!(draft["strings"], json!({"lv": {"Film": "Filma", "The cinema is near": "near"}}));
    assert_eq!(draft["barcode"], json!({"format": "aztec", "value": "{{ card.id }}"}));
    assert_eq!(draft["apple"]["pass"], json!({"relevantDates": [{"date": "2030-05-01T19:30+03:00"}]}));
    let icon = service.api(Method::GET, &format!("/api/v1/templates/{id}/images/icon"), &Value::Null).await;
    assert_eq!(icon.body, large, "the largest there is");
    let published = service.api(Method::POST, &format!("/api/v1/templates/{id}/publish"), &Value::Null).await;
    assert_eq!(published.status, 200, "{}", published.json());
    service.stop().await;
}

async fn what_is_wrong_with_an_archive_is_told_at_its_place_and_nothing_is_stored(database: TestDatabase) {
    let service = Service::start(&database).await;
    let key = service.key.clone();
    let mut broken = bakery();
    broken["fields"]["header"][0]["value"] = json!("{{ pionts }}");
    broken["colors"]["label"] = json!("green");
    let (broken, good) = (broken.to_string(), bakery().to_string());
    let picture = png(20, 20);
    let bomb = vec![0; 3 << 20];
    for (files, pointers) in [
        (
            &[("template.json", broken.as_bytes())][..],
            &["/template.json/colors/label", "/template.json/fields/header/0/value"][..],
        ),
        (&[("template.json", b"{")], &["/template.json"]),
        (&[("note.txt", b"hello")], &[""]),
        (&[("pass.json", br#"{"formatVersion": 1}"#)], &["/pass.json"]),
        (&[("pass.json", b"[]")], &["/pass.json"]),
        (
            &[
                ("template.json", good.as_bytes()),
                ("images/icon.png", &picture[..30]),
                ("images/banner.png", &picture),
                ("strip.png", &picture),
            ],
            &["/images~1banner.png", "/strip.png"],
        ),
        (&[("template.json", good.as_bytes()), ("images/icon.png", &picture[..30])], &["/images~1icon.png"]),
        (&[("template.json", good.as_bytes()), ("images/logo.png", &bomb)], &["/images~1logo.png"]),
        (&[("template.json", good.as_bytes()), ("../evil", b"x")], &["/..~1evil"]),
    ] {
        let answer = import(&service, &key, "", &zip_of(files)).await;
        assert_eq!(answer.status, 422, "{pointers:?}: {}", answer.json());
        assert_eq!(answer.pointers(), pointers, "{}", answer.json());
    }
    let large = format!("[{}0]", "0,".repeat(600_000));
    let answer = import(&service, &key, "", &zip_of(&[("template.json", large.as_bytes())])).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/template.json".to_owned()]));
    let twice = [("template.json", good.as_bytes()), ("images/icon.png", &picture), ("images/icon.jpg", &picture)];
    let answer = import(&service, &key, "", &zip_of(&twice)).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/images~1icon.png".to_owned()]), "{}", answer.json());
    // What a pass has too much of is left out, and takes no time.
    let fields: Vec<Value> = vec![json!({"value": "x"}); 30_000];
    let pass = json!({"organizationName": "Many", "storeCard": {"headerFields": fields, "backFields": fields}});
    let many = imported(&service, &key, "", &zip_of(&[("pass.json", pass.to_string().as_bytes())])).await;
    let draft = read(&service, &key, &format!("/api/v1/templates/{many}")).await;
    assert_eq!(draft["fields"]["header"].as_array().unwrap().len(), 50);
    assert_eq!(service.api(Method::DELETE, &format!("/api/v1/templates/{many}"), &Value::Null).await.status, 204);
    let none = import(&service, &key, "", b"no archive").await;
    assert_eq!((none.status, none.pointers()), (422, vec![String::new()]), "{}", none.json());
    let odd = import(&service, &key, "?id=a%20b&x=1", &zip_of(&[("template.json", good.as_bytes())])).await;
    assert_eq!((odd.status, odd.pointers()), (422, vec!["/id".to_owned(), "/x".to_owned()]), "{}", odd.json());
    assert_eq!(read(&service, &key, "/api/v1/templates").await["data"], json!([]));
    service.stop().await;
}
