//! What changes nothing that a card shows tells no phone of it.

use std::time::Duration;

use passloom::actions::cards::expire_cards::expire_step;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{PASS_TYPE, Service, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    publishing_a_draft_that_is_the_published_version_makes_no_version_and_tells_nobody,
    a_change_of_one_tiers_colour_is_told_to_the_phones_of_that_tier_only,
    a_design_that_was_changed_and_changed_back_reaches_whoever_fetched_it_in_between,
    a_publishing_that_was_told_is_not_told_again_with_the_next,
    a_hidden_value_that_is_written_during_a_publishing_is_not_missed,
    a_card_that_keeps_its_version_is_not_told_of_the_next,
    an_end_that_passes_is_told_only_where_the_pass_shows_it,
];

/// A phone that only says what it is answered.
struct Device {
    name: String,
    serial: String,
    authorization: String,
    tag: String,
    modified: String,
}

impl Device {
    async fn with(service: &Service, id: &str, tier: &str) -> Self {
        let document = json!({"template": "bakery", "attributes": {"tier": tier, "points": 1}});
        let card = service.put_card(id, &document).await;
        let (phone, serial) = service.phone_with(&card).await;
        let secret = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
        phone_leaves(phone, &serial).await;
        let mut device = Self {
            name: format!("device-of-{id}"),
            serial,
            authorization: format!("ApplePass {secret}"),
            tag: String::new(),
            modified: String::new(),
        };
        let path = format!("/apple/v1/devices/{}/registrations/{PASS_TYPE}/{}", device.name, device.serial);
        let body = json!({"pushToken": format!("{:064x}", id.len() * 7919 + id.as_bytes()[0] as usize)});
        let headers = [("authorization", device.authorization.as_str())];
        assert_eq!(service.send(Method::POST, &path, &headers, body.to_string().into_bytes()).await.status, 201);
        assert_eq!((device.list(service).await, device.fetch(service).await), (200, 200));
        device
    }

    /// Asks what changed, and remembers the tag.
    async fn list(&mut self, service: &Service) -> u16 {
        let path = format!("/apple/v1/devices/{}/registrations/{PASS_TYPE}?passesUpdatedSince={}", self.name, self.tag);
        let answer = service.send(Method::GET, &path, &[], Vec::new()).await;
        if answer.status == 200 {
            answer.json()["lastUpdated"].as_str().unwrap().clone_into(&mut self.tag);
        }
        answer.status
    }

    /// Fetches the pass unless it is what it has.
    async fn fetch(&mut self, service: &Service) -> u16 {
        let path = format!("/apple/v1/passes/{PASS_TYPE}/{}", self.serial);
        let headers = [("authorization", self.authorization.as_str()), ("if-modified-since", self.modified.as_str())];
        let answer = service.send(Method::GET, &path, &headers, Vec::new()).await;
        answer.header("last-modified").clone_into(&mut self.modified);
        answer.status
    }
}

/// The card stays on the raw device alone.
async fn phone_leaves(mut phone: passloom::sandbox::phone::Phone, serial: &str) {
    phone.remove(serial).await.unwrap();
}

async fn refreshed_shop(database: &TestDatabase) -> Service {
    let service = Service::shop(database).await;
    service.refresh().await;
    service
}

fn with_gold(colour: &str) -> Value {
    let mut document = bakery();
    document["tiers"]["looks"]["gold"]["colors"]["background"] = json!(colour);
    document
}

async fn target(service: &Service, id: &str) -> Value {
    let path = format!("/api/v1/cards/{id}/delivery");
    service.api(Method::GET, &path, &Value::Null).await.json()["targets"][0].take()
}

async fn publish_draft(service: &Service) -> i64 {
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!(answer.status, 200);
    answer.json()["version"].as_i64().unwrap()
}

async fn publishing_a_draft_that_is_the_published_version_makes_no_version_and_tells_nobody(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut device = Device::with(&service, "S", "silver").await;
    let rows = database.rows().await;
    assert_eq!(publish_draft(&service).await, 1);
    service.refresh().await;
    assert_eq!((service.deliver().await, device.list(&service).await, device.fetch(&service).await), (0, 204, 304));
    assert_eq!(database.rows().await, rows, "nor is there an event");
    // What was restored is compared like any draft, pictures and all.
    assert_eq!(service.publish("bakery", &with_gold("#000000")).await, 2);
    let restore = "/api/v1/templates/bakery/versions/2/restore";
    assert!(service.api(Method::POST, restore, &Value::Null).await.status < 300);
    assert_eq!(publish_draft(&service).await, 2);
    service.put_image("bakery", "logo", &crate::support::service::png(160, 50)).await;
    assert_eq!(publish_draft(&service).await, 3, "a picture is part of a version");
    assert_eq!(publish_draft(&service).await, 3);
    service.refresh().await;
    service.deliver().await;
    service.stop().await;
}

async fn a_change_of_one_tiers_colour_is_told_to_the_phones_of_that_tier_only(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut silver = Device::with(&service, "S", "silver").await;
    let mut gold = Device::with(&service, "G", "gold").await;
    let face = target(&service, "S").await["wanted"].as_i64().unwrap();
    assert_eq!(service.publish("bakery", &with_gold("#000000")).await, 2);
    // Already before the publishing has come to its cards.
    assert_eq!((silver.list(&service).await, silver.fetch(&service).await), (204, 304));
    assert_eq!(target(&service, "S").await["state"], "current");
    service.refresh().await;
    assert_eq!(service.deliver().await, 1, "gold's phone alone");
    assert_eq!((silver.list(&service).await, silver.fetch(&service).await), (204, 304));
    let shown = target(&service, "S").await;
    assert_eq!((&shown["state"], &shown["wanted"]), (&json!("current"), &json!(face)));
    assert_eq!(service.card("S").await["wallets"]["apple"]["current"], 1);
    assert_eq!(target(&service, "G").await["state"], "behind");
    assert_eq!((gold.list(&service).await, gold.fetch(&service).await), (200, 200));
    assert_eq!(target(&service, "G").await["state"], "current");
    // A phone that never came since the card was made gets it, whatever its date is.
    let mut late = Device { tag: String::new(), modified: String::new(), ..silver };
    assert_eq!((late.list(&service).await, late.fetch(&service).await), (200, 200));
    // Changes of the card and of all cards are told as ever.
    service.clock.advance(Duration::from_secs(10));
    service.patch_card("S", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!((late.list(&service).await, late.fetch(&service).await), (200, 200));
    let mut document = with_gold("#000000");
    document["logo_text"] = json!("New");
    assert_eq!(service.publish("bakery", &document).await, 3);
    service.clock.advance(Duration::from_secs(10));
    service.refresh().await;
    assert_eq!(service.deliver().await, 2);
    for device in [&mut late, &mut gold] {
        assert_eq!((device.list(&service).await, device.fetch(&service).await), (200, 200));
        assert_eq!((device.list(&service).await, device.fetch(&service).await), (204, 304));
    }
    service.stop().await;
}

async fn a_design_that_was_changed_and_changed_back_reaches_whoever_fetched_it_in_between(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut gold = Device::with(&service, "G", "gold").await;
    let mut silver = Device::with(&service, "S", "silver").await;
    service.publish("bakery", &with_gold("#000000")).await;
    assert_eq!((gold.list(&service).await, gold.fetch(&service).await), (200, 200));
    service.publish("bakery", &bakery()).await;
    service.clock.advance(Duration::from_secs(10));
    service.refresh().await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!((gold.list(&service).await, gold.fetch(&service).await), (200, 200));
    assert_eq!((silver.list(&service).await, silver.fetch(&service).await), (204, 304));
    service.stop().await;
}

async fn a_publishing_that_was_told_is_not_told_again_with_the_next(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut gold = Device::with(&service, "G", "gold").await;
    service.publish("bakery", &with_gold("#000000")).await;
    service.refresh().await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!((gold.list(&service).await, gold.fetch(&service).await), (200, 200));
    let mut document = with_gold("#000000");
    document["tiers"]["looks"]["silver"] = json!({"colors": {"background": "#111111"}});
    service.publish("bakery", &document).await;
    service.clock.advance(Duration::from_secs(10));
    service.refresh().await;
    assert_eq!((service.deliver().await, gold.list(&service).await, gold.fetch(&service).await), (0, 204, 304));
    service.stop().await;
}

async fn a_hidden_value_that_is_written_during_a_publishing_is_not_missed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["auxiliary"][0] = json!({"key": "note", "label": "Note", "value": "{{ note or 'none' }}"});
    service.publish("bakery", &document).await;
    service.refresh().await;
    let mut device = Device::with(&service, "S", "silver").await;
    // The new design says for all what this card will only now have said under the old one.
    document["fields"]["auxiliary"][0]["value"] = json!("5");
    service.publish("bakery", &document).await;
    service.patch_card("S", &json!({"attributes": {"note": "5"}})).await;
    service.refresh().await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!((device.list(&service).await, device.fetch(&service).await), (200, 200));
    service.stop().await;
}

async fn a_card_that_keeps_its_version_is_not_told_of_the_next(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut device = Device::with(&service, "S", "silver").await;
    service.patch_card("S", &json!({"attributes": {"name": "Āboliņš"}})).await;
    service.deliver().await;
    assert_eq!((device.list(&service).await, device.fetch(&service).await), (200, 200));
    service.clock.advance(Duration::from_secs(10));
    let mut document = bakery();
    document["barcode"] = json!({"format": "code128", "value": "{{ name or 'nobody' }}"});
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    assert_eq!(put.status, 200, "{}", put.json());
    let answer = service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await;
    assert_eq!(answer.json()["cards"]["keeping"][0]["id"], "S", "{}", answer.json());
    service.refresh().await;
    assert_eq!((service.deliver().await, device.list(&service).await, device.fetch(&service).await), (0, 204, 304));
    service.stop().await;
}

async fn an_end_that_passes_is_told_only_where_the_pass_shows_it(database: TestDatabase) {
    let service = refreshed_shop(&database).await;
    let mut shows = bakery();
    shows["fields"]["back"][0] = json!({"key": "state", "label": "State", "value": "It is {{ card.state }}"});
    service.publish("spa", &shows).await;
    service.refresh().await;
    let mut plain = Device::with(&service, "S", "silver").await;
    let mut shown = Device::with(&service, "G", "silver").await;
    let end = service.now().plus(Duration::from_secs(60)).to_rfc3339();
    service.patch_card("S", &json!({"expires_at": end})).await;
    service.patch_card("G", &json!({"expires_at": end, "template": "spa"})).await;
    service.clock.advance(Duration::from_secs(10));
    service.deliver().await;
    for device in [&mut plain, &mut shown] {
        assert_eq!((device.list(&service).await, device.fetch(&service).await), (200, 200));
    }
    // While a publishing of something else is under way.
    service.publish("bakery", &with_gold("#000000")).await;
    service.clock.advance(Duration::from_secs(60));
    let before = service.card("S").await;
    while expire_step(&service.app).await.unwrap() > 0 {}
    let after = service.card("S").await;
    assert_eq!(
        (&after["state"], after["revision"].as_i64()),
        (&json!("expired"), Some(before["revision"].as_i64().unwrap() + 1))
    );
    let events = service.api(Method::GET, "/api/v1/cards/S/events", &Value::Null).await.json();
    assert_eq!(events["data"].as_array().unwrap().iter().filter(|event| event["type"] == "card.expired").count(), 1);
    assert_eq!(service.deliver().await, 1, "only the phone whose pass says it");
    assert_eq!((shown.list(&service).await, shown.fetch(&service).await), (200, 200));
    service.publish("bakery", &with_gold("#111111")).await;
    service.refresh().await;
    service.clock.advance(Duration::from_secs(10));
    service.deliver().await;
    plain.list(&service).await;
    plain.fetch(&service).await;
    // And with none.
    service.clock.advance(Duration::from_secs(10));
    let end = service.now().plus(Duration::from_secs(60)).to_rfc3339();
    service.patch_card("S", &json!({"expires_at": end, "state": "active"})).await;
    service.deliver().await;
    assert_eq!((plain.list(&service).await, plain.fetch(&service).await), (200, 200));
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    assert_eq!((service.deliver().await, plain.list(&service).await, plain.fetch(&service).await), (0, 204, 304));
    assert_eq!(target(&service, "S").await["state"], "current");
    service.stop().await;
}
