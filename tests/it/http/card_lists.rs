//! The list of cards: filters, pages, and that nobody who pages misses a card.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    cards_are_listed_by_template_state_and_change,
    what_changed_since_a_moment_includes_that_moment_and_survives_a_clock_that_goes_back,
    a_card_that_changes_while_somebody_pages_is_not_missed,
    a_list_that_is_asked_wrongly_is_refused_with_its_pointers,
];

async fn list(service: &Service, query: &str) -> Value {
    let answer = service.api(Method::GET, &format!("/api/v1/cards?{query}"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect()
}

async fn cards_are_listed_by_template_state_and_change(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.publish("spa", &bakery()).await;
    assert_eq!(list(&service, "").await, json!({"data": [], "next_cursor": null}));
    for n in 1..=5 {
        service.put_card(&format!("M-{n}"), &anna(n)).await;
    }
    service.put_card("S-1", &json!({"template": "spa"})).await;
    service.patch_card("M-2", &json!({"state": "voided"})).await;
    service.patch_card("M-3", &json!({"attributes": {"note": "vip"}})).await;
    let (_phone, _) = service.phone_with(&service.card("M-4").await).await;

    let whole = list(&service, "").await;
    assert_eq!(ids(&whole), ["M-1", "M-4", "M-5", "S-1", "M-2", "M-3"], "what changed last stands last");
    for card in whole["data"].as_array().unwrap() {
        assert_eq!(*card, service.card(card["id"].as_str().unwrap()).await, "a list shows what a card shows");
    }
    assert_eq!(ids(&list(&service, "template=spa").await), ["S-1"]);
    assert_eq!(ids(&list(&service, "state=voided").await), ["M-2"]);
    assert_eq!(ids(&list(&service, "state=active&template=bakery").await), ["M-1", "M-4", "M-5", "M-3"]);
    assert_eq!(ids(&list(&service, "state=active").await).len(), 5);
    assert_eq!(ids(&list(&service, "template=nowhere").await), Vec::<&str>::new());

    let mut read = Vec::new();
    let mut cursor = String::new();
    for page in 0.. {
        let found = list(&service, &format!("limit=2{cursor}")).await;
        read.extend(found["data"].as_array().unwrap().clone());
        match found["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => {
                assert_eq!(page, 2, "the last page says so, though it is full");
                break;
            }
        }
    }
    assert_eq!(json!(read), whole["data"]);
    service.deliver().await;
    service.stop().await;
}

async fn what_changed_since_a_moment_includes_that_moment_and_survives_a_clock_that_goes_back(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let first = service.put_card("M-1", &anna(1)).await;
    service.clock.advance(Duration::from_secs(60));
    let second = service.put_card("M-2", &anna(1)).await;
    let since =
        async |card: &Value| list(&service, &format!("updated_since={}", card["updated_at"].as_str().unwrap())).await;
    assert_eq!(ids(&since(&first).await), ["M-1", "M-2"]);
    assert_eq!(ids(&since(&second).await), ["M-2"]);
    let zone = list(&service, "updated_since=2000-01-01T00:00:00+02:00").await;
    assert_eq!(ids(&zone), ["M-1", "M-2"]);

    // Whoever asks by the newest moment that he saw misses nothing, whatever the clock did meanwhile.
    service.clock.set(service.now().minus(Duration::from_secs(3600)));
    let changed = service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert!(changed["updated_at"].as_str() > second["updated_at"].as_str(), "{changed}");
    assert_eq!(ids(&since(&second).await), ["M-2", "M-1"]);
    assert_eq!(service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await, changed, "nothing changed");
    service.stop().await;
}

/// Writers change cards and issue new ones while a reader pages: every card must come with its newest revision.
async fn a_card_that_changes_while_somebody_pages_is_not_missed(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    for n in 0..30 {
        service.put_card(&format!("M-{n}"), &anna(0)).await;
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let writers = async {
        let rounds = (0..6).map(|writer| {
            let service = &service;
            async move {
                for n in 0..30 {
                    let id = (n * 7 + writer * 5) % 30;
                    service.patch_card(&format!("M-{id}"), &json!({"attributes": {"points": 1000 * writer + n}})).await;
                    if n % 10 == 0 {
                        service.put_card(&format!("N-{writer}-{n}"), &anna(n)).await;
                    }
                }
            }
        });
        futures_util::future::join_all(rounds).await;
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let reader = async {
        let mut seen: BTreeMap<String, i64> = BTreeMap::new();
        let mut since = "1970-01-01T00:00:00Z".to_owned();
        loop {
            let last_round = done.load(std::sync::atomic::Ordering::SeqCst);
            let mut cursor = String::new();
            loop {
                let page = list(&service, &format!("limit=4&updated_since={since}{cursor}")).await;
                for card in page["data"].as_array().unwrap() {
                    seen.insert(card["id"].as_str().unwrap().to_owned(), card["revision"].as_i64().unwrap());
                    since = card["updated_at"].as_str().unwrap().to_owned();
                }
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            if last_round {
                return seen;
            }
        }
    };
    let ((), seen) = futures_util::future::join(writers, reader).await;
    let whole = list(&service, "limit=1000").await;
    let newest: BTreeMap<String, i64> = whole["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|card| (card["id"].as_str().unwrap().to_owned(), card["revision"].as_i64().unwrap()))
        .collect();
    assert_eq!(newest.len(), 48);
    assert_eq!(seen, newest);
    service.stop().await;
}

async fn a_list_that_is_asked_wrongly_is_refused_with_its_pointers(database: TestDatabase) {
    let service = Service::start(&database).await;
    let query = "template=a%2Fb&state=asleep&updated_since=yesterday&limit=x&cursor=%00&sort=id";
    let answer = service.api(Method::GET, &format!("/api/v1/cards?{query}"), &Value::Null).await;
    let expected = ["/template", "/state", "/updated_since", "/limit", "/cursor", "/sort"];
    assert_eq!((answer.status, answer.pointers()), (422, expected.map(str::to_owned).to_vec()));
    assert_eq!(service.send(Method::GET, "/api/v1/cards", &[], Vec::new()).await.status, 401);
    service.stop().await;
}
