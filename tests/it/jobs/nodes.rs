//! Two nodes on one database: each does what the other leaves, and nobody's late word counts.

use std::time::Duration;

use passloom::delivery::attempt::push;
use passloom::delivery::claim::claim_due;
use passloom::delivery::record::record;
use passloom::startup::{Contents, JobMode};
use passloom::store::{deliveries, fan_outs};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::service::{ADMIN_KEY, Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases, run};

on_both_databases![
    what_a_node_had_claimed_when_it_died_is_pushed_by_another_within_a_minute,
    what_a_node_could_not_deliver_until_it_stopped_is_pushed_by_another_at_once,
    a_push_under_way_ends_before_its_node_does,
    the_late_outcome_of_a_lost_lease_changes_nothing,
    a_change_on_one_node_is_pushed_by_another,
    two_workers_share_the_work_and_push_to_each_phone_once,
    nodes_whose_clocks_differ_deliver_all_the_same,
];

/// How long a node may take to hear of the others; it tries again each second.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// An embedded database belongs to one process.
#[test]
fn nodes_that_start_together_on_a_new_postgresql_are_one_service() {
    run(Database::Postgres, start_together);
}

async fn start_together(database: TestDatabase) {
    let starts =
        futures_util::future::join3(Service::start(&database), Service::start(&database), Service::start(&database));
    let (mut first, second, third) = starts.await;
    first.key = ADMIN_KEY.to_owned();
    first.publish("bakery", &bakery()).await;
    let card = first.put_card("M-1", &anna(7)).await;
    for other in [&second, &third] {
        let seen = other.api_as(ADMIN_KEY, reqwest::Method::GET, "/api/v1/cards/M-1", &json!(null)).await.json();
        let path = |card: &serde_json::Value| {
            let page = card["urls"]["page"].as_str().unwrap();
            page.rsplit_once('/').unwrap().1.to_owned()
        };
        assert_eq!((&seen["serial_number"], path(&seen)), (&card["serial_number"], path(&card)), "one secret");
    }
    for node in [first, second, third] {
        node.stop().await;
    }
}

/// Two nodes; the first has a card on so many phones. Their key is the second's.
async fn nodes(database: &TestDatabase, phones: usize, jobs: JobMode) -> (Service, Service) {
    let mut first = Service::start(database).await;
    let second = Service::start_with(database, Contents::Nothing, jobs).await;
    first.key.clone_from(&second.key);
    second.clock.set(first.now().plus(Duration::from_secs(3)));
    first.publish("bakery", &bakery()).await;
    // A publishing that is still being spread would mark the phones that register meanwhile.
    while fan_outs::unfinished(&mut first.app.store.read().await.unwrap(), first.now()).await.unwrap().count > 0 {
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
    let round = claim_due(&first.app, |_, _| 100).await.unwrap();
    assert_eq!(round.deliveries.len(), 3);
    drop(round);
    assert_eq!(second.deliver().await, 0, "the first may still be at it");
    second.clock.advance(Duration::from_secs(60));
    assert_eq!(second.deliver().await, 3);
    assert_eq!(second.apns().pushes().len(), 3);
    first.stop().await;
    second.stop().await;
}

async fn what_a_node_could_not_deliver_until_it_stopped_is_pushed_by_another_at_once(database: TestDatabase) {
    let (first, second) = nodes(&database, 3, JobMode::Running).await;
    second.apns().hang(true);
    let mut counts = second.apns().counts();
    change(&first, 1).await;
    counts.wait_for(|counts| counts.requests == 3).await.unwrap();
    assert_eq!(first.deliver().await, 0, "the second is at it");
    second.stop_with_work_left().await;
    assert_eq!(first.deliver().await, 3, "while the leases would still stand");
    assert_eq!(first.apns().pushes().len(), 3);
    first.stop().await;
}

async fn a_push_under_way_ends_before_its_node_does(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::Running).await;
    let apns = second.apns().clone();
    apns.set_latency(Duration::from_millis(500));
    let mut counts = apns.counts();
    change(&first, 1).await;
    counts.wait_for(|counts| counts.requests == 1).await.unwrap();
    second.stop_with_work_left().await;
    assert_eq!(apns.pushes().len(), 1);
    assert_eq!(first.deliver().await, 0, "its outcome is recorded");
    first.stop().await;
}

async fn the_late_outcome_of_a_lost_lease_changes_nothing(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::ByHand).await;
    change(&first, 1).await;
    let mut round = claim_due(&first.app, |_, _| 100).await.unwrap();
    let late = push(&first.app, round.deliveries.remove(0)).await;
    second.clock.advance(Duration::from_secs(60));
    let mut round = claim_due(&second.app, |_, _| 100).await.unwrap();
    let mine = push(&second.app, round.deliveries.remove(0)).await;
    // The change after the second node's claim is what the late outcome must not settle.
    change(&second, 2).await;
    record(&first.app, &[late]).await.unwrap();
    let unfinished = async || deliveries::unfinished(&mut second.app.store.read().await.unwrap()).await.unwrap();
    assert_eq!(unfinished().await, 1);
    assert_eq!(second.deliver().await, 0, "the second node's lease stands");
    record(&second.app, &[mine]).await.unwrap();
    assert_eq!(unfinished().await, 1, "the later change is still to be told");
    second.clock.advance(Duration::from_secs(2));
    assert_eq!(second.deliver().await, 1);
    first.stop().await;
    second.stop().await;
}

async fn a_change_on_one_node_is_pushed_by_another(database: TestDatabase) {
    let (first, second) = nodes(&database, 1, JobMode::Running).await;
    let mut counts = second.apns().counts();
    change(&first, 1).await;
    counts.wait_for(|counts| counts.pushes == 1).await.unwrap();
    assert_eq!(first.apns().pushes().len(), 0);
}

async fn two_workers_share_the_work_and_push_to_each_phone_once(database: TestDatabase) {
    let (first, second) = nodes(&database, 20, JobMode::Running).await;
    change(&first, 1).await;
    let by_hand = first.deliver().await;
    let mut counts = second.apns().counts();
    counts.wait_for(|counts| counts.pushes as usize + by_hand >= 20).await.unwrap();
    let mut heard: Vec<String> =
        [&first, &second].iter().flat_map(|node| node.apns().pushes()).map(|p| p.token.as_str().to_owned()).collect();
    assert_eq!(heard.len(), 20);
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 20);
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

/// Changes at one node a card that no phone has, until the other has heard of it. Nothing but the word of another wakes
/// a node that has nothing to do. Its worker takes some of the words, and two may be older than the changes: one that
/// was kept, and one that the end of a publishing or of a line left behind.
async fn hears(node: &Service, other: &Service) {
    let heard = async {
        for _ in 0..3 {
            node.app.delivery_signal.notified().await;
        }
    };
    let changes = async {
        for points in 1.. {
            change(other, points).await;
        }
    };
    let heard = async {
        tokio::select! {
            () = heard => {}
            () = changes => {}
        }
    };
    tokio::time::timeout(HEARD_WITHIN, heard).await.expect("it hears of changes on the other node");
}

#[test]
fn a_node_hears_of_changes_on_another() {
    run(Database::Postgres, async |database: TestDatabase| {
        let (first, second) = nodes(&database, 0, JobMode::Running).await;
        hears(&second, &first).await;
        first.stop().await;
        second.stop().await;
    });
}

#[test]
fn a_node_that_lost_its_line_to_the_others_hears_them_again() {
    run(Database::Postgres, async |database: TestDatabase| {
        let (first, second) = nodes(&database, 0, JobMode::Running).await;
        hears(&second, &first).await;
        let mut c = PgConnection::connect(database.url()).await.unwrap();
        let listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        let lost: Vec<i32> = sqlx::query_scalar(listening).fetch_all(&mut c).await.unwrap();
        assert_eq!(lost.len(), 1, "only the second listens");
        let ended: bool =
            sqlx::query_scalar("SELECT pg_terminate_backend($1)").bind(lost[0]).fetch_one(&mut c).await.unwrap();
        assert!(ended);
        let again = async {
            loop {
                let now: Vec<i32> = sqlx::query_scalar(listening).fetch_all(&mut c).await.unwrap();
                if now.iter().any(|pid| !lost.contains(pid)) {
                    return;
                }
            }
        };
        tokio::time::timeout(HEARD_WITHIN, again).await.expect("it listens again");
        hears(&second, &first).await;
        first.stop().await;
        second.stop().await;
    });
}
