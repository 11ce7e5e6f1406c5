//! Templates and their pictures, as a marketer's tool meets them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_draft_is_kept_as_it_was_written,
    a_wrong_document_is_refused_whole,
    a_template_that_a_phone_would_refuse_is_not_published,
    pictures_are_kept_and_come_in_every_scale,
    a_bomb_is_refused_before_it_is_decoded,
    a_picture_of_a_language_or_tier_stands_where_it_belongs,
    a_published_attribute_keeps_its_type,
    a_card_that_the_newest_version_can_not_show_keeps_its_own,
    a_template_of_hostile_size_is_refused_cheaply,
];

async fn a_draft_is_kept_as_it_was_written(database: TestDatabase) {
    let service = Service::start(&database).await;
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    assert_eq!(put.status, 201);
    let mut expected = bakery();
    expected["id"] = json!("bakery");
    expected["published_version"] = Value::Null;
    assert_eq!(service.api(Method::GET, "/api/v1/templates/bakery", &Value::Null).await.json(), expected);
    assert_eq!(service.publish("bakery", &bakery()).await, 1);
    assert_eq!(service.publish("bakery", &bakery()).await, 2);
    expected["published_version"] = json!(2);
    assert_eq!(service.api(Method::GET, "/api/v1/templates/bakery", &Value::Null).await.json(), expected);
    assert_eq!(service.api(Method::GET, "/api/v1/templates/other", &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::POST, "/api/v1/templates/other/publish", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn a_wrong_document_is_refused_whole(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut wrong = bakery();
    wrong["colors"]["label"] = json!("red");
    wrong["fields"]["header"][0]["value"] = json!("{{ 'x' * 900000000 }}");
    wrong["attributes"][0]["type"] = json!("number");
    wrong["kinds"] = json!(1);
    let answer = service.api(Method::PUT, "/api/v1/templates/bakery", &wrong).await;
    assert_eq!(answer.status, 422);
    let pointers = answer.pointers();
    for expected in ["/colors/label", "/fields/header/0/value", "/attributes/0/type", "/kinds"] {
        assert!(pointers.iter().any(|p| p == expected), "{expected} in {pointers:?}");
    }
    assert_eq!(service.api(Method::GET, "/api/v1/templates/bakery", &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::PUT, "/api/v1/templates/a.b", &bakery()).await.status, 422);
    service.stop().await;
}

async fn a_template_that_a_phone_would_refuse_is_not_published(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["secondary"][0]["change_message"] = json!("%@ and %@");
    document["fields"]["auxiliary"][0]["key"] = json!("points");
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (422, Some("/problems/unpublishable")));
    let rules: Vec<String> =
        answer.json()["errors"].as_array().unwrap().iter().map(|e| e["rule"].as_str().unwrap().to_owned()).collect();
    for expected in ["image-icon-missing", "field-key-duplicate", "field-change-message"] {
        assert!(rules.iter().any(|r| r == expected), "{expected} in {rules:?}");
    }
    assert!(answer.pointers().contains(&"/fields/secondary/0/change_message".to_owned()), "{:?}", answer.pointers());
    assert_eq!(
        service.api(Method::GET, "/api/v1/templates/bakery", &Value::Null).await.json()["published_version"],
        Value::Null
    );
    service.stop().await;
}

async fn pictures_are_kept_and_come_in_every_scale(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    let logo = png(400, 100);
    service.put_image("bakery", "logo", &logo).await;
    let path = "/api/v1/templates/bakery/images/logo";
    let got = service.api(Method::GET, path, &Value::Null).await;
    assert_eq!((got.status, got.header("content-type"), got.body == logo), (200, "image/png", true));
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let files = crate::passes::unzip(&pass.body);
    for (name, size) in [
        ("icon.png", (38, 38)),
        ("icon@2x.png", (76, 76)),
        ("icon@3x.png", (114, 114)),
        ("logo.png", (160, 40)),
        ("logo@3x.png", (480, 120)),
    ] {
        let picture = image::load_from_memory(&files[name]).unwrap();
        assert_eq!((picture.width(), picture.height()), size, "{name}");
    }
    assert_eq!(service.api(Method::DELETE, path, &Value::Null).await.status, 204);
    assert_eq!(service.api(Method::GET, path, &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::DELETE, path, &Value::Null).await.status, 404);
    assert!(card["urls"].is_object());
    service.stop().await;
}

async fn a_bomb_is_refused_before_it_is_decoded(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    let bearer = format!("Bearer {}", service.key);
    let put = async |role: &str, bytes: Vec<u8>| {
        let path = format!("/api/v1/templates/bakery/images/{role}");
        service.send(Method::PUT, &path, &[("authorization", &bearer)], bytes).await.status
    };
    let mut bomb = png(1, 1);
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32fast::hash(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(put("icon", bomb).await, 422);
    assert_eq!(put("icon", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()).await, 422);
    assert_eq!(put("icon", png(8, 8)[..50].to_vec()).await, 422);
    assert_eq!(put("icon", Vec::new()).await, 422);
    assert_eq!(put("icon", vec![0; 16 * 1024 * 1024 + 1]).await, 413);
    assert_eq!(put("passport", png(8, 8)).await, 404);
    assert_eq!(put("icon?locale=no_language", png(8, 8)).await, 422);
    assert_eq!(service.api(Method::GET, "/api/v1/templates/bakery/images/icon", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn a_picture_of_a_language_or_tier_stands_where_it_belongs(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    service.put_image("bakery", "logo", &png(160, 50)).await;
    service.put_image("bakery", "logo?locale=lv", &png(100, 50)).await;
    service.put_image("bakery", "strip", &png(375, 144)).await;
    service.put_image("bakery", "strip?tier=gold", &png(750, 288)).await;
    service.publish("bakery", &bakery()).await;
    let pass = async |tier: &str| {
        service.put_card("M-1", &json!({"template": "bakery", "attributes": {"tier": tier}})).await;
        crate::passes::unzip(&service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await.body)
    };
    let (basic, gold) = (pass("basic").await, pass("gold").await);
    // A picture at the root would hide those of the languages.
    assert!(!basic.contains_key("logo.png"));
    assert_ne!(basic["lv.lproj/logo.png"], basic["ru.lproj/logo.png"]);
    assert_eq!(basic["en.lproj/logo.png"], basic["ru.lproj/logo.png"]);
    assert_ne!(basic["strip@2x.png"], gold["strip@2x.png"]);
    assert_eq!(basic["icon.png"], gold["icon.png"]);
    service.stop().await;
}

async fn a_published_attribute_keeps_its_type(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let mut document = bakery();
    document["attributes"][0] = json!({"name": "points", "type": "text"});
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/attributes/0/type".to_owned()]));

    // Nor can a card be moved to a template that would read its values otherwise.
    let mut other = bakery();
    other["attributes"][0] = json!({"name": "points", "type": "date"});
    service.publish("other", &other).await;
    service.put_card("M-1", &json!({"template": "bakery", "attributes": {"points": 5}})).await;
    let moved = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"template": "other"})).await;
    assert_eq!((moved.status, moved.pointers()), (422, vec!["/attributes/points".to_owned()]));
    let fits = json!({"template": "other", "attributes": {"points": "2026-12-31"}});
    assert_eq!(service.patch_card("M-1", &fits).await["template"], "other");
    service.stop().await;
}

async fn a_card_that_the_newest_version_can_not_show_keeps_its_own(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, _) = service.phone_with(&card).await;
    let mut document = bakery();
    document["barcode"]["value"] = json!("{{ name }}");
    assert_eq!(service.publish("bakery", &document).await, 2);
    assert_eq!(service.card("M-1").await["template_version"], 1);
    service.refresh().await;
    service.deliver().await;
    service.wake(&mut phone).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    for path in [page.clone(), format!("{page}/card.css"), format!("{page}/card.pkpass")] {
        assert_eq!(service.send(Method::GET, &path, &[], Vec::new()).await.status, 200, "{path}");
    }
    // With the value it takes the newest.
    let whole = service.patch_card("M-1", &json!({"attributes": {"name": "Anna"}})).await;
    assert_eq!(whole["template_version"], 2);
    service.clock.advance(std::time::Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn a_template_of_hostile_size_is_refused_cheaply(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut long_name = bakery();
    long_name["apple"]["pass"] = json!({"k".repeat(200_000): vec!["{{ nope }}"; 200]});
    let answer = service.api(Method::PUT, "/api/v1/templates/bakery", &long_name).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.len() < 2_000, "{} bytes", answer.body.len());
    let mut many = bakery();
    many["fields"]["back"] = json!([{"key": "x", "value": "{{1}}".repeat(800)}]);
    assert_eq!(service.api(Method::PUT, "/api/v1/templates/bakery", &many).await.status, 422);
    let typo = service.api(Method::PUT, "/api/v1/templates/bakery/images/logo?teir=gold", &Value::Null).await;
    assert_eq!((typo.status, typo.pointers()), (422, vec!["/teir".to_owned()]));
    service.stop().await;
}
