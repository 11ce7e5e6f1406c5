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
    templates_are_listed_page_by_page,
    a_posted_template_gets_an_id_or_keeps_its_own,
    a_template_without_cards_goes_with_everything_of_it,
    versions_are_listed_and_come_back_to_the_draft,
    a_check_lists_every_rule_with_pointers_into_the_document,
    a_check_and_a_preview_need_no_issuer_and_store_nothing,
    a_preview_is_the_pass_that_cards_get,
    a_preview_refuses_what_a_card_could_not_have,
    the_pictures_of_a_draft_are_listed,
    what_a_get_answers_may_be_put_back,
    cards_that_keep_their_version_are_named_when_it_is_published,
    at_most_a_hundred_cards_are_named_when_it_is_published,
    a_template_has_at_most_300_pictures_of_64_mib_together,
    a_card_that_would_break_a_rule_keeps_its_version,
    a_card_that_keeps_its_version_is_voided_ended_and_translated_all_the_same,
    a_template_computes_so_much_for_each_card_at_most,
    a_removed_attribute_keeps_its_values_and_its_type,
    a_vanished_choice_renders_as_stored,
    prepared_pictures_are_chosen_by_values,
    a_boarding_pass_is_made_through_its_own_members,
    numbers_amounts_and_dates_are_written_in_each_language,
    every_language_has_its_folder_and_values_are_never_translated,
    a_wrong_value_is_told_at_its_attribute_for_every_type,
    a_value_that_can_not_be_computed_with_is_told_at_its_attribute,
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
    assert_eq!(service.publish("bakery", &bakery()).await, 1, "nothing is new");
    expected["published_version"] = json!(1);
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

async fn templates_are_listed_page_by_page(database: TestDatabase) {
    let service = Service::start(&database).await;
    let list = async |query: &str| {
        let answer = service.api(Method::GET, &format!("/api/v1/templates{query}"), &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    };
    let starters = list("").await["data"].as_array().unwrap().len();
    for id in ["z1", "z2", "z3", "z4", "z5"] {
        service.api(Method::PUT, &format!("/api/v1/templates/{id}"), &bakery()).await;
    }
    let mut ids = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = list(&query).await;
        assert!(page["data"].as_array().unwrap().len() <= 2);
        ids.extend(page["data"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(ids.len(), starters + 5);
    assert_eq!(ids[starters..], ["z1", "z2", "z3", "z4", "z5"]);
    let all = list("?limit=1000").await;
    let shown = all["data"].as_array().unwrap().iter().find(|t| t["id"] == "z1").unwrap().clone();
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("Bakery points"), &json!("points")));
    assert_eq!((&shown["style"], &shown["published_version"]), (&json!("storeCard"), &Value::Null));
    for (query, pointer) in
        [("?limit=0", "/limit"), ("?limit=1001", "/limit"), ("?cursor=!", "/cursor"), ("?x=1", "/x")]
    {
        let answer = service.api(Method::GET, &format!("/api/v1/templates{query}"), &Value::Null).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer.to_owned()]), "{query}");
    }
    service.stop().await;
}

async fn a_posted_template_gets_an_id_or_keeps_its_own(database: TestDatabase) {
    let service = Service::start(&database).await;
    let post = async |document: &Value| service.api(Method::POST, "/api/v1/templates", document).await;
    let made = post(&bakery()).await;
    assert_eq!(made.status, 201, "{}", made.json());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/api/v1/templates/{id}"));
    assert_eq!(service.api(Method::GET, &format!("/api/v1/templates/{id}"), &Value::Null).await.json(), made.json());
    let mut named = bakery();
    named["id"] = json!("bakery");
    assert_eq!(post(&named).await.json()["id"], "bakery");
    let twice = post(&named).await;
    assert_eq!((twice.status, twice.json()["type"].as_str()), (409, Some("/problems/template-exists")));
    named["id"] = json!("a b");
    named["kind"] = json!("shop");
    let wrong = post(&named).await;
    assert_eq!((wrong.status, wrong.pointers()), (422, vec!["/id".to_owned(), "/kind".to_owned()]));
    named["id"] = json!(7);
    assert_eq!(post(&named).await.pointers(), ["/id", "/kind"]);
    service.stop().await;
}

async fn a_template_without_cards_goes_with_everything_of_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let path = "/api/v1/templates/bakery";
    assert_eq!(service.api(Method::DELETE, path, &Value::Null).await.status, 404);
    service.publish("bakery", &bakery()).await;
    service.put_image("bakery", "logo", &png(161, 51)).await;
    service.refresh().await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let refused = service.api(Method::DELETE, path, &Value::Null).await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (409, Some("/problems/template-in-use")));
    // Moved away, the card keeps it no longer.
    service.publish("other", &bakery()).await;
    service.patch_card("M-1", &json!({"template": "other"})).await;
    // Nor does one that was erased, unless a phone still holds its pass.
    let installed = service.put_card("M-2", &json!({"template": "bakery"})).await;
    service.put_card("M-3", &json!({"template": "bakery"})).await;
    let (mut phone, serial) = service.phone_with(&installed).await;
    for id in ["M-2", "M-3"] {
        assert_eq!(service.api(Method::DELETE, &format!("/api/v1/cards/{id}"), &Value::Null).await.status, 204);
    }
    assert_eq!(service.api(Method::DELETE, path, &Value::Null).await.status, 409, "a phone shows it void");
    phone.remove(&serial).await.unwrap();
    assert_eq!(service.api(Method::DELETE, path, &Value::Null).await.status, 204);
    assert_eq!(service.api(Method::GET, path, &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::GET, &format!("{path}/versions"), &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::GET, &format!("{path}/images/logo"), &Value::Null).await.status, 404);
    assert_eq!(card["template"], "bakery");
    // Made anew, its versions are not those that were deleted, which other nodes may still hold in memory.
    let mut document = bakery();
    document["fields"]["header"][0]["label"] = json!("Punkte");
    assert_eq!(service.publish("bakery", &document).await, 2);
    let card = service.put_card("M-2", &json!({"template": "bakery"})).await;
    assert_eq!(card["template_version"], 2);
    let pass = service.api(Method::GET, "/api/v1/cards/M-2/apple", &Value::Null).await;
    let files = crate::passes::unzip(&pass.body);
    assert!(String::from_utf8_lossy(&files["pass.json"]).contains("Punkte"));
    let versions = service.api(Method::GET, &format!("{path}/versions"), &Value::Null).await.json();
    assert_eq!(versions["data"].as_array().unwrap().len(), 1);
    service.stop().await;
}

async fn versions_are_listed_and_come_back_to_the_draft(database: TestDatabase) {
    let service = Service::start(&database).await;
    let path = "/api/v1/templates/bakery";
    service.api(Method::PUT, path, &bakery()).await;
    let versions =
        async |query: &str| service.api(Method::GET, &format!("{path}/versions{query}"), &Value::Null).await.json();
    assert_eq!(versions("").await, json!({"data": [], "next_cursor": null}));
    service.put_image("bakery", "logo", &png(160, 50)).await;
    service.publish("bakery", &bakery()).await;
    let mut document = bakery();
    document["name"] = json!("Second");
    assert_eq!(service.api(Method::DELETE, &format!("{path}/images/logo"), &Value::Null).await.status, 204);
    service.put_image("bakery", "strip", &png(375, 144)).await;
    service.publish("bakery", &document).await;

    let all = versions("").await;
    let numbers: Vec<_> = all["data"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    assert!(all["data"][0]["published_at"].as_str().unwrap().ends_with('Z'));
    let first = versions("?limit=1").await;
    assert_eq!(first["data"][0]["version"], 2);
    let rest = versions(&format!("?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&rest["data"][0]["version"], &rest["next_cursor"]), (&json!(1), &Value::Null));

    let restored = service.api(Method::POST, &format!("{path}/versions/1/restore"), &Value::Null).await;
    assert_eq!((restored.status, restored.json()["name"].as_str()), (200, Some("Bakery points")));
    assert_eq!(restored.json()["published_version"], 2, "cards show the second until the draft is published");
    assert_eq!(service.api(Method::GET, &format!("{path}/images/logo"), &Value::Null).await.status, 200);
    assert_eq!(service.api(Method::GET, &format!("{path}/images/strip"), &Value::Null).await.status, 404);
    assert_eq!(service.publish("bakery", &bakery()).await, 3);
    for (version, status) in [("7", 404), ("0", 404), ("one", 404)] {
        let answer = service.api(Method::POST, &format!("{path}/versions/{version}/restore"), &Value::Null).await;
        assert_eq!(answer.status, status, "{version}");
    }
    service.stop().await;
}

async fn a_check_lists_every_rule_with_pointers_into_the_document(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["secondary"][0]["change_message"] = json!("%@ and %@");
    document["fields"]["auxiliary"][0]["key"] = json!("points");
    document["fields"]["primary"] = json!([
        {"key": "p1", "label": "One", "value": "{{ 10 / (points - 60 - 60) }}"}, {"key": "p2", "value": "2"}]);
    document["apple"]["pass"] =
        json!({"maxDistance": 0, "nfc": {"message": "x"}, "storeCard": {"transitType": "PKTransitTypeAir"}});
    document["barcode"]["value"] = json!("{{ name }}");
    document["attributes"][0] = json!({"name": "points", "type": "integer"});
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/check", &Value::Null).await;
    assert_eq!(answer.status, 200);
    let found = issues(&answer.json()["issues"]);
    // What can't be computed is told first: there is no pass to look at then.
    assert!(found.contains(&"error expression-failed /fields/primary/0/value".to_owned()), "{found:?}");
    document["fields"]["primary"][0]["value"] = json!("{{ points }}");
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/check", &Value::Null).await;
    let mut found = issues(&answer.json()["issues"]);
    // The bakery's translations are incomplete: each text that lacks one is listed (see template_rules).
    assert!(found.contains(&"warning translation-missing /fields/primary/0/label".to_owned()), "{found:?}");
    found.retain(|issue| !issue.contains("translation-missing"));
    assert_eq!(
        found,
        [
            "error pass-required-key /apple/pass/nfc/encryptionPublicKey",
            "error transit-type-misplaced /apple/pass/storeCard/transitType",
            "error field-key-duplicate /fields/auxiliary/0/key",
            "error max-distance /apple/pass/maxDistance",
            "error image-icon-missing /images/icon",
            "error field-change-message /fields/secondary/0/change_message",
            "warning field-count /fields/primary",
            "warning web-service-https ",
            "warning attribute-needed /attributes/3",
        ]
    );
    let published = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!(published.status, 422);
    assert_eq!(published.json()["errors"].as_array().unwrap().len(), 6, "the errors of the check, not its warnings");
    assert_eq!(service.api(Method::POST, "/api/v1/templates/nobody/check", &Value::Null).await.status, 404);
    service.stop().await;
}

/// `severity rule pointer` of each.
fn issues(issues: &Value) -> Vec<String> {
    let text = |issue: &Value, name: &str| issue[name].as_str().unwrap().to_owned();
    let issues = issues.as_array().unwrap().iter();
    issues.map(|i| format!("{} {} {}", text(i, "severity"), text(i, "rule"), text(i, "pointer"))).collect()
}

async fn a_check_and_a_preview_need_no_issuer_and_store_nothing(database: TestDatabase) {
    use passloom::actions::templates::check_template::check_template;
    use passloom::actions::templates::preview_template::preview_template;
    use passloom::actions::templates::put_template::put_template;
    use passloom::domain::ids::{TemplateId, WorkspaceId};
    let service = Service::start(&database).await;
    let workspace = WorkspaceId::parse("drafting").unwrap();
    service.app.ensure_workspace(&workspace, "Drafting").await.unwrap();
    let id = TemplateId::parse("bakery").unwrap();
    put_template(&service.app, &workspace, &passloom::domain::actor::Actor::System, &id, bakery()).await.unwrap();
    let issues = check_template(&service.app, &workspace, &id).await.unwrap();
    assert!(issues.iter().any(|issue| issue.rule == "image-icon-missing"));
    let preview = preview_template(&service.app, &workspace, &id, &json!({})).await.unwrap();
    assert_eq!(preview["apple"]["passTypeIdentifier"], "pass.sample");
    assert_eq!(preview["google"], Value::Null);
    service.stop().await;
}

async fn a_preview_is_the_pass_that_cards_get(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let attributes = json!({"points": 150, "tier": "gold", "name": "Points"});
    let body = json!({"attributes": attributes, "locale": "lv"});
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/preview", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let preview = answer.json();
    let shown = &preview["apple"];
    assert_eq!(shown["storeCard"]["headerFields"][0]["label"], "Punkti");
    assert_eq!(shown["storeCard"]["headerFields"][0]["value"], 150);
    assert_eq!(shown["storeCard"]["auxiliaryFields"][0]["value"], "Points", "a value is never translated");
    assert_eq!(shown["storeCard"]["backFields"][1]["value"], "Sveiki, Points, ņemiet bulciņu");
    assert_eq!(shown["backgroundColor"], "rgb(138, 109, 29)");
    assert_eq!(
        (&preview["google"], issues(&preview["issues"])),
        (&Value::Null, vec!["warning web-service-https ".to_owned()])
    );

    // The real pass is the same but for who it is and for the texts, which stand in its tables.
    service.put_card("M-1001", &json!({"template": "bakery", "attributes": attributes})).await;
    let pass = service.api(Method::GET, "/api/v1/cards/M-1001/apple", &Value::Null).await;
    let real: Value = serde_json::from_slice(&crate::passes::unzip(&pass.body)["pass.json"]).unwrap();
    assert_eq!(shown["passTypeIdentifier"], real["passTypeIdentifier"]);
    for member in ["authenticationToken", "serialNumber"] {
        assert_ne!(shown[member], real[member]);
    }
    let values = |pass: &Value| -> Vec<Value> {
        let groups = pass["storeCard"].as_object().unwrap().values();
        groups.flat_map(|fields| fields.as_array().unwrap().iter().map(|f| f["value"].clone())).collect()
    };
    let (mut shown_values, mut real_values) = (values(shown), values(&real));
    // The place of a backend's own text comes last.
    assert_eq!((shown_values.pop(), real_values.pop()), (Some(json!("")), Some(json!(""))));
    assert_eq!(shown_values.pop(), Some(json!("Sveiki, Points, ņemiet bulciņu")));
    // The key names what it shows, so that another text is another value.
    let hello = real_values.pop().unwrap();
    assert!(hello.as_str().unwrap().starts_with("l10n:fields.hello.value."), "{hello}");
    assert_eq!(shown_values, real_values);

    // Without values, attributes have their default or a plausible value.
    let plain = service.api(Method::POST, "/api/v1/templates/bakery/preview", &json!({})).await.json();
    assert_eq!(plain["apple"]["storeCard"]["headerFields"][0]["value"], 0);
    assert_eq!(plain["apple"]["storeCard"]["auxiliaryFields"][0]["value"], "Sample");
    service.stop().await;
}

async fn a_preview_refuses_what_a_card_could_not_have(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["barcode"]["value"] = json!("{{ note }}");
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    for (body, pointers) in [
        (
            json!({"attributes": {"points": "many", "colour": "red"}, "locale": "x y", "extra": 1}),
            &["/attributes/points", "/attributes/colour", "/locale", "/extra"][..],
        ),
        (json!({"attributes": {"points": 5}}), &["/attributes/note"]),
        (json!([]), &[""]),
    ] {
        let answer = service.api(Method::POST, "/api/v1/templates/bakery/preview", &body).await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, pointers.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    assert_eq!(service.api(Method::POST, "/api/v1/templates/nobody/preview", &json!({})).await.status, 404);
    service.stop().await;
}

async fn the_pictures_of_a_draft_are_listed(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    let icon = png(114, 114);
    service.put_image("bakery", "icon", &icon).await;
    service.put_image("bakery", "programLogo?locale=lv&tier=gold", &png(66, 66)).await;
    let list = service.api(Method::GET, "/api/v1/templates/bakery/images", &Value::Null).await;
    let expected =
        json!({"role": "icon", "locale": null, "tier": null, "content_type": "image/png", "bytes": icon.len()});
    assert_eq!(list.json()["data"][0], expected);
    let second = &list.json()["data"][1];
    assert_eq!(
        (&second["role"], &second["locale"], &second["tier"]),
        (&json!("programLogo"), &json!("lv"), &json!("gold"))
    );
    assert_eq!(list.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(service.api(Method::GET, "/api/v1/templates/nobody/images", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn what_a_get_answers_may_be_put_back(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let got = service.api(Method::GET, "/api/v1/templates/bakery", &Value::Null).await.json();
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &got).await;
    assert_eq!((put.status, put.json()), (200, got.clone()));
    let elsewhere = service.api(Method::PUT, "/api/v1/templates/other", &got).await;
    assert_eq!((elsewhere.status, elsewhere.pointers()), (422, vec!["/id".to_owned()]));
    service.stop().await;
}

async fn cards_that_keep_their_version_are_named_when_it_is_published(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery"})).await;
    service.put_card("M-2", &json!({"template": "bakery", "attributes": {"name": "Anna"}})).await;
    let mut document = bakery();
    document["barcode"]["value"] = json!("{{ name }}");
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let published = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await.json();
    assert_eq!(published["version"], 2);
    let cards = &published["cards"];
    assert_eq!((&cards["checked"], &cards["complete"]), (&json!(2), &json!(true)));
    assert_eq!(cards["keeping"].as_array().unwrap().len(), 1, "{cards}");
    let kept = &cards["keeping"][0];
    assert_eq!((&kept["id"], &kept["version"]), (&json!("M-1"), &json!(1)));
    assert_eq!(kept["errors"][0]["pointer"], "/attributes/name");
    assert_eq!(service.card("M-1").await["template_version"], 1);
    assert_eq!(service.card("M-2").await["template_version"], 2);
    service.stop().await;
}

async fn at_most_a_hundred_cards_are_named_when_it_is_published(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let line = |n: usize| format!("{}\n", json!({"id": format!("M-{n:03}"), "template": "bakery"}));
    let body: String = (0..250).map(line).collect();
    let headers = [("authorization", &*format!("Bearer {}", service.key)), ("content-type", "application/x-ndjson")];
    let bulk = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body.into_bytes()).await;
    assert_eq!(bulk.status, 200);
    let mut document = bakery();
    document["barcode"]["value"] = json!("{{ name }}");
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let published = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await.json();
    let cards = &published["cards"];
    assert_eq!(cards["keeping"].as_array().unwrap().len(), 100);
    assert_eq!(cards["complete"], false, "there are more, and the answer says so");
    assert!(cards["checked"].as_u64() >= Some(100) && cards["checked"].as_u64() <= Some(250), "{}", cards["checked"]);
    service.stop().await;
}

async fn a_template_has_at_most_300_pictures_of_64_mib_together(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let put = async |template: &str, role: String, bytes: &[u8]| {
        let path = format!("/api/v1/templates/{template}/images/{role}");
        let headers = [("authorization", &*format!("Bearer {}", service.key)), ("content-type", "image/png")];
        service.send(Method::PUT, &path, &headers, bytes.to_vec()).await
    };
    let picture = png(30, 30);
    let there = service.api(Method::GET, "/api/v1/templates/bakery/images", &Value::Null).await.json();
    let there = there["data"].as_array().unwrap().len();
    for n in there..300 {
        assert_eq!(put("bakery", format!("strip@{n}"), &picture).await.status, 204, "{n}");
    }
    assert_eq!(put("bakery", "strip@2x".to_owned(), &picture).await.status, 404, "every scale is made by the service");
    let one_more = put("bakery", "strip@more".to_owned(), &picture).await;
    assert_eq!((one_more.status, one_more.pointers()), (422, vec![String::new()]));
    assert!(one_more.json().to_string().contains("at most 300 pictures"), "{}", one_more.json());
    assert_eq!(put("bakery", "strip@299".to_owned(), &picture).await.status, 204, "one may be replaced");

    service.api(Method::PUT, "/api/v1/templates/large", &bakery()).await;
    // What looks like noise isn't made smaller: some 15 MB each.
    let mut seed = 1_u32;
    let noise = image::RgbImage::from_fn(2_240, 2_240, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(seed >> 24) as u8, (seed >> 16) as u8, (seed >> 8) as u8])
    });
    let mut large = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut large, image::ImageFormat::Png).unwrap();
    let large = large.into_inner();
    let fit = 64 * 1024 * 1024 / large.len();
    assert!((4..8).contains(&fit), "{} bytes", large.len());
    for n in 0..fit {
        assert_eq!(put("large", format!("strip@{n}"), &large).await.status, 204, "{n}");
    }
    let one_more = put("large", "strip@more".to_owned(), &large).await;
    assert_eq!(one_more.status, 422);
    assert!(one_more.json().to_string().contains("64 MiB"), "{}", one_more.json());
    service.stop().await;
}

async fn a_card_that_keeps_its_version_is_voided_ended_and_translated_all_the_same(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    // The first lacks what the new version needs, the second's name breaks one of its rules.
    let mut phones = Vec::new();
    for (id, attributes) in [("M-1", json!({"points": 1})), ("M-2", json!({"name": "Āboliņš", "points": 2}))] {
        let card = service.put_card(id, &json!({"template": "bakery", "attributes": attributes})).await;
        phones.push(service.phone_with(&card).await);
    }
    let mut document = bakery();
    document["barcode"] = json!({"format": "code128", "value": "{{ name }}"});
    service.publish("bakery", &document).await;
    service.refresh().await;
    service.deliver().await;
    for (phone, _) in &mut phones {
        service.wake(phone).await;
    }
    let patch = async |id: &str, patch: Value| {
        service.clock.advance(std::time::Duration::from_secs(5));
        service.api(Method::PATCH, &format!("/api/v1/cards/{id}"), &patch).await
    };
    for change in [json!({"locale": "lv"}), json!({"expires_at": "2030-01-01T00:00:00Z"})] {
        assert_eq!(patch("M-1", change.clone()).await.status, 200, "{change}");
    }
    // What the card says now is what must suit the newest version.
    let values = patch("M-1", json!({"attributes": {"points": 5}, "state": "voided"})).await;
    assert_eq!((values.status, values.pointers()), (422, vec!["/attributes/name".to_owned()]));
    for (id, (phone, serial)) in ["M-1", "M-2"].into_iter().zip(&mut phones) {
        let voided = patch(id, json!({"state": "voided"})).await;
        assert_eq!((voided.status, &voided.json()["template_version"]), (200, &json!(1)), "{}", voided.json());
        assert_eq!(service.deliver().await, 1);
        assert_eq!(service.wake(phone).await.len(), 1);
        let pass = &phone.passes()[serial].pass;
        assert_eq!((&pass["voided"], &pass["barcodes"][0]["format"]), (&json!(true), &json!("PKBarcodeFormatQR")));
    }
    assert_eq!(patch("M-2", json!({"state": "active"})).await.status, 422, "that is checked anew");
    // Put back as it was read, a card has the same values.
    let shown = service.card("M-1").await;
    let mut put = json!({"template": "bakery", "attributes": shown["attributes"], "state": "expired"});
    let expired = service.api(Method::PUT, "/api/v1/cards/M-1", &put).await;
    assert_eq!(expired.status, 200, "{}", expired.json());
    put["attributes"]["points"] = json!(77);
    assert_eq!(service.api(Method::PUT, "/api/v1/cards/M-1", &put).await.status, 422);
    let back = patch("M-1", json!({"state": "active", "attributes": {"name": "Anna"}})).await;
    assert_eq!((back.status, &back.json()["template_version"]), (200, &json!(2)));
    service.deliver().await;
    service.stop().await;
}

async fn a_template_computes_so_much_for_each_card_at_most(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    let field = |n: usize| json!({"key": format!("f{n}"), "label": "x", "value": "{{ points + 1 }}".repeat(20)});
    document["fields"]["back"] = (0..50).map(field).collect();
    service.publish("bakery", &document).await;
    document["strings"]["lv"] = json!({"{{ points + 1 }}".repeat(20): "{{ points + 2 }}".repeat(20)});
    service.publish("bakery", &document).await;
    document["fields"]["auxiliary"] = (50..100).map(field).collect();
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    assert_eq!((put.status, put.pointers()), (422, vec![String::new()]), "{}", put.json());
    let detail = put.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("computes 6000 expressions for each card"), "{detail}");
    service.stop().await;
}

async fn a_card_that_would_break_a_rule_keeps_its_version(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "attributes": {"name": "Āboliņš"}})).await;
    let mut document = bakery();
    document["barcode"] = json!({"format": "code128", "value": "{{ name }}"});
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let published = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await.json();
    let errors = &published["cards"]["keeping"][0]["errors"];
    assert!(errors[0]["detail"].as_str().unwrap().contains("barcode-content"), "{published}");
    let barcode = async || {
        let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
        let pass: Value = serde_json::from_slice(&crate::passes::unzip(&pass.body)["pass.json"]).unwrap();
        pass["barcodes"][0]["format"].clone()
    };
    assert_eq!(
        (service.card("M-1").await["template_version"].clone(), barcode().await),
        (json!(1), json!("PKBarcodeFormatQR"))
    );
    // A change is judged by the newest version.
    let still = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"attributes": {"points": 1}})).await;
    assert_eq!((still.status, still.pointers()), (422, vec!["/attributes/name".to_owned()]));
    let card = service.patch_card("M-1", &json!({"attributes": {"name": "Abolins"}})).await;
    assert_eq!((card["template_version"].clone(), barcode().await), (json!(2), json!("PKBarcodeFormatCode128")));
    service.stop().await;
}

async fn a_removed_attribute_keeps_its_values_and_its_type(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "attributes": {"note": "likes rye"}})).await;
    let mut without = bakery();
    without["attributes"].as_array_mut().unwrap().retain(|a| a["name"] != "note");
    service.publish("bakery", &without).await;
    assert!(service.card("M-1").await["attributes"].get("note").is_none());
    let refused = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"attributes": {"note": "x"}})).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/attributes/note".to_owned()]));
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    // Under another type it can't come back, since cards still hold texts.
    let mut other = without.clone();
    other["attributes"].as_array_mut().unwrap().push(json!({"name": "note", "type": "integer"}));
    service.api(Method::PUT, "/api/v1/templates/bakery", &other).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/attributes/5/type".to_owned()]));
    // An amount of one currency doesn't become one of another.
    let mut dollars = bakery();
    dollars["attributes"][1]["currency"] = json!("USD");
    service.api(Method::PUT, "/api/v1/templates/bakery", &dollars).await;
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/attributes/1/currency".to_owned()]));
    service.publish("bakery", &bakery()).await;
    assert_eq!(service.card("M-1").await["attributes"]["note"], "likes rye");
    service.stop().await;
}

async fn a_vanished_choice_renders_as_stored(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "attributes": {"tier": "gold"}})).await;
    let mut document = bakery();
    document["attributes"][2]["choices"] = json!(["basic", "silver"]);
    document["tiers"] = json!({"attribute": "tier"});
    service.publish("bakery", &document).await;
    let card = service.card("M-1").await;
    assert_eq!((&card["template_version"], &card["attributes"]["tier"]), (&json!(2), &json!("gold")));
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let pass: Value = serde_json::from_slice(&crate::passes::unzip(&pass.body)["pass.json"]).unwrap();
    assert_eq!(pass["storeCard"]["secondaryFields"][0]["value"], "gold");
    let refused = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"attributes": {"tier": "gold"}})).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/attributes/tier".to_owned()]));
    service.stop().await;
}

async fn prepared_pictures_are_chosen_by_values(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["attributes"].as_array_mut().unwrap().push(json!({"name": "picture", "type": "image"}));
    document["images"] = json!({"strip": "{{ points }}"});
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    service.put_image("bakery", "strip", &png(375, 144)).await;
    service.put_image("bakery", "strip@6", &png(450, 144)).await;
    service.put_image("bakery", "strip@winter", &png(600, 144)).await;
    service.publish("bakery", &document).await;
    let strip = async |attributes: Value| {
        service.put_card("M-1", &json!({"template": "bakery", "attributes": attributes})).await;
        let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
        let mut files = crate::passes::unzip(&pass.body);
        assert!(!files.keys().any(|name| name.contains("winter") || name.contains("@6")), "{:?}", files.keys());
        files.remove("strip@3x.png").unwrap()
    };
    let common = strip(json!({"points": 5})).await;
    let six = strip(json!({"points": 6})).await;
    let winter = strip(json!({"points": 6, "picture": "strip@winter"})).await;
    assert!(common != six && six != winter && common != winter);
    assert_eq!(strip(json!({"points": 7})).await, common, "what has no picture shows the common one");
    // A hundred cards of one look share what is prepared: it isn't their number that costs.
    let hashed = service.app.metrics.files_hashed.get();
    for n in 0..10 {
        service.put_card(&format!("C-{n}"), &json!({"template": "bakery", "attributes": {"points": 6}})).await;
        service.api(Method::GET, &format!("/api/v1/cards/C-{n}/apple"), &Value::Null).await;
    }
    assert_eq!(service.app.metrics.files_hashed.get(), hashed);
    // The page shows the same picture.
    let page =
        service.card("C-1").await["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    assert_eq!(service.send(Method::GET, &format!("{page}/strip.png?lang=en"), &[], Vec::new()).await.body, six);
    let unknown = json!({"template": "bakery", "attributes": {"picture": "strip@summer"}});
    let refused = service.api(Method::PUT, "/api/v1/cards/M-1", &unknown).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/attributes/picture".to_owned()]));
    let preview = service
        .api(Method::POST, "/api/v1/templates/bakery/preview", &json!({"attributes": {"picture": "strip@summer"}}))
        .await;
    assert_eq!((preview.status, preview.pointers()), (422, vec!["/attributes/picture".to_owned()]));
    service.stop().await;
}

async fn a_boarding_pass_is_made_through_its_own_members(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = json!({
        "name": "Boarding", "organization": "Air Kuzina",
        "attributes": [{"name": "gate", "type": "text"}, {"name": "leaves", "type": "datetime"}],
        "fields": {"header": [{"key": "gate", "label": "Gate", "value": "{{ gate }}", "change_message": "Gate %@"}],
            "primary": [{"key": "from", "label": "Riga", "value": "RIX"}, {"key": "to", "label": "Oslo", "value": "OSL"}]},
        "barcode": {"format": "aztec", "value": "{{ card.id }}"},
        "apple": {"style": "boardingPass", "pass": {"boardingPass": {"transitType": "PKTransitTypeAir"}, "relevantDates": [{"date": "{{ leaves }}"}],
            "groupingIdentifier": "trip-{{ card.id }}"}}
    });
    service.publish("boarding", &document).await;
    service.put_image("boarding", "footer", &png(286, 15)).await;
    service.publish("boarding", &document).await;
    let card = json!({"template": "boarding", "attributes": {"gate": "12", "leaves": "2030-01-01T10:00:00Z"}});
    service.put_card("B-1", &card).await;
    let pass = service.api(Method::GET, "/api/v1/cards/B-1/apple", &Value::Null).await;
    let files = crate::passes::unzip(&pass.body);
    let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
    assert_eq!(pass["boardingPass"]["transitType"], "PKTransitTypeAir");
    assert_eq!(pass["boardingPass"]["primaryFields"][1]["value"], "OSL");
    assert_eq!(pass["groupingIdentifier"], "trip-B-1");
    assert!(pass["relevantDates"][0]["date"].as_str().unwrap().starts_with("2030-01-01T10:00:00"), "{pass}");
    assert!(files.contains_key("footer@2x.png"));
    // What a merged member breaks by a card's value is told at the attribute.
    document["apple"]["pass"]["relevantDates"] = json!([{"date": "{{ gate }}"}]);
    document["attributes"][0]["default"] = json!("2030-01-01T10:00:00Z");
    service.publish("boarding", &document).await;
    let wrong = service.api(Method::PUT, "/api/v1/cards/B-2", &card).await;
    assert_eq!((wrong.status, wrong.pointers()), (422, vec!["/attributes/gate".to_owned()]));
    service.stop().await;
}

async fn numbers_amounts_and_dates_are_written_in_each_language(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["back"] = json!([{"key": "sum", "label": "Sum",
        "value": "{{ points | number }} / {{ balance | money }} / {{ expires_on | date }}"}]);
    service.publish("bakery", &document).await;
    let attributes = json!({"points": 12000, "balance": "12345.50", "expires_on": "2026-12-31"});
    let card = service.put_card("M-1", &json!({"template": "bakery", "attributes": attributes})).await;
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let files = crate::passes::unzip(&pass.body);
    let table =
        |language: &str| String::from_utf8_lossy(&files[&format!("{language}.lproj/pass.strings")]).into_owned();
    assert!(table("en").contains("12,000 / €12,345.50 / Dec 31, 2026"), "{}", table("en"));
    assert!(table("lv").contains("12\u{a0}000 / 12\u{a0}345,50\u{a0}€ / 2026. g. 31. dec."), "{}", table("lv"));
    assert!(table("ru").contains("31 дек. 2026"), "{}", table("ru"));
    // The page speaks the visitor's language.
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    let page = service.send(Method::GET, &page, &[("accept-language", "lv")], Vec::new()).await;
    assert!(String::from_utf8_lossy(&page.body).contains("2026. g. 31. dec."));
    service.stop().await;
}

async fn every_language_has_its_folder_and_values_are_never_translated(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["languages"] = json!(["lv", "ru", "pt-BR"]);
    document["strings"] = json!({"ru": {"Points": "Баллы"}});
    service.publish("bakery", &document).await;
    service
        .put_card(
            "M-1",
            &json!({"template": "bakery", "attributes": {"name": "Points", "note": "l10n:fields.points.label"}}),
        )
        .await;
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let files = crate::passes::unzip(&pass.body);
    for folder in ["en", "lv", "ru", "pt-BR"] {
        assert!(files.contains_key(&format!("{folder}.lproj/pass.strings")), "{folder}");
    }
    let table = String::from_utf8_lossy(&files["ru.lproj/pass.strings"]).into_owned();
    assert!(table.contains("\"l10n:fields.points.label\" = \"Баллы\";"), "{table}");
    let pass: Value = serde_json::from_slice(&files["pass.json"]).unwrap();
    assert_eq!(pass["storeCard"]["headerFields"][0]["label"], "l10n:fields.points.label");
    assert_eq!(pass["storeCard"]["auxiliaryFields"][0]["value"], "Points");
    for line in table.lines() {
        assert!(line.starts_with("\"l10n:"), "{line}");
    }
    service.stop().await;
}

async fn a_wrong_value_is_told_at_its_attribute_for_every_type(database: TestDatabase) {
    let service = Service::start(&database).await;
    let types = ["text", "integer", "decimal", "boolean", "date", "datetime", "url", "image", "phone", "email"];
    let mut attributes: Vec<Value> = types.iter().map(|t| json!({"name": format!("a_{t}"), "type": t})).collect();
    attributes.push(json!({"name": "a_money", "type": "money", "currency": "EUR"}));
    attributes.push(json!({"name": "a_choice", "type": "choice", "choices": ["x", "y"]}));
    let names: Vec<String> = attributes.iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect();
    let fields: Vec<Value> = names.iter().map(|n| json!({"key": n, "value": format!("{{{{ {n} }}}}")})).collect();
    let document = json!({"name": "All", "organization": "Kuzina", "attributes": attributes, "fields": {"back": fields},
        "apple": {"style": "generic"}});
    service.publish("all", &document).await;
    let right = json!({"a_text": "x", "a_integer": 7, "a_decimal": "1.5", "a_boolean": true, "a_date": "2026-12-31",
        "a_datetime": "2026-12-31T18:00:00Z", "a_url": "https://kuzina.example", "a_image": "https://kuzina.example/a.png",
        "a_phone": "00371 20 000 000", "a_email": "anna@kuzina.example", "a_money": 7, "a_choice": "y"});
    let card = service.put_card("M-1", &json!({"template": "all", "attributes": right})).await;
    assert_eq!(card["attributes"]["a_phone"], "+37120000000");
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    let pass: Value = serde_json::from_slice(&crate::passes::unzip(&pass.body)["pass.json"]).unwrap();
    // And the place of a backend's own text.
    assert_eq!(pass["generic"]["backFields"].as_array().unwrap().len(), 13);
    let wrong = json!({"a_text": 7, "a_integer": "7", "a_decimal": "x", "a_boolean": "true", "a_date": "31.12.2026",
        "a_datetime": "2026-12-31", "a_url": "kuzina", "a_image": "x", "a_phone": "20000000", "a_email": "anna",
        "a_money": "1.005", "a_choice": "z"});
    let refused = service.api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "all", "attributes": wrong})).await;
    let mut pointers = refused.pointers();
    let mut expected: Vec<String> = names.iter().map(|n| format!("/attributes/{n}")).collect();
    pointers.sort();
    expected.sort();
    assert_eq!((refused.status, pointers), (422, expected));
    assert_eq!(service.card("M-1").await["revision"], 1);
    service.stop().await;
}

async fn a_value_that_can_not_be_computed_with_is_told_at_its_attribute(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["attributes"][0]["default"] = json!(1);
    document["fields"]["primary"] = json!([{"key": "half", "value": "{{ 100 / (points - 60 - 60) }}"}]);
    document["fields"]["back"] = json!([{"key": "link", "label": "Link", "value": "Open", "link": "{{ note }}"}]);
    service.publish("bakery", &document).await;
    let put = async |attributes: Value| {
        let answer = service
            .api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery", "attributes": attributes}))
            .await;
        (answer.status, if answer.status == 422 { answer.pointers() } else { Vec::new() })
    };
    assert_eq!(put(json!({"points": 120})).await, (422, vec!["/attributes/points".to_owned()]));
    assert_eq!(put(json!({"note": "javascript:alert(1)"})).await, (422, vec!["/attributes/note".to_owned()]));
    assert_eq!(put(json!({"points": 4})).await.0, 201);
    service.stop().await;
}
