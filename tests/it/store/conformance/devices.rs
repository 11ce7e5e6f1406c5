use std::collections::HashSet;
use std::time::Duration;

use passloom::domain::card::Card;
use passloom::domain::ids::PushToken;
use passloom::domain::time::Timestamp;
use passloom::store::devices::{self, Claimed, DeviceKey, DeviceKind, Outcome};
use passloom::store::{Store, workspaces};

use super::shop::{Shop, at, token};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_marked_device_is_claimed_once_and_settled_by_its_push,
    a_change_marked_between_claim_and_record_stays_due,
    a_change_marked_before_a_push_was_given_up_is_tried_anew,
    changes_within_the_window_share_one_push,
    a_failed_push_comes_back_when_its_time_has_come,
    a_clock_that_goes_back_puts_nothing_to_sleep,
    a_lease_ends_when_the_clock_goes_back_behind_its_beginning,
    two_workers_never_get_the_same_device,
    a_lost_lease_records_nothing,
    a_lease_that_is_handed_back_leaves_its_devices_due,
    a_dead_token_is_told_nothing_more,
    a_gone_token_registered_again_is_kept,
    a_device_whose_token_changed_during_a_push_is_pushed_again,
    a_dead_device_that_comes_back_is_told_what_it_missed,
    a_device_that_apple_does_not_push_to_is_never_due,
    a_device_without_registrations_is_forgotten,
    what_changed_is_asked_from_a_position_on,
    another_workspace_sees_no_registration,
    how_many_devices_asked_since_a_face_is_known,
];

const WINDOW: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(60);

/// A shop with one card and one phone that holds it.
async fn shop_with_phone(store: &Store) -> (Shop, Card, DeviceKey) {
    let shop = Shop::open(store, "bakery").await;
    let card = shop.issue(store, "M-1").await;
    let key = shop.phone(store, "phone", &[&card]).await;
    (shop, card, key)
}

async fn mark(store: &Store, card: &Card, now: Timestamp) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let marked = devices::mark(&mut tx, &card.workspace, &[&card.id], now, WINDOW).await.unwrap();
    tx.commit().await.unwrap();
    marked
}

async fn claim(store: &Store, lease: &str, now: Timestamp) -> Vec<Claimed> {
    claim_some(store, lease, now, 100).await
}

async fn claim_some(store: &Store, lease: &str, now: Timestamp, limit: i64) -> Vec<Claimed> {
    let mut tx = store.begin().await.unwrap();
    let claimed = devices::claim(&mut tx, lease, now, now.plus(LEASE), limit).await.unwrap();
    tx.commit().await.unwrap();
    claimed
}

/// Claims what must be exactly one device.
async fn claim_one(store: &Store, lease: &str, now: Timestamp) -> Claimed {
    let mut claimed = claim(store, lease, now).await;
    assert_eq!(claimed.len(), 1, "claimed at {now}");
    claimed.remove(0)
}

async fn record(store: &Store, claimed: &Claimed, lease: &str, outcome: Outcome, now: Timestamp) -> bool {
    let mut tx = store.begin().await.unwrap();
    let recorded = devices::record(&mut tx, claimed, lease, &outcome, now).await.unwrap();
    tx.commit().await.unwrap();
    recorded
}

async fn put(store: &Store, key: &DeviceKey, token: &PushToken, now: Timestamp) {
    let mut tx = store.begin().await.unwrap();
    devices::put(&mut tx, key, token, DeviceKind::Apns, now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn unfinished(store: &Store) -> i64 {
    devices::unfinished(&mut store.read().await.unwrap()).await.unwrap()
}

async fn next_due(store: &Store) -> Option<Timestamp> {
    devices::next_due(&mut store.read().await.unwrap()).await.unwrap()
}

fn pushed() -> Outcome {
    Outcome::Pushed { position: 1, window: WINDOW }
}

fn retry(due_at: Timestamp) -> Outcome {
    Outcome::Retry { attempts: 1, due_at, problem: "no answer".to_owned() }
}

fn gone() -> Outcome {
    Outcome::Gone { problem: "410".to_owned() }
}

async fn a_marked_device_is_claimed_once_and_settled_by_its_push(database: TestDatabase) {
    let store = database.store().await;
    let (shop, card, key) = shop_with_phone(&store).await;
    assert!(claim(&store, "a", at(0.0)).await.is_empty(), "nothing changed yet");
    assert_eq!(mark(&store, &card, at(1.0)).await, 1);
    assert_eq!(next_due(&store).await, Some(at(1.0)));
    assert!(claim(&store, "a", at(0.999_999)).await.len() == 1, "a clock that went back must not delay");
    let mut tx = store.begin().await.unwrap();
    assert_eq!(devices::release(&mut tx, "a").await.unwrap(), 1);
    tx.commit().await.unwrap();

    let claimed = claim_one(&store, "a", at(1.0)).await;
    assert_eq!(claimed.key(), key);
    assert_eq!((claimed.workspace(), claimed.pass_type()), (&shop.workspace, &shop.pass_type));
    assert_eq!(claimed.push_token, token("aa01"));
    assert_eq!((claimed.attempts, claimed.registered_at), (0, at(0.0)));
    assert!(claim(&store, "b", at(2.0)).await.is_empty(), "the lease holds it");
    assert!(record(&store, &claimed, "a", pushed(), at(3.0)).await);
    assert_eq!(unfinished(&store).await, 0);
    assert_eq!(next_due(&store).await, None);
    assert!(claim(&store, "b", at(1000.0)).await.is_empty());
}

async fn a_change_marked_between_claim_and_record_stays_due(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.1)).await;
    mark(&store, &card, at(0.2)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(0.3)).await);
    assert_eq!(unfinished(&store).await, 1);
    assert_eq!(next_due(&store).await, Some(at(2.3)));
    assert!(claim(&store, "b", at(2.2)).await.is_empty(), "within the window");
    let claimed = claim_one(&store, "b", at(2.3)).await;
    assert!(record(&store, &claimed, "b", pushed(), at(2.4)).await);
    assert_eq!(unfinished(&store).await, 0);
}

async fn a_change_marked_before_a_push_was_given_up_is_tried_anew(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    let gave_up = || Outcome::GaveUp { problem: "BadTopic".to_owned() };
    assert!(record(&store, &claimed, "a", gave_up(), at(1.0)).await);
    assert_eq!(unfinished(&store).await, 0, "asking again won't help");

    mark(&store, &card, at(2.0)).await;
    let claimed = claim_one(&store, "b", at(2.0)).await;
    mark(&store, &card, at(2.5)).await;
    assert!(record(&store, &claimed, "b", gave_up(), at(3.0)).await);
    assert_eq!(claim(&store, "c", at(3.0)).await.len(), 1, "the change after the claim is one to try");
}

async fn changes_within_the_window_share_one_push(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(1.0)).await);
    for tenth in 0..10 {
        mark(&store, &card, at(1.0 + f64::from(tenth) / 10.0)).await;
    }
    assert_eq!(next_due(&store).await, Some(at(3.0)));
    assert!(claim(&store, "b", at(2.999)).await.is_empty());
    let claimed = claim_one(&store, "b", at(3.0)).await;
    assert!(record(&store, &claimed, "b", pushed(), at(3.0)).await);
    assert_eq!(unfinished(&store).await, 0, "one push told of all ten");

    mark(&store, &card, at(60.0)).await;
    assert_eq!(next_due(&store).await, Some(at(60.0)), "after the window a change is due at once");
    let claimed = claim_one(&store, "c", at(60.0)).await;
    assert!(record(&store, &claimed, "c", pushed(), at(60.0)).await);
    // The last push lies in the future of a clock that went back: nobody knows how long ago it was.
    mark(&store, &card, at(30.0)).await;
    assert_eq!(next_due(&store).await, Some(at(30.0)));
}

async fn a_failed_push_comes_back_when_its_time_has_come(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", retry(at(15.0)), at(1.0)).await);
    assert!(claim(&store, "b", at(14.9)).await.is_empty());
    assert_eq!(mark(&store, &card, at(5.0)).await, 1);
    assert_eq!(next_due(&store).await, Some(at(15.0)), "a change does not push earlier at a service that failed");
    let claimed = claim_one(&store, "b", at(15.0)).await;
    assert_eq!(claimed.attempts, 1);
    assert!(record(&store, &claimed, "b", pushed(), at(15.0)).await);
    mark(&store, &card, at(20.0)).await;
    assert_eq!(claim_one(&store, "c", at(20.0)).await.attempts, 0, "success forgets the failures before");
}

async fn a_clock_that_goes_back_puts_nothing_to_sleep(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    let hours = 4.0 * 3600.0;
    assert!(record(&store, &claimed, "a", retry(at(hours)), at(1.0)).await);
    assert!(claim(&store, "b", at(1.0)).await.is_empty(), "it is not due");
    // Back behind the moment at which the four hours were counted from.
    let claimed = claim_one(&store, "b", at(-3600.0)).await;
    assert!(record(&store, &claimed, "b", retry(at(-3500.0)), at(-3600.0)).await);
    assert_eq!(claim(&store, "c", at(-3500.0)).await.len(), 1, "from here on the new time counts");
}

async fn a_lease_ends_when_the_clock_goes_back_behind_its_beginning(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(-7200.0)).await;
    claim_one(&store, "dead worker", at(0.0)).await;
    assert!(claim(&store, "b", at(59.9)).await.is_empty());
    assert_eq!(claim(&store, "b", at(-3600.0)).await.len(), 1);
    assert_eq!(claim(&store, "c", at(-3540.0)).await.len(), 1, "a lease ends when its time is over");
}

async fn two_workers_never_get_the_same_device(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    for number in 0..60 {
        shop.phone(&store, &format!("phone-{number}"), &[&card]).await;
    }
    assert_eq!(mark(&store, &card, at(0.0)).await, 60);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = claim_some(&store, &format!("worker-{worker}"), at(0.0), 4).await;
                    assert!(claimed.len() <= 4, "asked for 4 and got {}", claimed.len());
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.iter().map(|c| c.key().id));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    // Another worker's claim may hide rows from a last look, so each device is claimed at most once; the rest is still due.
    let rest = claim(&store, "last", at(0.0)).await;
    all.extend(rest.iter().map(|c| c.key().id));
    assert_eq!(all.len(), 60);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 60);
}

async fn a_lost_lease_records_nothing(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let slow = claim_one(&store, "slow", at(0.0)).await;
    let quick = claim_one(&store, "quick", at(61.0)).await;
    let gave_up = Outcome::GaveUp { problem: "refused".to_owned() };
    for outcome in [pushed(), retry(at(9000.0)), gone(), gave_up] {
        assert!(!record(&store, &slow, "slow", outcome, at(62.0)).await);
    }
    assert_eq!(unfinished(&store).await, 1);
    assert!(record(&store, &quick, "quick", pushed(), at(63.0)).await);
    assert!(!record(&store, &quick, "quick", pushed(), at(64.0)).await, "an outcome is recorded once");
}

async fn a_lease_that_is_handed_back_leaves_its_devices_due(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    claim_one(&store, "a", at(0.0)).await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(devices::release(&mut tx, "b").await.unwrap(), 0);
    assert_eq!(devices::release(&mut tx, "a").await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(claim(&store, "b", at(0.0)).await.len(), 1);
}

async fn a_dead_token_is_told_nothing_more(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", gone(), at(1.0)).await);
    assert_eq!(unfinished(&store).await, 0);
    assert_eq!(mark(&store, &card, at(2.0)).await, 0);
}

async fn a_gone_token_registered_again_is_kept(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, key) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    put(&store, &key, &token("aa01"), at(0.5)).await;
    record(&store, &claimed, "a", gone(), at(1.0)).await;
    assert_eq!(mark(&store, &card, at(2.0)).await, 1, "it lives");
    assert_eq!(claim(&store, "b", at(100.0)).await.len(), 1);
}

async fn a_device_whose_token_changed_during_a_push_is_pushed_again(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, key) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    put(&store, &key, &token("bb02"), at(0.5)).await;
    // Apple took the push, but for a token that is no longer the device's.
    assert!(!record(&store, &claimed, "a", pushed(), at(1.0)).await);
    let claimed = claim_one(&store, "b", at(1.0)).await;
    assert_eq!(claimed.push_token, token("bb02"));
    assert!(record(&store, &claimed, "b", pushed(), at(1.0)).await);
    assert_eq!(unfinished(&store).await, 0);
}

async fn a_dead_device_that_comes_back_is_told_what_it_missed(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, key) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", gone(), at(1.0)).await);
    mark(&store, &card, at(2.0)).await;
    put(&store, &key, &token("bb02"), at(3.0)).await;
    assert_eq!(claim_one(&store, "b", at(3.0)).await.push_token, token("bb02"));
}

async fn a_device_that_apple_does_not_push_to_is_never_due(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let key = shop.device("reader");
    let mut tx = store.begin().await.unwrap();
    devices::put(&mut tx, &key, &token("any-shape"), DeviceKind::Other, at(0.0)).await.unwrap();
    devices::register(&mut tx, &key, &card.id, card.position, at(0.0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(mark(&store, &card, at(1.0)).await, 0);
    assert_eq!(unfinished(&store).await, 0);
}

async fn a_device_without_registrations_is_forgotten(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (first, second) = (shop.issue(&store, "M-1").await, shop.issue(&store, "M-2").await);
    let key = shop.phone(&store, "phone", &[&first, &second]).await;
    let mut tx = store.begin().await.unwrap();
    assert!(devices::is_registered(&mut tx, &key, &first.id).await.unwrap());
    assert!(devices::unregister(&mut tx, &key, &first.id).await.unwrap());
    assert!(!devices::unregister(&mut tx, &key, &first.id).await.unwrap(), "it was not registered any more");
    assert!(!devices::is_registered(&mut tx, &key, &first.id).await.unwrap());
    assert_eq!(devices::asked(&mut tx, &key).await.unwrap(), Some(0), "it still holds the other card");
    assert!(devices::unregister(&mut tx, &key, &second.id).await.unwrap());
    assert_eq!(devices::asked(&mut tx, &key).await.unwrap(), None);
    tx.commit().await.unwrap();
}

async fn what_changed_is_asked_from_a_position_on(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (first, second) = (shop.issue(&store, "M-1").await, shop.issue(&store, "M-2").await);
    shop.issue(&store, "M-3").await;
    let key = shop.phone(&store, "phone", &[&first, &second]).await;
    let changed = async |after| devices::changed(&mut store.read().await.unwrap(), &key, after).await.unwrap();
    assert_eq!(changed(0).await, (vec![first.serial.clone(), second.serial.clone()], second.position));
    assert_eq!(changed(first.position).await, (vec![second.serial.clone()], second.position));
    assert_eq!(changed(second.position).await, (vec![], 0));

    let published = shop.publish(&store, 2).await;
    assert_eq!(changed(second.position).await, (vec![first.serial.clone(), second.serial.clone()], published));

    // A phone that adds a card that changed before its last question must learn of it.
    let mut tx = store.begin().await.unwrap();
    assert!(devices::unregister(&mut tx, &key, &first.id).await.unwrap());
    let position = workspaces::take_position(&mut tx, &shop.workspace).await.unwrap();
    devices::register(&mut tx, &key, &first.id, position, at(1.0)).await.unwrap();
    devices::register(&mut tx, &key, &first.id, position + 100, at(1.0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(changed(published).await, (vec![first.serial], position), "registering twice does nothing");
}

async fn another_workspace_sees_no_registration(database: TestDatabase) {
    let store = database.store().await;
    let bakery = Shop::open(&store, "bakery").await;
    let spa = Shop::open(&store, "spa").await;
    let (card, twin) = (bakery.issue(&store, "M-1").await, spa.issue(&store, "M-1").await);
    bakery.phone(&store, "phone", &[&card]).await;
    assert_eq!(mark(&store, &twin, at(1.0)).await, 0);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(devices::changed(&mut tx, &spa.device("phone"), 0).await.unwrap(), (vec![], 0));
    assert!(!devices::is_registered(&mut tx, &spa.device("phone"), &card.id).await.unwrap());
    assert!(!devices::unregister(&mut tx, &spa.device("phone"), &card.id).await.unwrap());
    assert!(devices::is_registered(&mut tx, &bakery.device("phone"), &card.id).await.unwrap());
}

async fn how_many_devices_asked_since_a_face_is_known(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let of_card = async || devices::of_card(&mut store.read().await.unwrap(), &card, 5).await.unwrap();
    assert_eq!(of_card().await, (0, 0));
    let key = shop.phone(&store, "phone-1", &[&card]).await;
    shop.phone(&store, "phone-2", &[&card]).await;
    assert_eq!(of_card().await, (2, 0));
    for (position, asked) in [(4, 4), (6, 6), (5, 6)] {
        let mut tx = store.begin().await.unwrap();
        devices::note_asked(&mut tx, &key, position, at(1.0)).await.unwrap();
        tx.commit().await.unwrap();
        let known = devices::asked(&mut store.read().await.unwrap(), &key).await.unwrap();
        assert_eq!(known, Some(asked), "an older question changes nothing");
    }
    assert_eq!(of_card().await, (2, 1));
}
