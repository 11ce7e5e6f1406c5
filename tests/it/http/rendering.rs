//! What drawing a card may cost, where it is drawn, and how often.

use futures_util::future::join_all;
use passloom::telemetry::RenderLabels;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, anna, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    what_a_card_could_cost_is_looked_at_when_its_template_is_put,
    an_expression_that_fails_for_some_value_is_found_when_the_template_is_put,
    a_card_is_drawn_once_for_all_who_look_at_it_and_anew_when_it_changes,
    a_pass_is_made_once_for_all_who_ask_for_it_at_the_same_time,
];

fn long_text(field: &str, list: usize) -> Value {
    json!({
        "name": "Long", "organization": "Kuzina",
        "attributes": [{"name": "a", "type": "text", "default": "", "max_length": 4096}],
        "fields": {"back": [{"key": "k", "label": "K", "value": field}]},
        "apple": {"style": "storeCard", "pass": {"userInfo": {"list": vec!["{{a}}"; list]}}}})
}

async fn what_a_card_could_cost_is_looked_at_when_its_template_is_put(database: TestDatabase) {
    let service = Service::start(&database).await;
    let joined = format!("{{{{ 'x' if ({})=='' else 'y' }}}}", ["a"; 120].join("~"));
    let long = service.api(Method::PUT, "/api/v1/templates/long", &long_text(&joined, 1)).await;
    let detail = long.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
    assert_eq!((long.status, long.pointers().first().map(String::as_str)), (422, Some("/fields/back/0/value")));
    assert!(detail.contains("1966080 bytes") && detail.contains("262144"), "{detail}");
    let large = service.api(Method::PUT, "/api/v1/templates/long", &long_text("1", 500)).await;
    assert_eq!(large.status, 422);
    let details = large.json()["errors"].to_string();
    assert!(details.contains("/apple/pass/userInfo/list/") && details.contains("2097152"), "{details}");
    assert_eq!(service.api(Method::GET, "/api/v1/templates/long", &Value::Null).await.status, 404);
    // Just below, the largest card there can be is drawn, and its pass is as small as was said.
    service.api(Method::PUT, "/api/v1/templates/long", &long_text("1", 120)).await;
    service.put_image("long", "icon", &png(87, 87)).await;
    service.publish("long", &long_text("1", 120)).await;
    let document = json!({"template": "long", "attributes": {"a": "\u{1F600}".repeat(4096)}});
    service.put_card("M-1", &document).await;
    let pass = service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
    assert_eq!(pass.status, 200);
    assert!(pass.body.len() > 120 * 4 * 4096 && pass.body.len() < 2 * 1024 * 1024 + 65_536, "{}", pass.body.len());
    service.stop().await;
}

async fn an_expression_that_fails_for_some_value_is_found_when_the_template_is_put(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (expression, status) in [
        ("{{ name if tier == 'gold' }}", 422),
        ("{{ name if tier == 'gold' else '' }}", 201),
        ("{{ 100 / points }}", 422),
        ("{{ 100 / points if points else 0 }}", 200),
        ("{{ name | date }}", 422),
        ("{{ expires_on | date }}", 200),
    ] {
        let mut document = bakery();
        document["fields"]["back"] = json!([{"key": "x", "label": "X", "value": expression}]);
        let answer = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
        assert_eq!(answer.status, status, "{expression}: {}", answer.json());
        if status == 422 {
            assert_eq!(answer.pointers(), ["/fields/back/0/value"], "{expression}");
        }
    }
    service.stop().await;
}

fn drawn(service: &Service) -> u64 {
    service.app.metrics.renders.get_or_create(&RenderLabels { reader: "customer" }).get()
}

async fn a_card_is_drawn_once_for_all_who_look_at_it_and_anew_when_it_changes(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let url = |card: &Value| {
        let page = card["urls"]["page"].as_str().unwrap();
        page[page.find("/c/").unwrap()..].to_owned()
    };
    let look = async |path: &str| {
        let answer = service.send(Method::GET, path, &[], Vec::new()).await;
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let (one, many) =
        (url(&service.put_card("M-1", &anna(4321)).await), url(&service.put_card("M-2", &anna(4321)).await));
    let before = drawn(&service);
    assert_eq!(look(&one).await.0, 200);
    let for_one = drawn(&service) - before;
    let before = drawn(&service);
    let all = join_all((0..20).map(|_| look(&many))).await;
    assert!(
        all.iter().all(|answer| *answer == all[0]) && all[0].0 == 200 && all[0].1.contains("4,321"),
        "{:?}",
        all[0]
    );
    assert_eq!(drawn(&service) - before, for_one, "for twenty as for one");
    assert_eq!(look(&format!("{many}/card.css")).await.0, 200);
    assert_eq!(drawn(&service) - before, for_one, "colours are known by then");
    // Whatever changes is shown at once.
    service.patch_card("M-2", &json!({"attributes": {"points": 8765}})).await;
    let page = look(&many).await.1;
    assert!(page.contains("8,765") && !page.contains("4,321"));
    let active = page;
    service.patch_card("M-2", &json!({"state": "voided"})).await;
    assert_ne!(look(&many).await.1, active);
    let mut design = bakery();
    design["fields"]["back"] = json!([{"key": "x", "label": "X", "value": "Something new"}]);
    service.publish("bakery", &design).await;
    assert!(look(&one).await.1.contains("Something new"));
    service.api(Method::DELETE, "/api/v1/cards/M-2", &Value::Null).await;
    assert_eq!(look(&many).await.0, 410);
    service.stop().await;
}

async fn a_pass_is_made_once_for_all_who_ask_for_it_at_the_same_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let apple = card["urls"]["apple"].as_str().unwrap();
    let path = &apple[apple.find("/c/").unwrap()..];
    let load = || service.send(Method::GET, path, &[], Vec::new());
    let signed = service.app.metrics.signatures.get();
    let all = join_all((0..20).map(|_| load())).await;
    assert!(all.iter().all(|answer| answer.status == 200 && answer.body == all[0].body));
    assert_eq!(service.app.metrics.signatures.get() - signed, 1);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_ne!(load().await.body, all[0].body);
    assert_eq!(service.app.metrics.signatures.get() - signed, 2);
    service.stop().await;
}
