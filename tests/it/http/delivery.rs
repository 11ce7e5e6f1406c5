//! The freshness ledger: where a card's newest face has got to, and why a device is behind.

use std::time::Duration;

use passloom::domain::ids::PushToken;
use passloom::sandbox::apns::Answer;
use passloom::sandbox::phone::Phone;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    the_ledger_follows_a_change_from_the_push_to_the_fetch,
    a_fetch_counts_for_the_devices_that_asked_a_304_too,
    a_device_that_is_behind_has_a_reason_in_plain_words,
    a_reader_of_another_maker_is_told_apart,
    a_publishing_that_has_not_come_to_a_card_is_said,
    the_ledger_of_an_unknown_card_is_not_found,
    pushes_and_fetches_are_told_in_the_timeline_of_the_cards_they_were_about,
    failed_deliveries_are_told_with_their_reason,
];

async fn ledger(service: &Service, id: &str) -> Value {
    let answer = service.api(Method::GET, &format!("/api/v1/cards/{id}/delivery"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let ledger = answer.json();
    // The card's own count and the ledger say the same.
    let current = ledger["targets"].as_array().unwrap().iter().filter(|target| target["state"] == "current").count();
    assert_eq!(service.card(id).await["wallets"]["apple"]["current"], current, "{ledger}");
    ledger
}

async fn shop_with_phone(database: &TestDatabase) -> (Service, Phone) {
    let (service, card) = Service::shop_with_card(database, 1).await;
    let (phone, _) = service.phone_with(&card).await;
    (service, phone)
}

async fn change(service: &Service, points: i64) {
    service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
}

async fn reason(service: &Service) -> (String, String) {
    let ledger = ledger(service, "M-1").await;
    let target = &ledger["targets"][0];
    let words = |name: &str| target[name].as_str().unwrap_or_default().to_owned();
    (words("state"), words("reason"))
}

async fn the_ledger_follows_a_change_from_the_push_to_the_fetch(database: TestDatabase) {
    let (service, mut phone) = shop_with_phone(&database).await;
    let new = ledger(&service, "M-1").await;
    let face = new["face"].as_i64().unwrap();
    let target = &new["targets"][0];
    assert_eq!(new["revision"], 1);
    assert_eq!((target["wallet"].as_str(), target["kind"].as_str()), (Some("apple"), Some("apns")));
    assert_eq!((target["wanted"].as_i64(), target["fetched"].as_i64()), (Some(face), Some(face)));
    assert_eq!((target["state"].as_str(), target["reason"].as_str()), (Some("current"), None));
    assert_eq!(target["pushed_at"], Value::Null);
    let device = target["device"].as_str().unwrap().to_owned();
    assert_eq!(device.len(), 12, "a short form that can't be asked with");

    change(&service, 2).await;
    let changed = ledger(&service, "M-1").await;
    let wanted = changed["face"].as_i64().unwrap();
    assert!(wanted > face);
    let target = &changed["targets"][0];
    assert_eq!((changed["revision"].as_i64(), target["wanted"].as_i64()), (Some(2), Some(wanted)));
    assert!(target["pushed"].as_i64() < Some(wanted) && target["fetched"].as_i64() < Some(wanted));
    assert_eq!(
        (target["state"].as_str(), target["reason"].as_str()),
        (Some("behind"), Some("its push is about to leave"))
    );

    service.clock.advance(Duration::from_secs(1));
    service.deliver().await;
    let pushed = ledger(&service, "M-1").await;
    let target = &pushed["targets"][0];
    assert_eq!((target["pushed"].as_i64(), target["state"].as_str()), (Some(wanted), Some("behind")));
    assert_eq!(target["pushed_at"].as_str().unwrap(), service.now().to_rfc3339());

    service.clock.advance(Duration::from_secs(1));
    service.wake(&mut phone).await;
    let fetched = ledger(&service, "M-1").await;
    let target = &fetched["targets"][0];
    assert_eq!((target["fetched"].as_i64(), target["state"].as_str()), (Some(wanted), Some("current")));
    for moment in ["asked_at", "fetched_at"] {
        assert_eq!(target[moment].as_str().unwrap(), service.now().to_rfc3339(), "{moment}");
    }
    assert_eq!(target["device"].as_str(), Some(device.as_str()), "it stays the same");
    service.stop().await;
}

async fn a_fetch_counts_for_the_devices_that_asked_a_304_too(database: TestDatabase) {
    let (service, mut first) = shop_with_phone(&database).await;
    let card = service.card("M-1").await;
    let (mut second, serial) = service.phone_with(&card).await;
    change(&service, 2).await;
    service.deliver().await;
    service.wake(&mut first).await;
    let states = async || {
        let ledger = ledger(&service, "M-1").await;
        let mut states: Vec<String> =
            ledger["targets"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap().to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!(states().await, ["behind", "current"], "the second has not asked");
    // Pulled down on its back: the pass comes, and nobody knows whose phone that was.
    second.fetch(&serial, service.now()).await.unwrap();
    assert_eq!(states().await, ["behind", "current"]);
    assert!(service.wake(&mut second).await.is_empty(), "a 304");
    assert_eq!(states().await, ["current", "current"]);
    service.stop().await;
}

async fn a_device_that_is_behind_has_a_reason_in_plain_words(database: TestDatabase) {
    let (service, mut phone) = shop_with_phone(&database).await;
    let token = PushToken::parse(phone.push_token()).unwrap();
    let told = async |answer: Option<Answer>, points: i64| {
        if let Some(answer) = answer {
            service.apns().answer_next(Some(&token), answer, 1);
        }
        change(&service, points).await;
        service.clock.advance(Duration::from_secs(2));
        service.deliver().await;
        reason(&service).await
    };
    let (state, words) = told(None, 2).await;
    assert!(state == "behind" && words.starts_with("it was pushed to and has not asked since"), "{words}");
    let (state, words) = told(Some(Answer::new(429, "TooManyRequests")), 3).await;
    assert!(state == "behind" && words.starts_with("the last push failed (TooManyRequests); the next"), "{words}");
    service.clock.advance(Duration::from_secs(60));
    service.deliver().await;
    let (state, words) = told(Some(Answer::new(400, "DeviceTokenNotForTopic")), 4).await;
    assert!(state == "behind" && words.starts_with("APNs refused the push: DeviceTokenNotForTopic"), "{words}");
    let (state, words) = told(Some(Answer::new(403, "BadCertificate")), 5).await;
    assert!(state == "behind" && words.contains("refused the certificate since"), "{words}");
    assert!(words.contains("BadCertificate"), "{words}");
    service.clock.advance(Duration::from_secs(300));
    service.deliver().await;
    service.apns().refuse_connections(true);
    service.apns().drop_connections();
    let (state, words) = told(None, 6).await;
    assert!(state == "behind" && words.starts_with("APNs has been away since"), "{words}");
    service.apns().refuse_connections(false);
    service.clock.advance(Duration::from_secs(30));
    service.deliver().await;
    let (state, words) = told(Some(Answer::new(410, "Unregistered")), 7).await;
    assert!(state == "unreachable" && words.starts_with("the push token is dead: Unregistered, since"), "{words}");
    // The token is dead; the phone isn't.
    service.wake(&mut phone).await;
    assert_eq!(reason(&service).await, ("current".to_owned(), String::new()));
    service.stop().await;
}

async fn a_reader_of_another_maker_is_told_apart(database: TestDatabase) {
    let (service, phone) = shop_with_phone(&database).await;
    let (serial, installed) = phone.passes().iter().next().unwrap();
    let secret = installed.pass["authenticationToken"].as_str().unwrap();
    let path = format!("/apple/v1/devices/android/registrations/{PASS_TYPE}/{serial}");
    let authorization = format!("AttidoPass {secret}");
    let body = json!({"pushToken": "any:shape"}).to_string().into_bytes();
    assert_eq!(service.send(Method::POST, &path, &[("authorization", &authorization)], body).await.status, 201);
    change(&service, 2).await;
    service.deliver().await;
    let ledger = ledger(&service, "M-1").await;
    let other = ledger["targets"].as_array().unwrap().iter().find(|target| target["kind"] == "other").unwrap();
    assert_eq!((other["state"].as_str(), other["pushed"].as_i64()), (Some("behind"), Some(0)));
    assert!(other["reason"].as_str().unwrap().contains("asks by itself"));
    service.stop().await;
}

async fn a_publishing_that_has_not_come_to_a_card_is_said(database: TestDatabase) {
    let (service, _phone) = shop_with_phone(&database).await;
    let mut document = bakery();
    document["logo_text"] = json!("Newer");
    service.publish("bakery", &document).await;
    let (state, words) = reason(&service).await;
    assert!(state == "behind" && words.starts_with("the publishing of its template"), "{words}");
    service.refresh().await;
    assert_eq!(reason(&service).await.1, "its push is about to leave");
    service.deliver().await;
    service.stop().await;
}

async fn the_ledger_of_an_unknown_card_is_not_found(database: TestDatabase) {
    let (service, _phone) = shop_with_phone(&database).await;
    for id in ["M-2", "M-1%00", "..%2F"] {
        let answer = service.api(Method::GET, &format!("/api/v1/cards/{id}/delivery"), &Value::Null).await;
        assert_eq!(answer.status, 404, "{id}");
    }
    service.stop().await;
}

/// What the card's timeline says of its deliveries after it was installed.
async fn told(service: &Service, id: &str) -> Vec<Value> {
    let answer = service.api(Method::GET, &format!("/api/v1/cards/{id}/events"), &Value::Null).await;
    let page = answer.json();
    let kinds = ["card.pushed", "card.fetched", "delivery.failed"];
    let events =
        page["data"].as_array().unwrap().iter().filter(|event| kinds.iter().any(|kind| event["type"] == *kind));
    events.cloned().collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn pushes_and_fetches_are_told_in_the_timeline_of_the_cards_they_were_about(database: TestDatabase) {
    let (service, mut phone) = shop_with_phone(&database).await;
    let other = service.put_card("M-2", &anna(1)).await;
    phone.add(other["urls"]["apple"].as_str().unwrap(), service.now()).await.unwrap();
    // When a pass is added, its phone fetches it once more.
    let before = told(&service, "M-1").await.len();
    let others = told(&service, "M-2").await.len();
    change(&service, 2).await;
    service.deliver().await;
    service.wake(&mut phone).await;
    let events = told(&service, "M-1").await.split_off(before);
    assert_eq!(kinds(&events), ["card.pushed", "card.fetched"], "{events:?}");
    let device = ledger(&service, "M-1").await["targets"][0]["device"].clone();
    assert_eq!(events[0]["data"], json!({"card": "M-1", "wallet": "apple", "device": device}));
    assert_eq!(events[1]["data"], json!({"card": "M-1", "wallet": "apple"}));
    assert_eq!(told(&service, "M-2").await.len(), others, "that push was not about it");

    // What brings nothing new is not told again.
    service.wake(&mut phone).await;
    assert_eq!(told(&service, "M-1").await.len(), before + 2);
    // A push that is repeated is.
    change(&service, 3).await;
    service.clock.advance(Duration::from_secs(3));
    service.deliver().await;
    service.clock.advance(Duration::from_secs(3601));
    passloom::delivery::reminders::remind_due(&service.app).await.unwrap();
    service.deliver().await;
    assert_eq!(kinds(&told(&service, "M-1").await.split_off(before + 2)), ["card.pushed", "card.pushed"]);

    // Publishing is a push about every card; erasing is told to the phone only.
    let mut document = bakery();
    document["logo_text"] = json!("Newer");
    service.publish("bakery", &document).await;
    service.refresh().await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    service.clock.advance(Duration::from_secs(3));
    service.deliver().await;
    service.wake(&mut phone).await;
    assert_eq!(kinds(&told(&service, "M-2").await.split_off(others)), ["card.pushed", "card.fetched"]);
    let all = service.api(Method::GET, "/api/v1/events?limit=1000", &Value::Null).await.json();
    let all = all["data"].as_array().unwrap();
    assert!(all.iter().any(|event| event["type"] == "card.erased"));
    assert!(!all.iter().any(|event| event["data"]["card"] == "M-1"), "the number of an erased card is nowhere");
    assert!(!json!(all).to_string().contains("erased/"), "what is left of a card is nobody's card");
    service.stop().await;
}

async fn failed_deliveries_are_told_with_their_reason(database: TestDatabase) {
    let (service, phone) = shop_with_phone(&database).await;
    let token = PushToken::parse(phone.push_token()).unwrap();
    let seen = std::cell::Cell::new(told(&service, "M-1").await.len());
    let after = async |answer: Answer, points: i64| {
        service.apns().answer_next(Some(&token), answer, 1);
        change(&service, points).await;
        service.clock.advance(Duration::from_secs(2));
        service.deliver().await;
        let events = told(&service, "M-1").await.split_off(seen.get());
        seen.set(seen.get() + events.len());
        assert_eq!(kinds(&events), ["delivery.failed"], "{events:?}");
        let data = events[0]["data"].clone();
        assert_eq!((&data["wallet"], &data["card"]), (&json!("apple"), &json!("M-1")));
        (data["reason"].as_str().unwrap().to_owned(), data["retry_at"].clone())
    };
    let (reason, retry_at) = after(Answer::new(429, "TooManyRequests"), 2).await;
    assert_eq!(reason, "TooManyRequests");
    assert!(retry_at.as_str() > Some(service.now().to_rfc3339().as_str()), "{retry_at}");
    service.clock.advance(Duration::from_secs(60));
    service.deliver().await;
    seen.set(told(&service, "M-1").await.len());
    let (reason, retry_at) = after(Answer::new(400, "DeviceTokenNotForTopic"), 3).await;
    assert_eq!((reason.as_str(), retry_at), ("APNs refused the push: DeviceTokenNotForTopic", Value::Null));
    let (reason, retry_at) = after(Answer::new(403, "BadCertificate"), 4).await;
    assert_eq!((reason.as_str(), retry_at), ("APNs refuses the certificate: BadCertificate", Value::Null));
    // The probes that follow are not told one by one.
    service.apns().answer_next(Some(&token), Answer::new(403, "BadCertificate"), 1);
    service.clock.advance(Duration::from_secs(300));
    service.deliver().await;
    assert_eq!(told(&service, "M-1").await.len(), seen.get());
    service.clock.advance(Duration::from_secs(300));
    service.deliver().await;
    assert_eq!(kinds(&told(&service, "M-1").await.split_off(seen.get())), ["card.pushed"]);
    seen.set(seen.get() + 1);
    let (reason, retry_at) = after(Answer::new(410, "Unregistered"), 5).await;
    assert_eq!((reason.as_str(), retry_at), ("the push token is dead: Unregistered", Value::Null));
    assert!(!json!(told(&service, "M-1").await).to_string().contains(phone.push_token()));
    service.stop().await;
}
