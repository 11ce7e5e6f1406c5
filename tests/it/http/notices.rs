//! What a change of a card says to its owner, and which changes are late, the same again, or bring a card back.

use std::time::Duration;

use passloom::actions::expire_cards::expire_step;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    the_same_change_sent_twice_is_no_late_change,
    in_a_bulk_the_same_line_again_is_unchanged_and_another_one_stale,
    a_new_end_brings_back_a_card_that_its_old_end_expired,
];

async fn shop(database: &TestDatabase) -> Service {
    let service = Service::start(database).await;
    service.publish("bakery", &bakery()).await;
    service
}

/// The status, and the revision or the type of the problem.
async fn send(service: &Service, method: Method, body: &Value) -> (u16, Value) {
    let answer = service.api(method, "/api/v1/cards/M-1", body).await;
    let json = answer.json();
    (answer.status, json.get("revision").unwrap_or(&json["type"]).clone())
}

async fn the_same_change_sent_twice_is_no_late_change(database: TestDatabase) {
    let service = shop(&database).await;
    let late = (409, json!("/problems/stale"));
    let put = json!({"template": "bakery", "sequence": 1, "attributes": {"points": 1}});
    assert_eq!(send(&service, Method::PUT, &put).await, (201, json!(1)));
    assert_eq!(send(&service, Method::PUT, &put).await, (200, json!(1)));
    // The same by another spelling has the same outcome.
    let aloud =
        json!({"template": "bakery", "sequence": 1, "locale": "en", "attributes": {"points": 1, "tier": "basic"}});
    assert_eq!(send(&service, Method::PUT, &aloud).await, (200, json!(1)));
    let patch = json!({"sequence": 2, "attributes": {"points": 2}});
    for _ in 0..2 {
        assert_eq!(send(&service, Method::PATCH, &patch).await, (200, json!(2)));
    }
    // Another content under the same number, and any content under an older one, is late; values don't matter then.
    for body in [
        json!({"sequence": 2, "attributes": {"points": 3}}),
        json!({"sequence": 1, "attributes": {"points": 2}}),
        json!({"sequence": 1}),
    ] {
        assert_eq!(send(&service, Method::PATCH, &body).await, late, "{body}");
    }
    assert_eq!(send(&service, Method::PUT, &put).await, late);
    // What came without a number meanwhile isn't undone by a retry.
    service.patch_card("M-1", &json!({"attributes": {"points": 7}})).await;
    assert_eq!(send(&service, Method::PATCH, &patch).await, late);
    let card = service.card("M-1").await;
    assert_eq!(
        (&card["attributes"]["points"], &card["sequence"], &card["revision"]),
        (&json!(7), &json!(2), &json!(3))
    );
    service.stop().await;
}

async fn in_a_bulk_the_same_line_again_is_unchanged_and_another_one_stale(database: TestDatabase) {
    let service = shop(&database).await;
    let put = json!({"id": "M-1", "template": "bakery", "sequence": 1, "attributes": {"points": 1}});
    let patch = json!({"id": "M-1", "patch": true, "sequence": 2, "attributes": {"points": 2}});
    let other = json!({"id": "M-1", "patch": true, "sequence": 2, "attributes": {"points": 3}});
    let lines = [&put, &put, &patch, &patch, &other, &put].map(Value::to_string).join("\n");
    let headers =
        [("authorization", format!("Bearer {}", service.key)), ("content-type", "application/x-ndjson".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, lines.into_bytes()).await;
    let statuses: Vec<Value> = String::from_utf8(answer.body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone())
        .collect();
    assert_eq!(statuses, ["created", "unchanged", "updated", "unchanged", "stale", "stale"]);
    service.stop().await;
}

async fn a_new_end_brings_back_a_card_that_its_old_end_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["back"][1]["value"] = json!("{{ 'Your card ended' if card.state == 'expired' else 'Welcome' }}");
    service.publish("bakery", &document).await;
    let end = |days: u64| json!(service.now().plus(Duration::from_secs(days * 86_400)));
    let card = service.put_card("M-1", &json!({"template": "bakery", "expires_at": end(1)})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Welcome"));
    let states = async |patch: &Value| {
        let card = service.patch_card("M-1", patch).await;
        card["state"].as_str().unwrap().to_owned()
    };

    service.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Your card ended"));
    assert_eq!(states(&json!({"attributes": {"points": 5}})).await, "expired", "its end stands");
    assert_eq!(states(&json!({"expires_at": service.now()})).await, "expired", "that isn't in the future");
    assert_eq!(states(&json!({"expires_at": end(1), "state": "expired"})).await, "expired", "an explicit state wins");
    // Expired by word, not by its end.
    assert_eq!(states(&json!({"expires_at": end(2)})).await, "expired");

    assert_eq!(states(&json!({"state": "active", "expires_at": end(1)})).await, "active");
    service.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    let (before, later) = (service.card("M-1").await["revision"].as_i64().unwrap(), end(3));
    assert_eq!(states(&json!({"expires_at": later})).await, "active");
    let card = service.card("M-1").await;
    assert_eq!((&card["expires_at"], &card["revision"]), (&later, &json!(before + 1)));
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Welcome"));
    assert_eq!(expire_step(&service.app).await.unwrap(), 0);

    // Without any end it is active, too.
    service.clock.advance(Duration::from_secs(4 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    assert_eq!(states(&json!({"expires_at": null})).await, "active");
    service.deliver().await;
    service.clock.advance(Duration::from_secs(5));
    service.deliver().await;
    service.stop().await;
}
