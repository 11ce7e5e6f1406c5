//! Two nodes on one database: each does what the other leaves, and nobody's late word counts.

use std::time::Duration;

use passloom::actions::deliver::{claim_due, push, record};
use passloom::start::{Contents, JobMode};
use passloom::store::{devices, refreshes};
use serde_json::json;

use crate::support::service::{Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    what_a_node_had_claimed_when_it_died_is_pushed_by_another_within_a_minute,
    the_late_outcome_of_a_lost_lease_changes_nothing,
    a_change_on_one_node_wakes_the_worker_of_another,
    two_workers_share_the_work_and_push_to_each_phone_once,
    nodes_whose_clocks_differ_deliver_all_the_same,
];

/// Two nodes; the first has a card on so many phones. Their key is the second's.
async fn nodes(database: &TestDatabase, phones: usize, jobs: JobMode) -> (Service, Service) {
    let mut first = Service::start(database).await;
    let second = Service::start_with(database, Contents::Nothing, jobs).await;
    first.key.clone_from(&second.key);
    second.clock.set(first.now().plus(Duration::from_secs(3)));
    first.publish("bakery", &bakery()).await;
    // A publishing that is still being spread would mark the phones that register meanwhile.
    while refreshes::unfinished(&mut first.app.store.read().await.unwrap()).await.unwrap().count > 0 {
        first.refresh().await;
        tokio::task::yield_now().await;
    }
    let card = first.put_card("M-1", &anna(0)).await;
    for _ in 0..phones {
        first.phone_with(&card).await;
    }
    (first, second)
}

async fn change(service: &Service, points: i64) {
    service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
}

async fn what_a_node_had_claimed_when_it_died_is_pushed_by_another_within_a_minute(database: TestDatabase) {
    let (first, second) = nodes(&database, 3, JobMode::ByHand).await;
    change(&first, 1).await;
    let round = claim_due(&first.app, |_| 100).await.unwrap();
    assert_eq!(round.deliveries.len(), 3);
    drop(round);
    assert_eq!(second.deliver().await, 0, "the first may still be at it");
    second.clock.advance(Duration::from_secs(60));
    assert_eq!(second.deliver().await, 3);
    assert_eq!(second.apns().pushes().len(), 3);
    first.stop().await;
    second.stop().await;
}

async fn the_late_outcome_of_a_lost_lease_changes_nothing(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::ByHand).await;
    change(&first, 1).await;
    let mut round = claim_due(&first.app, |_| 100).await.unwrap();
    let late = push(&first.app, round.deliveries.remove(0)).await;
    second.clock.advance(Duration::from_secs(60));
    let mut round = claim_due(&second.app, |_| 100).await.unwrap();
    let mine = push(&second.app, round.deliveries.remove(0)).await;
    // The change after the second node's claim is what the late word must not settle.
    change(&second, 2).await;
    record(&first.app, &[late]).await.unwrap();
    let unfinished = async || devices::unfinished(&mut second.app.store.read().await.unwrap()).await.unwrap();
    assert_eq!(unfinished().await, 1);
    assert_eq!(second.deliver().await, 0, "the second node's lease stands");
    record(&second.app, &[mine]).await.unwrap();
    assert_eq!(unfinished().await, 1, "the later change is still to be told");
    second.clock.advance(Duration::from_secs(2));
    assert_eq!(second.deliver().await, 1);
    first.stop().await;
    second.stop().await;
}

async fn a_change_on_one_node_wakes_the_worker_of_another(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::Running).await;
    let mut counts = second.apns().counts();
    if database.kind() == Database::Postgres {
        let mut ear = first.app.store.hear_nodes().await.unwrap().unwrap();
        change(&first, 1).await;
        ear.hear().await.unwrap();
    } else {
        change(&first, 1).await;
    }
    counts.wait_for(|counts| counts.pushes == 1).await.unwrap();
    assert_eq!(first.apns().pushes().len(), 0);
}

async fn two_workers_share_the_work_and_push_to_each_phone_once(database: TestDatabase) {
    let (first, second) = nodes(&database, 30, JobMode::Running).await;
    change(&first, 1).await;
    let by_hand = first.deliver().await;
    let mut counts = second.apns().counts();
    counts.wait_for(|counts| counts.pushes as usize + by_hand >= 30).await.unwrap();
    let mut heard: Vec<String> =
        [&first, &second].iter().flat_map(|node| node.apns().pushes()).map(|p| p.token.as_str().to_owned()).collect();
    assert_eq!(heard.len(), 30);
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 30);
}

async fn nodes_whose_clocks_differ_deliver_all_the_same(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::ByHand).await;
    // Not further than the certificate is valid.
    second.clock.set(first.now().minus(Duration::from_secs(1800)));
    for points in 1..=6 {
        let (here, there) = if points % 2 == 0 { (&first, &second) } else { (&second, &first) };
        change(here, points).await;
        let mut pushes = there.deliver().await;
        for node in [&first, &second] {
            node.clock.advance(Duration::from_secs(2));
            pushes += node.deliver().await;
        }
        assert!((1..=2).contains(&pushes), "{pushes} pushes for change {points}");
    }
    first.stop().await;
    second.stop().await;
}
