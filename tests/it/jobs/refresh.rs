//! The pace at which a publishing reaches phones.

use std::time::Duration;

use passloom::actions::fan_out::fan_out_step;
use serde_json::{Value, json};

use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_publishing_is_told_at_the_rate_that_was_set_however_many_nodes_there_are,
    publishings_share_the_rate_and_none_waits_for_another_to_end,
    a_single_change_overtakes_a_publishing,
    a_clock_that_goes_back_does_not_stop_a_publishing,
];

const RATE: u32 = 4;
const SECOND: Duration = Duration::from_secs(1);

async fn start(database: &TestDatabase) -> Service {
    Service::start_configured(database, |config| config.refresh_rate = RATE).await
}

/// Publishes a template and gives `count` phones a card of it each.
async fn programme(service: &Service, template: &str, count: usize) {
    service.publish(template, &bakery()).await;
    for number in 0..count {
        let mut card = anna(1);
        card["template"] = json!(template);
        let card = service.put_card(&format!("{template}-{number}"), &card).await;
        service.phone_with(&card).await;
    }
    service.refresh().await;
    service.deliver().await;
    service.clock.advance(10 * SECOND);
}

/// Two more phones, while another programme is under way.
async fn programme_of_others(service: &Service) {
    service.publish("spa", &bakery()).await;
    for number in 0..2 {
        let card = json!({"template": "spa", "attributes": {"points": 1}});
        let card = service.put_card(&format!("spa-{number}"), &card).await;
        service.phone_with(&card).await;
    }
}

async fn publish_anew(service: &Service, template: &str) {
    let mut document: Value = bakery();
    document["logo_text"] = json!("New");
    service.publish(template, &document).await;
}

/// Lets the nodes work through a second, each looking for a step as often as it likes; how many pushes left.
async fn second(nodes: &[&Service]) -> usize {
    let mut pushes = 0;
    for _ in 0..20 {
        for node in nodes {
            while fan_out_step(&node.app).await.unwrap() == Some(Duration::ZERO) {}
            pushes += node.deliver().await;
            node.clock.advance(SECOND / 20);
        }
    }
    pushes
}

async fn a_publishing_is_told_at_the_rate_that_was_set_however_many_nodes_there_are(database: TestDatabase) {
    let mut first = start(&database).await;
    let second_node = start(&database).await;
    first.key.clone_from(&second_node.key);
    programme(&first, "bakery", 12).await;
    second_node.clock.set(first.now());
    publish_anew(&first, "bakery").await;
    let nodes = [&first, &second_node];
    let told = [second(&nodes).await, second(&nodes).await, second(&nodes).await, second(&nodes).await];
    assert_eq!(told, [4, 4, 4, 0]);
    first.stop().await;
    second_node.stop().await;
}

async fn publishings_share_the_rate_and_none_waits_for_another_to_end(database: TestDatabase) {
    let service = start(&database).await;
    programme(&service, "bakery", 8).await;
    programme(&service, "spa", 2).await;
    publish_anew(&service, "bakery").await;
    publish_anew(&service, "spa").await;
    assert_eq!(second(&[&service]).await, 4);
    for number in 0..2 {
        let card = service.card(&format!("spa-{number}")).await;
        let delivery = format!("/api/v1/cards/{}/delivery", card["id"].as_str().unwrap());
        let target = service.api(reqwest::Method::GET, &delivery, &Value::Null).await.json()["targets"][0].take();
        assert_eq!(target["pushed"], target["wanted"], "told in the first second: {target}");
    }
    let rest = [second(&[&service]).await, second(&[&service]).await];
    assert!(rest.iter().sum::<usize>() == 6 && rest.iter().all(|told| *told <= RATE as usize), "{rest:?}");
    service.stop().await;
}

async fn a_single_change_overtakes_a_publishing(database: TestDatabase) {
    let service = start(&database).await;
    programme(&service, "bakery", 9).await;
    publish_anew(&service, "bakery").await;
    second(&[&service]).await;
    service.patch_card("bakery-8", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    service.refresh().await;
    service.deliver().await;
    service.clock.advance(2 * SECOND);
    service.deliver().await;
    service.stop().await;
}

async fn a_clock_that_goes_back_does_not_stop_a_publishing(database: TestDatabase) {
    let service = start(&database).await;
    programme(&service, "bakery", 6).await;
    publish_anew(&service, "bakery").await;
    second(&[&service]).await;
    programme_of_others(&service).await;
    service.clock.set(service.now().minus(Duration::from_secs(3600)));
    // Nor does one that is published after that.
    publish_anew(&service, "spa").await;
    assert_eq!(second(&[&service]).await, 4, "the rest of the one, and the other");
    service.stop().await;
}
