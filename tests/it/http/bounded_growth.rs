//! What whoever holds a pass can make the database grow by.

use std::time::Duration;

use passloom::config::Limits;
use passloom::domain::actor::Actor;
use passloom::domain::event::EventKind;
use passloom::domain::ids::{CardId, WorkspaceId};
use passloom::sandbox::phone::Phone;
use passloom::store::events::{self, NewEvent, Place};
use passloom::store::workspaces;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_loop_of_registrations_and_removals_adds_few_rows_and_is_counted,
    failures_to_tell_a_card_are_counted_beyond_some_a_day_and_so_is_a_batch_of_them,
    a_page_that_is_opened_over_and_over_adds_one_event,
    made_up_phones_give_way_to_each_other_and_never_a_phone_that_asks,
    a_phone_whose_token_is_dead_gives_way_first,
    a_registration_that_says_nothing_new_is_not_written,
    a_pass_is_asked_about_so_often_a_minute_from_all_addresses_together,
];

/// Who holds a pass, with whatever device and push token he makes up.
struct Holder<'s> {
    service: &'s Service,
    serial: String,
    authorization: String,
}

impl<'s> Holder<'s> {
    fn of(service: &'s Service, phone: &Phone) -> Self {
        let (serial, installed) = phone.passes().iter().next().unwrap();
        let secret = installed.pass["authenticationToken"].as_str().unwrap();
        Self { service, serial: serial.clone(), authorization: format!("ApplePass {secret}") }
    }

    async fn send(&self, method: Method, device: &str, token: &str) -> u16 {
        let path = format!("/apple/v1/devices/{device}/registrations/{PASS_TYPE}/{}", self.serial);
        let body = json!({"pushToken": token}).to_string().into_bytes();
        self.service.send(method, &path, &[("authorization", &self.authorization)], body).await.status
    }

    async fn register(&self, device: &str) -> u16 {
        self.send(Method::POST, device, &"ab".repeat(32)).await
    }

    async fn list(&self, device: &str) -> u16 {
        let path = format!("/apple/v1/devices/{device}/registrations/{PASS_TYPE}");
        self.service.send(Method::GET, &path, &[], Vec::new()).await.status
    }
}

async fn timeline(service: &Service, kind: &str) -> Vec<Value> {
    let all = service.api(Method::GET, "/api/v1/cards/M-1/events?limit=1000", &Value::Null).await.json();
    all["data"].as_array().unwrap().iter().filter(|event| event["type"] == kind).cloned().collect()
}

async fn a_loop_of_registrations_and_removals_adds_few_rows_and_is_counted(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&service, &phone);
    let before = database.rows().await;
    for _ in 0..60 {
        assert_eq!(holder.register("loop").await, 201);
        assert_eq!(holder.send(Method::DELETE, "loop", "").await, 200);
    }
    let added = database.rows().await - before;
    assert!(added <= 40, "{added} rows");
    let (installed, removed) = (timeline(&service, "card.installed").await, timeline(&service, "card.removed").await);
    assert_eq!((installed.len(), removed.len()), (20, 20));
    assert!(installed[0]["data"]["repeats"].is_null());
    // One of the installations was the phone's own.
    assert_eq!(installed[19]["data"]["repeats"], 41);
    assert_eq!((&removed[19]["data"]["repeats"], &removed[19]["data"]["devices"]), (&json!(40), &json!(1)));
    assert!(removed[19]["data"]["last_at"].is_string());
    // A reader of all events sees the first ones, and those of the next day.
    let all = service.api(Method::GET, "/api/v1/events?limit=1000", &Value::Null).await.json();
    let of_kind = all["data"].as_array().unwrap().iter().filter(|event| event["type"] == "card.removed").count();
    assert_eq!(of_kind, 20);
    service.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(holder.register("loop").await, 201);
    assert_eq!(timeline(&service, "card.installed").await.len(), 21);
    service.stop().await;
}

async fn failures_to_tell_a_card_are_counted_beyond_some_a_day_and_so_is_a_batch_of_them(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let workspace = WorkspaceId::parse("default").unwrap();
    let id = CardId::parse("M-1").unwrap();
    let serial = passloom::domain::ids::SerialNumber::parse(card["serial_number"].as_str().unwrap()).unwrap();
    let other = passloom::domain::ids::SerialNumber::parse("another-cards").unwrap();
    for batch in 0..4 {
        let mut tx = service.app.store.begin().await.unwrap();
        let position = workspaces::next_position(&mut tx, &workspace).await.unwrap();
        let event = |serial| {
            let data = json!({"wallet": "apple", "reason": format!("batch {batch}")});
            NewEvent { serial: Some(serial), ..service.app.event(EventKind::DeliveryFailed, Some(&id), data).unwrap() }
        };
        let mut told: Vec<NewEvent<'_>> = (0..10).map(|_| event(&serial)).collect();
        told.push(event(&other));
        events::record(&mut tx, &workspace, &Actor::System, position, service.now(), &told).await.unwrap();
        tx.commit().await.unwrap();
    }
    let failed = timeline(&service, "delivery.failed").await;
    assert_eq!(failed.len(), 20);
    assert_eq!((&failed[19]["data"]["repeats"], &failed[19]["data"]["reason"]), (&json!(20), &json!("batch 3")));
    assert_eq!(failed[18]["data"]["reason"], "batch 1");
    let mut reader = service.app.store.read().await.unwrap();
    assert!(events::after(&mut reader, &workspace, Place::START, 100).await.unwrap().events.len() < 30);
    drop(reader);
    service.stop().await;
}

async fn a_page_that_is_opened_over_and_over_adds_one_event(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    let open = async || assert_eq!(service.send(Method::GET, &page, &[], Vec::new()).await.status, 200);
    open().await;
    while timeline(&service, "card.page_opened").await.is_empty() {
        tokio::task::yield_now().await;
    }
    let before = database.rows().await;
    for _ in 0..50 {
        open().await;
    }
    assert_eq!(database.rows().await, before);
    service.stop().await;
}

async fn made_up_phones_give_way_to_each_other_and_never_a_phone_that_asks(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (mut phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&service, &phone);
    for number in 0..25 {
        assert_eq!(holder.register(&format!("made-up-{number:02}")).await, 201);
        service.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 20);
    assert_eq!((holder.list("made-up-05").await, holder.list("made-up-06").await), (204, 200));
    service.patch_card("M-1", &json!({"attributes": {"points": 1}})).await;
    service.deliver().await;
    assert_eq!(service.wake(&mut phone).await.len(), 1, "the real one is still told");
    // Once all of them ask, one more is refused, and those that are there stay.
    for number in 0..25 {
        holder.list(&format!("made-up-{number:02}")).await;
    }
    assert_eq!(holder.register("one-more").await, 429);
    assert_eq!(holder.register("made-up-24").await, 200);
    assert_eq!(holder.send(Method::DELETE, "made-up-24", "").await, 200);
    assert_eq!(holder.register("one-more").await, 201);
    service.stop().await;
}

async fn a_phone_whose_token_is_dead_gives_way_first(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&service, &phone);
    for number in 1..20 {
        assert_eq!(holder.register(&format!("device-{number:02}")).await, 201);
    }
    assert_eq!(holder.list("device-07").await, 200);
    database.execute("UPDATE targets SET dead_since = 1 WHERE id = 'device-07'").await;
    assert_eq!(holder.register("one-more").await, 201);
    assert_eq!((holder.list("device-07").await, holder.list("device-01").await), (204, 200));
    service.stop().await;
}

async fn a_registration_that_says_nothing_new_is_not_written(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&service, &phone);
    assert_eq!(holder.register("device").await, 201);
    let noted = "SELECT registered_at FROM targets WHERE id = 'device'";
    let first = database.number(noted).await;
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(holder.register("device").await, 200);
    assert_eq!(database.number(noted).await, first);
    // A token that is another one counts at once, and one that is told again later counts as alive since then.
    assert_eq!(holder.send(Method::POST, "device", &"cd".repeat(32)).await, 200);
    let second = database.number(noted).await;
    assert!(second > first);
    service.clock.advance(Duration::from_secs(3600));
    assert_eq!(holder.send(Method::POST, "device", &"cd".repeat(32)).await, 200);
    assert!(database.number(noted).await > second);
    service.stop().await;
}

async fn a_pass_is_asked_about_so_often_a_minute_from_all_addresses_together(database: TestDatabase) {
    let limits = Limits { holders: 20, ..Limits::default() };
    let service = Service::start_configured(&database, |config| config.limits = limits).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(120)).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&service, &phone);
    let path = format!("/apple/v1/passes/{PASS_TYPE}/{}", holder.serial);
    let ask = async |address: u8, authorization: &str| {
        let address = format!("198.51.100.{address}");
        let since = "Fri, 31 Dec 2049 23:59:59 GMT";
        let headers = [("authorization", authorization), ("x-forwarded-for", &address), ("if-modified-since", since)];
        service.send(Method::GET, &path, &headers, Vec::new()).await.status
    };
    for number in 0..20 {
        assert_eq!(ask(number, &holder.authorization).await, 304);
    }
    assert_eq!(ask(20, &holder.authorization).await, 429);
    assert_eq!(ask(20, "ApplePass another-token").await, 401, "who has no token uses up nothing");
    service.stop().await;
}
