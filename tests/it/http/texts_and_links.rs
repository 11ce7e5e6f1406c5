//! Texts from other systems: line ends of Windows, and values within addresses.

use reqwest::Method;
use serde_json::{Value, json};

use super::template_archives::zip_of;
use crate::support::reader::unzip;
use crate::support::service::{Service, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    windows_line_ends_are_line_ends_in_templates_cards_bulks_and_imports,
    values_within_links_are_percent_encoded,
];

async fn pass_of(service: &Service, card: &str) -> Value {
    let answer = service.api(Method::GET, &format!("/api/v1/cards/{card}/apple"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    serde_json::from_slice(&unzip(&answer.body)["pass.json"]).unwrap()
}

fn back_field<'p>(pass: &'p Value, style: &str, key: &str) -> &'p Value {
    pass[style]["backFields"].as_array().unwrap().iter().find(|field| field["key"] == key).unwrap()
}

async fn windows_line_ends_are_line_ends_in_templates_cards_bulks_and_imports(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    let back = document["fields"]["back"].as_array_mut().unwrap();
    back.push(json!({"key": "hours", "value": "Mon 9-18\r\nSun closed"}));
    back.push(json!({"key": "note", "value": "{{ note }}{{ '\\r\\nBye' }}"}));
    document["strings"]["lv"]["Mon 9-18\r\nSun closed"] = json!("P 9-18\rSv slēgts");
    service.publish("bakery", &document).await;

    let card = json!({"template": "bakery", "attributes": {"note": "Line one\r\nLine two\rLine three"}});
    let answer = service.put_card("M-1", &card).await;
    assert_eq!(answer["attributes"]["note"], "Line one\nLine two\nLine three");
    let same = service.patch_card("M-1", &json!({"attributes": {"note": "Line one\nLine two\r\nLine three"}})).await;
    assert_eq!(same["revision"], 1, "the same text");
    let pass = pass_of(&service, "M-1").await;
    assert_eq!(back_field(&pass, "storeCard", "note")["value"], "Line one\nLine two\nLine three\nBye");
    let hours = back_field(&pass, "storeCard", "hours")["value"].as_str().unwrap().to_owned();
    let file = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let table = String::from_utf8(unzip(&file.body)["lv.lproj/pass.strings"].clone()).unwrap();
    assert!(table.contains(&format!("\"{hours}\" = \"P 9-18\\nSv slēgts\";")), "{table}");

    let line = json!({"id": "M-2", "template": "bakery", "attributes": {"note": "a\r\nb"}});
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", &*bearer), ("content-type", "application/x-ndjson")];
    let bulk = service.send(Method::POST, "/api/v1/cards/bulk", &headers, format!("{line}\r\n").into_bytes()).await;
    assert_eq!(bulk.json()["status"], "created", "{}", bulk.json());
    assert_eq!(service.card("M-2").await["attributes"]["note"], "a\nb");

    // A pass of somebody else's, on the front and on the back; our own archive.
    let pass = json!({
        "formatVersion": 1, "passTypeIdentifier": "pass.example", "teamIdentifier": "ABCDE12345", "serialNumber": "1",
        "organizationName": "Lindgren", "description": "Lindgren card",
        "storeCard": {
            "secondaryFields": [{"key": "open", "label": "Hours", "value": "Mon 9-18\r\nSun closed"}],
            "backFields": [{"key": "rules", "label": "Rules", "value": "r"}]}
    });
    let rules: &[u8] = "\"r\" = \"First rule.\r\rSecond rule.\";".as_bytes();
    let archive = zip_of(&[
        ("pass.json", pass.to_string().as_bytes()),
        ("en.lproj/pass.strings", rules),
        ("icon.png", &png(29, 29)),
    ]);
    let import = |archive: Vec<u8>, id: &'static str| {
        let (service, bearer) = (&service, &bearer);
        async move {
            let headers = [("authorization", &**bearer), ("content-type", "application/zip")];
            let answer =
                service.send(Method::POST, &format!("/api/v1/templates/import?id={id}"), &headers, archive).await;
            assert_eq!(answer.status, 201, "{}", answer.json());
            service.api(Method::GET, &format!("/api/v1/templates/{id}"), &Value::Null).await.json()
        }
    };
    let draft = import(archive, "lindgren").await;
    assert_eq!(draft["attributes"][0]["default"], "Mon 9-18\nSun closed", "{draft}");
    assert_eq!(draft["fields"]["back"][0]["value"], "First rule.\n\nSecond rule.", "{draft}");
    let ours = zip_of(&[("template.json", document.to_string().as_bytes())]);
    let draft = import(ours, "copy").await;
    assert_eq!(draft["strings"]["lv"]["Mon 9-18\nSun closed"], "P 9-18\nSv slēgts");
    service.stop().await;
}

async fn values_within_links_are_percent_encoded(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["attributes"].as_array_mut().unwrap().extend([
        json!({"name": "site", "type": "url"}),
        json!({"name": "phone", "type": "phone"}),
        json!({"name": "email", "type": "email"}),
    ]);
    document["fields"]["back"].as_array_mut().unwrap().extend([
        json!({"key": "search", "value": "Find", "link": "https://kuzina.example/?q={{ note }}&c={{ card.id }}#top"}),
        json!({"key": "own", "value": "Own", "link": "{{ site }}"}),
        json!({"key": "call", "value": "Call", "link": "tel:{{ phone }}"}),
        json!({"key": "write", "value": "Write", "link": "mailto:{{ email }}?subject={{ note }}"}),
    ]);
    document["apple"]["pass"] =
        json!({"appLaunchURL": "kuzina://card?note={{ note }}", "associatedStoreIdentifiers": [1]});
    service.publish("bakery", &document).await;
    let attributes = json!({"note": "Rye & \"wheat\" #1", "site": "https://anna.example/a?x=1&y=2",
        "phone": "+37120000000", "email": "anna@kuzina.example"});
    service.put_card("M:1@x", &json!({"template": "bakery", "attributes": attributes})).await;
    let pass = pass_of(&service, "M:1@x").await;
    for (key, href) in [
        ("search", "https://kuzina.example/?q=Rye%20%26%20%22wheat%22%20%231&amp;c=M%3A1%40x#top"),
        ("own", "https://anna.example/a?x=1&amp;y=2"),
        ("call", "tel:+37120000000"),
        ("write", "mailto:anna@kuzina.example?subject=Rye%20%26%20%22wheat%22%20%231"),
    ] {
        let shown = back_field(&pass, "storeCard", key)["attributedValue"].as_str().unwrap();
        assert!(shown.starts_with(&format!("<a href=\"{href}\">")), "{key}: {shown}");
    }
    assert_eq!(pass["appLaunchURL"], "kuzina://card?note=Rye%20%26%20%22wheat%22%20%231");
    service.stop().await;
}
