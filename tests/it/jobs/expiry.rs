//! Cards whose end passes, and what a backend may do about it.

use std::time::Duration;

use passloom::actions::cards::expire_cards::expire_step;
use passloom::startup::{Contents, JobMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::issuers::{document, mint};
use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_card_expires_when_its_end_passes_as_phones_know_already,
    two_nodes_expire_many_cards_once,
    the_job_of_a_running_service_finds_them,
    active_clears_the_end_that_made_a_card_expire,
    a_card_that_is_put_with_an_end_in_the_past_is_expired_and_stays_so,
    a_voided_card_stays_voided,
    cards_of_one_workspace_that_can_not_expire_hold_up_no_others,
];

async fn expire(service: &Service) -> usize {
    let mut all = 0;
    loop {
        match expire_step(&service.app).await.unwrap() {
            0 => return all,
            some => all += some,
        }
    }
}

async fn cards_of_one_workspace_that_can_not_expire_hold_up_no_others(database: TestDatabase) {
    let mut service = Service::start(&database).await;
    let spa = service.workspace("spa").await;
    let own = document(&mint(&service, "pass.test.spa", service.now()));
    assert_eq!(service.api_as(&spa, Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "expires_at": until(&service, 10)})).await;
    let bakers = std::mem::replace(&mut service.key, spa);
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "expires_at": until(&service, 20)})).await;
    database.execute("UPDATE cards SET attributes = 'unreadable' WHERE workspace_id = 'default'").await;
    service.clock.advance(Duration::from_secs(30));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    assert_eq!(service.card("M-1").await["state"], "expired");
    // PostgreSQL may still be taking back what the step before had begun, and hold the rows.
    let mut told = expire_step(&service.app).await;
    for _ in 0..1000 {
        if told.is_err() {
            break;
        }
        told = expire_step(&service.app).await;
    }
    assert!(told.is_err(), "and it is told");
    database.execute("UPDATE cards SET attributes = '{}' WHERE workspace_id = 'default'").await;
    while expire_step(&service.app).await.unwrap() == 0 {}
    service.key = bakers;
    assert_eq!(service.card("M-1").await["state"], "expired");
    service.stop().await;
}

fn until(service: &Service, seconds: u64) -> String {
    service.now().plus(Duration::from_secs(seconds)).to_rfc3339()
}

async fn a_card_expires_when_its_end_passes_as_phones_know_already(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let end = until(&service, 60);
    let card = service.put_card("M-1", &json!({"template": "bakery", "expires_at": end})).await;
    service.put_card("M-2", &json!({"template": "bakery", "expires_at": until(&service, 3600)})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    service.clock.advance(Duration::from_secs(59));
    assert_eq!(expire(&service).await, 0);
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(expire(&service).await, 1);
    assert_eq!(expire(&service).await, 0);
    let expired = service.card("M-1").await;
    assert_eq!((expired["state"].as_str(), expired["revision"].as_i64()), (Some("expired"), Some(2)));
    assert_eq!(expired["expires_at"], end);
    assert!(expired["updated_at"].as_str() > card["updated_at"].as_str());
    assert_eq!(service.card("M-2").await["state"], "active");
    // The pass named its end from the beginning, so the phone is told nothing.
    assert_eq!(service.deliver().await, 0);
    assert_eq!(service.wake(&mut phone).await.len(), 0);
    assert_eq!(phone.passes()[&serial].pass["expirationDate"], service.now().to_rfc3339_seconds());
    let events = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await.json();
    let told: Vec<_> = events["data"].as_array().unwrap().iter().filter(|e| e["type"] == "card.expired").collect();
    assert_eq!((told.len(), &told[0]["data"]), (1, &json!({"card": "M-1", "revision": 2, "expires_at": end})));

    // Back before the end: what has expired stays so, and nothing else does.
    service.clock.set(service.now().minus(Duration::from_secs(7200)));
    assert_eq!(expire(&service).await, 0);
    assert_eq!(service.card("M-1").await["state"], "expired");
    let changed = service.patch_card("M-1", &json!({"attributes": {"points": 9}})).await;
    assert_eq!((changed["state"].as_str(), changed["revision"].as_i64()), (Some("expired"), Some(3)));
    service.deliver().await;
    service.clock.advance(Duration::from_secs(7210));
    service.deliver().await;
    service.stop().await;
}

async fn two_nodes_expire_many_cards_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let end = until(&service, 10);
    let lines: Vec<String> = (0..500)
        .map(|n| json!({"id": format!("M-{n}"), "template": "bakery", "expires_at": end}).to_string())
        .collect();
    let bearer = format!("Bearer {}", service.key);
    let body = lines.join("\n").into_bytes();
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &[("authorization", &bearer)], body).await;
    assert_eq!(answer.status, 200);
    service.clock.advance(Duration::from_secs(11));
    let (one, other) = futures_util::future::join(expire(&service), expire(&service)).await;
    let rest = expire(&service).await;
    assert_eq!(one + other + rest, 500);
    let list = service.api(Method::GET, "/api/v1/cards?state=expired&limit=1000", &Value::Null).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 500);
    assert!(list["data"].as_array().unwrap().iter().all(|card| card["revision"] == 2));
    service.stop().await;
}

async fn the_job_of_a_running_service_finds_them(database: TestDatabase) {
    let service = Service::start_with(&database, Contents::Nothing, JobMode::Running).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery", "expires_at": until(&service, 60)})).await;
    service.clock.advance(Duration::from_secs(61));
    let state = async || service.card("M-1").await["state"].clone();
    while state().await != "expired" {
        tokio::task::yield_now().await;
    }
    service.stop().await;
}

async fn active_clears_the_end_that_made_a_card_expire(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    // By the backend's word.
    service.put_card("M-1", &anna(1)).await;
    service.patch_card("M-1", &json!({"state": "expired"})).await;
    assert_eq!(service.patch_card("M-1", &json!({"state": "active"})).await["state"], "active");
    // A later end that it announced stands.
    let end = until(&service, 60);
    service.patch_card("M-1", &json!({"state": "expired", "expires_at": end})).await;
    let active = service.patch_card("M-1", &json!({"state": "active"})).await;
    assert_eq!((active["state"].as_str(), &active["expires_at"]), (Some("active"), &json!(end)));
    // By the job.
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(expire(&service).await, 1);
    let active = service.patch_card("M-1", &json!({"state": "active"})).await;
    assert_eq!((active["state"].as_str(), &active["expires_at"]), (Some("active"), &Value::Null));
    assert_eq!(expire(&service).await, 0);
    // With a new end.
    let end = until(&service, 60);
    service.patch_card("M-1", &json!({"state": "expired"})).await;
    let active = service.patch_card("M-1", &json!({"state": "active", "expires_at": end})).await;
    assert_eq!((active["state"].as_str(), &active["expires_at"]), (Some("active"), &json!(end)));
    service.stop().await;
}

async fn a_card_that_is_put_with_an_end_in_the_past_is_expired_and_stays_so(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let document = json!({"template": "bakery", "expires_at": "2020-01-01T00:00:00Z"});
    for _ in 0..2 {
        let card = service.put_card("M-1", &document).await;
        assert_eq!((card["state"].as_str(), card["revision"].as_i64()), (Some("expired"), Some(1)));
        assert_eq!(expire(&service).await, 0);
    }
    // A backend that sends the same every night changes nothing after the end, either.
    let document = json!({"template": "bakery", "expires_at": until(&service, 60)});
    service.put_card("M-2", &document).await;
    service.clock.advance(Duration::from_secs(61));
    assert_eq!(expire(&service).await, 1);
    let card = service.put_card("M-2", &document).await;
    assert_eq!((card["state"].as_str(), card["revision"].as_i64()), (Some("expired"), Some(2)));
    service.stop().await;
}

async fn a_voided_card_stays_voided(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let end = until(&service, 60);
    service.put_card("M-1", &json!({"template": "bakery", "state": "voided", "expires_at": end})).await;
    service.clock.advance(Duration::from_secs(61));
    assert_eq!(expire(&service).await, 0);
    assert_eq!(service.card("M-1").await["state"], "voided");
    service.stop().await;
}
