//! Many writers and many phones at once: no update is ever missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![sixty_four_writers_and_polling_phones_miss_no_update];

const CARDS: usize = 16;
const WRITERS: usize = 64;
const CHANGES: i64 = 6;
const PHONES: usize = 4;

/// Each writer owns a fourth of a card's range of values and only writes higher ones; each phone asks with its tag,
/// over and over. In the end, one more question brings every phone to the final values: had a change slipped by an
/// answered tag, its card would stay behind for ever.
async fn sixty_four_writers_and_polling_phones_miss_no_update(database: TestDatabase) {
    let service = Arc::new(Service::start(&database).await);
    service.publish("bakery", &bakery()).await;
    let mut pages = Vec::new();
    for i in 0..CARDS {
        let card = service.put_card(&format!("M-{i}"), &anna(0)).await;
        pages.push(card["urls"]["page"].as_str().unwrap().to_owned());
    }
    service.publish("other", &bakery()).await;
    let wanderer = service.put_card("W", &anna(0)).await;
    pages.push(wanderer["urls"]["page"].as_str().unwrap().to_owned());
    let mut phones = Vec::new();
    for _ in 0..PHONES {
        let mut phone = service.phone("en");
        for page in &pages {
            phone.add(page, service.now()).await.unwrap();
        }
        phones.push(phone);
    }
    let writing = Arc::new(AtomicBool::new(true));
    let polling: Vec<_> = phones
        .into_iter()
        .map(|mut phone| {
            let (service, writing) = (service.clone(), writing.clone());
            tokio::spawn(async move {
                let mut fetched = 0;
                while writing.load(Ordering::SeqCst) {
                    fetched += phone.update(PASS_TYPE, service.now()).await.unwrap().len();
                }
                (phone, fetched)
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let service = service.clone();
            tokio::spawn(async move {
                let id = format!("M-{}", writer % CARDS);
                let mut last = BTreeMap::new();
                for n in 0..CHANGES {
                    let points = n * 1000 + writer as i64 + 1;
                    let answer = service.patch_card(&id, &json!({"attributes": {"points": points}})).await;
                    last.insert(answer["revision"].as_i64().unwrap(), points);
                }
                (id, last)
            })
        })
        .collect();
    // Meanwhile the design is published again and again, showing now less and now more, and a card wanders.
    let publisher = {
        let service = service.clone();
        tokio::spawn(async move {
            for n in 0..4 {
                let mut document = bakery();
                if n % 2 == 0 {
                    document["fields"]["auxiliary"] = json!([]);
                }
                service.publish("bakery", &document).await;
            }
        })
    };
    let wandering = {
        let service = service.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                let template = if n % 2 == 0 { "other" } else { "bakery" };
                service.patch_card("W", &json!({"template": template, "attributes": {"name": format!("W{n}")}})).await;
            }
        })
    };
    // By the answers' revisions we know which write of a card was the last.
    let mut revisions: BTreeMap<String, BTreeMap<i64, i64>> = BTreeMap::new();
    for writer in writers {
        let (id, last) = writer.await.unwrap();
        revisions.entry(id).or_default().extend(last);
    }
    publisher.await.unwrap();
    wandering.await.unwrap();
    writing.store(false, Ordering::SeqCst);
    for poller in polling {
        let (mut phone, fetched) = poller.await.unwrap();
        assert!(fetched > 0, "the phone polled while others wrote");
        phone.update(PASS_TYPE, service.now()).await.unwrap();
        for i in 0..CARDS {
            let id = format!("M-{i}");
            let (revision, expected) = revisions[&id].last_key_value().unwrap();
            let card = service.card(&id).await;
            assert_eq!(card["revision"].as_i64(), Some(*revision), "{id}");
            let serial = card["serial_number"].as_str().unwrap();
            assert_eq!(phone.field(serial, "points").unwrap(), expected.to_string(), "{id} on a phone");
        }
        assert_eq!(phone.field(wanderer["serial_number"].as_str().unwrap(), "name").unwrap(), "W9");
        // Two publishings that end where they began make a new face of equal bytes; of anything else a phone may not complain.
        let complaints: Vec<_> =
            phone.complaints().iter().filter(|c| !c.contains("full unchanged pass data")).collect();
        assert_eq!(complaints, [] as [&String; 0]);
    }
    // What the API says of itself agrees.
    for id in (0..CARDS).map(|i| format!("M-{i}")).chain(["W".to_owned()]) {
        let apple = service.card(&id).await["wallets"]["apple"].clone();
        assert_eq!(apple, json!({"devices": PHONES, "current": PHONES}), "{id}");
    }
    service.refresh().await;
    while service.deliver().await > 0 {
        service.clock.advance(std::time::Duration::from_secs(2));
    }
    Arc::into_inner(service).unwrap().stop().await;
}
