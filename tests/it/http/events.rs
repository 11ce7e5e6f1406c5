//! What happened, as a backend reads it: of one card, and of the whole workspace.

use std::collections::BTreeSet;
use std::time::Duration;

use passloom::actions::cards::record_page_view::PAGE_NOTES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_cards_life_is_told_in_order_without_personal_values,
    a_page_is_noted_once_in_ten_minutes,
    events_are_pulled_after_the_last_one_read,
    a_query_that_breaks_rules_is_refused_with_its_pointers,
    events_of_many_writers_are_pulled_without_a_gap,
];

async fn events(service: &Service, path: &str) -> Value {
    let answer = service.api(Method::GET, path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn kinds(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect()
}

async fn a_cards_life_is_told_in_order_without_personal_values(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2, "name": "Berta"}, "locale": "lv"})).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    // A value that the card doesn't show is a change all the same.
    service.patch_card("M-1", &json!({"attributes": {"note": "vip"}})).await;
    phone.remove(&serial).await.unwrap();
    service.put_card("M-2", &anna(1)).await;

    let page = events(&service, "/api/v1/cards/M-1/events").await;
    // Openings and deliveries are noted in their own time; the other tests look at them.
    let theirs = ["card.page_opened", "card.pushed", "card.fetched"];
    let told: Vec<_> = kinds(&page).into_iter().filter(|kind| !theirs.contains(&kind.as_str())).collect();
    assert_eq!(told, ["card.created", "card.installed", "card.updated", "card.updated", "card.removed"]);
    let of = |kind: &str| page["data"].as_array().unwrap().iter().find(|e| e["type"] == kind).unwrap()["data"].clone();
    assert_eq!(of("card.created"), json!({"card": "M-1", "revision": 1, "state": "active", "template": "bakery"}));
    assert_eq!(
        of("card.updated"),
        json!({"card": "M-1", "revision": 2, "state": "active", "attributes": ["name", "points"], "members": ["locale"]})
    );
    assert_eq!(of("card.installed"), json!({"card": "M-1", "wallet": "apple", "devices": 1}));
    assert_eq!(of("card.removed"), json!({"card": "M-1", "wallet": "apple", "devices": 0}));
    assert!(!page.to_string().contains("Berta"));
    let ids: BTreeSet<_> = page["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), page["data"].as_array().unwrap().len());
    assert!(ids.iter().all(|id| id.len() == 36 && !id.contains('.')), "{ids:?}");
    assert_eq!(page["data"][0]["timestamp"], card["created_at"]);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/nobody/events", &Value::Null).await.status, 404);

    let all = kinds(&events(&service, "/api/v1/events").await);
    assert_eq!(all.first().map(String::as_str), Some("template.published"));
    assert_eq!(all.iter().filter(|kind| *kind == "card.created").count(), 2);
    service.deliver().await;
    service.stop().await;
}

async fn a_page_is_noted_once_in_ten_minutes(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.app.public_url).unwrap().to_owned();
    let opened = async |method: Method| {
        assert_eq!(service.send(method, &page, &[], Vec::new()).await.status, 200);
        // Pages are noted after they were answered: all notes are written when nobody holds a permit.
        drop(service.app.page_notes.acquire_many(PAGE_NOTES as u32).await.unwrap());
        let told = kinds(&events(&service, "/api/v1/cards/M-1/events").await);
        told.iter().filter(|kind| *kind == "card.page_opened").count()
    };
    assert_eq!(opened(Method::HEAD).await, 0, "who only looks doesn't open it");
    assert_eq!(opened(Method::GET).await, 1);
    service.clock.advance(Duration::from_secs(599));
    assert_eq!(opened(Method::GET).await, 1);
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(opened(Method::GET).await, 2);
    let start = service.now();
    service.clock.set(start.minus(Duration::from_secs(86_400)));
    assert_eq!(opened(Method::GET).await, 3, "a clock that went back doesn't silence a card");
    assert_eq!(opened(Method::GET).await, 3);

    // Twenty at once are one visit.
    service.clock.set(start.plus(Duration::from_secs(86_400)));
    let at_once = (0..20).map(|_| service.send(Method::GET, &page, &[], Vec::new()));
    assert!(futures_util::future::join_all(at_once).await.iter().all(|answer| answer.status == 200));
    assert_eq!(opened(Method::GET).await, 4);
    service.stop().await;
}

async fn events_are_pulled_after_the_last_one_read(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    for n in 0..5 {
        service.put_card(&format!("M-{n}"), &anna(n)).await;
    }
    let whole = events(&service, "/api/v1/events").await;
    assert_eq!((kinds(&whole).len(), &whole["next_cursor"]), (6, &Value::Null));
    let mut read = Vec::new();
    let mut path = "/api/v1/events?limit=2".to_owned();
    loop {
        let page = events(&service, &path).await;
        read.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/events?limit=2&cursor={next}");
    }
    assert_eq!(&json!(read), &whole["data"]);
    let last = read.last().unwrap()["id"].as_str().unwrap();
    let nothing = events(&service, &format!("/api/v1/events?after={last}")).await;
    assert_eq!(nothing, json!({"data": [], "next_cursor": null}));
    service.patch_card("M-0", &json!({"attributes": {"points": 77}})).await;
    assert_eq!(kinds(&events(&service, &format!("/api/v1/events?after={last}")).await), ["card.updated"]);

    let first = events(&service, "/api/v1/cards/M-0/events?limit=1").await;
    assert_eq!(kinds(&first), ["card.created"]);
    let next = format!("/api/v1/cards/M-0/events?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = events(&service, &next).await;
    assert_eq!((kinds(&second), &second["next_cursor"]), (vec!["card.updated".to_owned()], &Value::Null));
    service.stop().await;
}

async fn a_query_that_breaks_rules_is_refused_with_its_pointers(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    for (query, pointers) in [
        ("after=0197a000-0000-7000-8000-000000000000", vec!["/after"]),
        ("after=", vec!["/after"]),
        ("cursor=x", vec!["/cursor"]),
        ("after=a&cursor=b", vec!["/cursor"]),
        ("after=%00", vec!["/after"]),
        ("limit=0&colour=red", vec!["/limit", "/colour"]),
        ("limit=1001", vec!["/limit"]),
        ("limit=1&limit=2", vec!["/limit"]),
    ] {
        let answer = service.api(Method::GET, &format!("/api/v1/events?{query}"), &Value::Null).await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, pointers.into_iter().map(str::to_owned).collect()),
            "{query}"
        );
    }
    let answer = service.api(Method::GET, "/api/v1/cards/M-1/events?cursor=x&after=y", &Value::Null).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/cursor".to_owned(), "/after".to_owned()]));
    let headers = [("authorization", "Bearer nobody")];
    assert_eq!(service.send(Method::GET, "/api/v1/events", &headers, Vec::new()).await.status, 401);
    service.stop().await;
}

async fn events_of_many_writers_are_pulled_without_a_gap(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let writers = async {
        let puts = (0..60).map(|n| {
            let service = &service;
            async move { service.put_card(&format!("M-{n}"), &anna(n)).await }
        });
        futures_util::future::join_all(puts).await;
    };
    let reader = async {
        let (mut read, mut after) = (Vec::new(), String::new());
        while read.len() < 61 {
            let page = events(&service, &format!("/api/v1/events?limit=7{after}")).await;
            read.extend(page["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()));
            if let Some(last) = read.last() {
                after = format!("&after={last}");
            }
        }
        read
    };
    let ((), read) = futures_util::future::join(writers, reader).await;
    let whole = events(&service, "/api/v1/events").await;
    let whole: Vec<_> =
        whole["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(read, whole, "the order is that of the commits, and nothing came later before what was read");
    service.stop().await;
}
