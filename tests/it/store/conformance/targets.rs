use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use passloom::domain::cards::Card;
use passloom::domain::delivery::backoff::REMIND_AFTER;
use passloom::domain::ids::TargetAddress;
use passloom::domain::time::Timestamp;
use passloom::store::cards::{self, Unchanged};
use passloom::store::deliveries::{self, Claimed, DeliveryResult, Fault, Outcome};
use passloom::store::passes::{self, PassKey};
use passloom::store::targets::{self, Held, HeldPass, Question, TargetKey, TargetKind};
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
    what_a_device_holds_has_the_position_of_its_newest_change,
    another_workspace_sees_no_registration,
    how_many_devices_asked_since_a_face_is_known,
    a_batch_settles_each_device_by_its_own_outcome_and_lease,
    what_waits_for_the_service_is_due_when_it_is_back,
    a_new_token_ends_the_waiting_of_the_old_one,
    a_push_that_nobody_follows_is_repeated_three_times_over_three_days,
    a_phone_that_asked_is_not_reminded,
    a_phone_that_asked_and_did_not_fetch_is_reminded,
    a_pass_type_with_much_to_do_hides_no_other,
    a_pause_is_probed_by_one_node_at_a_time,
];

const WINDOW: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(60);

/// A shop with one card and one phone that holds it.
async fn shop_with_phone(store: &Store) -> (Shop, Card, TargetKey) {
    let shop = Shop::open(store, "bakery").await;
    let card = shop.issue(store, "M-1").await;
    let key = shop.phone(store, "phone", &[&card]).await;
    (shop, card, key)
}

async fn mark(store: &Store, card: &Card, now: Timestamp) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let marked = deliveries::mark(&mut tx, &card.workspace, &[&card.id], now, WINDOW).await.unwrap();
    tx.commit().await.unwrap();
    marked
}

async fn claim(store: &Store, lease: &str, now: Timestamp) -> Vec<Claimed> {
    claim_some(store, lease, now, 100).await
}

async fn claim_some(store: &Store, lease: &str, now: Timestamp, limit: i64) -> Vec<Claimed> {
    let mut tx = store.begin().await.unwrap();
    let mut claimed = Vec::new();
    for (_, issuer) in deliveries::due_issuers(&mut tx).await.unwrap() {
        claimed.extend(deliveries::claim(&mut tx, &issuer, lease, now, now.plus(LEASE), limit).await.unwrap());
    }
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
    record_all(store, &[(claimed.clone(), lease, outcome)], now).await == 1
}

/// Records a batch; how many of its outcomes counted.
async fn record_all(store: &Store, outcomes: &[(Claimed, &str, Outcome)], at: Timestamp) -> usize {
    let settled = |(claimed, lease, outcome): &(Claimed, &str, Outcome)| DeliveryResult {
        acknowledged: false,
        claimed: claimed.clone(),
        lease: (*lease).to_owned(),
        position: 1,
        outcome: outcome.clone(),
        at,
    };
    let batch: Vec<DeliveryResult> = outcomes.iter().map(settled).collect();
    let mut tx = store.begin().await.unwrap();
    let recorded = deliveries::record_outcomes(&mut tx, &batch).await.unwrap();
    tx.commit().await.unwrap();
    recorded.len()
}

async fn put(store: &Store, key: &TargetKey, token: &TargetAddress, now: Timestamp) {
    let mut tx = store.begin().await.unwrap();
    targets::put(&mut tx, key, token, TargetKind::Apns, now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn unfinished(store: &Store) -> i64 {
    deliveries::unfinished(&mut store.read().await.unwrap()).await.unwrap()
}

/// When the next device is due, judged from a moment before all others.
async fn next_due(store: &Store) -> Option<Timestamp> {
    let mut reader = store.read().await.unwrap();
    let mut next = None;
    for (_, issuer) in deliveries::due_issuers(&mut reader).await.unwrap() {
        next = deliveries::outlook(&mut reader, &issuer, at(-1_000_000.0)).await.unwrap().1;
    }
    next
}

fn pushed() -> Outcome {
    Outcome::Delivered { window: WINDOW, remind_after: REMIND_AFTER }
}

fn retry(due_at: Timestamp) -> Outcome {
    Outcome::Retry { attempts: 1, due_at, fault: Fault::Target, problem: "no answer".to_owned() }
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
    assert_eq!(deliveries::release(&mut tx, "a").await.unwrap(), 1);
    tx.commit().await.unwrap();

    let claimed = claim_one(&store, "a", at(1.0)).await;
    assert_eq!(claimed.key(), key);
    assert_eq!((claimed.workspace(), claimed.issuer()), (&shop.workspace, &shop.issuer));
    assert_eq!(claimed.address, token("aa01"));
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
    assert_eq!(deliveries::release(&mut tx, "b").await.unwrap(), 0);
    assert_eq!(deliveries::release(&mut tx, "a").await.unwrap(), 1);
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
    assert_eq!(claimed.address, token("bb02"));
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
    assert_eq!(claim_one(&store, "b", at(3.0)).await.address, token("bb02"));
}

async fn a_device_that_apple_does_not_push_to_is_never_due(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let key = shop.target("reader");
    let mut tx = store.begin().await.unwrap();
    targets::put(&mut tx, &key, &token("any-shape"), TargetKind::Other, at(0.0)).await.unwrap();
    targets::register(&mut tx, &key, &card.id, card.position, at(0.0)).await.unwrap();
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
    assert!(targets::is_registered(&mut tx, &key, &first.id).await.unwrap());
    assert!(targets::unregister(&mut tx, &key, &first.id).await.unwrap());
    assert!(!targets::unregister(&mut tx, &key, &first.id).await.unwrap(), "it was not registered any more");
    assert!(!targets::is_registered(&mut tx, &key, &first.id).await.unwrap());
    let held = targets::held(&mut tx, &key.issuer, &key.id).await.unwrap().unwrap();
    assert_eq!(held.passes.len(), 1, "it still holds the other card");
    assert!(targets::unregister(&mut tx, &key, &second.id).await.unwrap());
    assert_eq!(targets::held(&mut tx, &key.issuer, &key.id).await.unwrap(), None);
    tx.commit().await.unwrap();
}

async fn what_a_device_holds_has_the_position_of_its_newest_change(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (first, second) = (shop.issue(&store, "M-1").await, shop.issue(&store, "M-2").await);
    shop.issue(&store, "M-3").await;
    let key = shop.phone(&store, "phone", &[&first, &second]).await;
    let held = async || targets::held(&mut store.read().await.unwrap(), &key.issuer, &key.id).await.unwrap().unwrap();
    let pass = |card: &Card, position: i64, else_at: Option<i64>| HeldPass {
        card: card.id.clone(),
        serial: card.serial.clone(),
        position,
        else_at,
    };
    assert_eq!(
        held().await,
        Held {
            workspace: shop.workspace.clone(),
            newest: workspaces::position(&mut store.read().await.unwrap(), &shop.workspace).await.unwrap(),
            polled_position: 0,
            passes: vec![pass(&first, first.position, None), pass(&second, second.position, None)]
        }
    );
    let published = shop.publish(&store, 2).await;
    assert_eq!(held().await.newest, published);
    let own = |card: &Card| Some(card.position);
    assert_eq!(held().await.passes, [pass(&first, published, own(&first)), pass(&second, published, own(&second))]);

    // A phone that adds a card that changed before its last question must learn of it.
    let mut tx = store.begin().await.unwrap();
    assert!(targets::unregister(&mut tx, &key, &first.id).await.unwrap());
    let position = workspaces::next_position(&mut tx, &shop.workspace).await.unwrap();
    targets::register(&mut tx, &key, &first.id, position, at(1.0)).await.unwrap();
    targets::register(&mut tx, &key, &first.id, position + 100, at(1.0)).await.unwrap();
    tx.commit().await.unwrap();
    let passes = [pass(&first, position, None), pass(&second, published, own(&second))];
    assert_eq!(held().await.passes, passes, "registering twice does nothing");

    // What the publishing left as it was stays at its face, until the card changes or another one comes.
    let mut tx = store.begin().await.unwrap();
    let kept = Unchanged { face: second.position, modified: second.modified, through: published };
    cards::keep_faces(&mut tx, &shop.workspace, &[(second.clone(), kept)]).await.unwrap();
    let stale = Card { revision: first.revision + 1, ..first.clone() };
    cards::keep_faces(&mut tx, &shop.workspace, &[(stale, kept)]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(held().await.passes, [pass(&first, position, None), pass(&second, second.position, None)]);
    let next = shop.publish(&store, 3).await;
    assert_eq!(held().await.passes, [pass(&first, next, Some(position)), pass(&second, next, own(&second))]);
}

async fn another_workspace_sees_no_registration(database: TestDatabase) {
    let store = database.store().await;
    let bakery = Shop::open(&store, "bakery").await;
    let spa = Shop::open(&store, "spa").await;
    let (card, twin) = (bakery.issue(&store, "M-1").await, spa.issue(&store, "M-1").await);
    bakery.phone(&store, "phone", &[&card]).await;
    assert_eq!(mark(&store, &twin, at(1.0)).await, 0);
    let mut tx = store.begin().await.unwrap();
    let phone = spa.target("phone");
    assert_eq!(targets::held(&mut tx, &phone.issuer, &phone.id).await.unwrap(), None);
    assert!(!targets::is_registered(&mut tx, &spa.target("phone"), &card.id).await.unwrap());
    assert!(!targets::unregister(&mut tx, &spa.target("phone"), &card.id).await.unwrap());
    assert!(targets::is_registered(&mut tx, &bakery.target("phone"), &card.id).await.unwrap());
}

async fn how_many_devices_asked_since_a_face_is_known(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let of_card = async || targets::of_card(&mut store.read().await.unwrap(), &card, 5).await.unwrap();
    assert_eq!(of_card().await, (0, 0));
    let key = shop.phone(&store, "phone-1", &[&card]).await;
    shop.phone(&store, "phone-2", &[&card]).await;
    assert_eq!(of_card().await, (2, 0));
    for (position, asked) in [(4, 4), (6, 6), (5, 6)] {
        let mut tx = store.begin().await.unwrap();
        targets::record_polls(&mut tx, &BTreeMap::from([(key.clone(), Question { position, listed: false })]), at(1.0))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let held = targets::held(&mut store.read().await.unwrap(), &key.issuer, &key.id).await.unwrap().unwrap();
        assert_eq!(held.polled_position, asked, "an older question changes nothing");
    }
    assert_eq!(of_card().await, (2, 1));
}

async fn a_batch_settles_each_device_by_its_own_outcome_and_lease(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    for name in ["dead", "given-up", "late", "lost", "pushed", "released"] {
        shop.phone(&store, name, &[&card]).await;
    }
    mark(&store, &card, at(0.0)).await;
    let mut claimed = claim(&store, "a", at(0.0)).await;
    claimed.sort_by(|a, b| a.key().id.cmp(&b.key().id));
    let gave_up = Outcome::GaveUp { problem: "BadPriority".to_owned() };
    let released = Outcome::Released { problem: None };
    let outcomes = [gone(), gave_up, retry(at(60.0)), pushed(), pushed(), released];
    let leases = ["a", "a", "a", "another", "a", "a"];
    let batch: Vec<_> = claimed.into_iter().zip(leases).zip(outcomes).map(|((c, l), o)| (c, l, o)).collect();
    assert_eq!(record_all(&store, &batch, at(1.0)).await, 5, "all but the one whose lease is another's");
    assert_eq!(record_all(&store, &batch, at(1.0)).await, 0, "an outcome is recorded once");
    let due = async |now: f64| {
        let mut names: Vec<String> =
            claim(&store, "b", at(now)).await.iter().map(|c| c.key().id.as_str().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(due(1.0).await, ["released"]);
    assert_eq!(due(60.0).await, ["late", "lost"]);
}

async fn what_waits_for_the_service_is_due_when_it_is_back(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    shop.phone(&store, "a", &[&card]).await;
    shop.phone(&store, "b", &[&card]).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim(&store, "x", at(0.0)).await;
    for (claimed, fault) in claimed.iter().zip([Fault::Service, Fault::Target]) {
        let outcome = Outcome::Retry { attempts: 5, due_at: at(9000.0), fault, problem: "503".to_owned() };
        assert!(record(&store, claimed, "x", outcome, at(1.0)).await);
    }
    assert!(claim(&store, "y", at(2.0)).await.is_empty());
    let mut tx = store.begin().await.unwrap();
    assert!(deliveries::claim_probe(&mut tx, &shop.issuer, "p", at(2.0), at(50.0)).await.unwrap().is_some());
    assert!(deliveries::claim_probe(&mut tx, &shop.issuer, "q", at(2.0), at(50.0)).await.unwrap().is_none());
    drop(tx);
    // Waits for the locks of the transaction that was given up, which are released by and by.
    database.execute("UPDATE targets SET attempts = attempts").await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(deliveries::service_is_back(&mut tx, &shop.issuer, at(3.0)).await.unwrap(), 1);
    assert_eq!(deliveries::service_is_back(&mut tx, &shop.issuer, at(3.0)).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(claim_one(&store, "z", at(3.0)).await.attempts, 0, "its failures were not its own");
}

async fn a_new_token_ends_the_waiting_of_the_old_one(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, key) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", retry(at(9000.0)), at(1.0)).await);
    put(&store, &key, &token("aa01"), at(2.0)).await;
    assert!(claim(&store, "b", at(2.0)).await.is_empty(), "the same token is as busy as before");
    put(&store, &key, &token("bb02"), at(3.0)).await;
    assert_eq!(claim_one(&store, "c", at(3.0)).await.address, token("bb02"));
}

async fn remind(store: &Store, now: Timestamp) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let waiting = deliveries::to_remind(&mut tx, now).await.unwrap();
    let (reminded, looked_at) = deliveries::remind(&mut tx, now, 100).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(i64::try_from(looked_at).unwrap(), waiting);
    reminded
}

async fn a_push_that_nobody_follows_is_repeated_three_times_over_three_days(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, _) = shop_with_phone(&store).await;
    mark(&store, &card, at(0.0)).await;
    let hour = 3600.0;
    let mut now = 0.0;
    for (round, due) in [hour, 24.0 * hour, 72.0 * hour].into_iter().enumerate() {
        let claimed = claim_one(&store, "a", at(now)).await;
        assert!(record(&store, &claimed, "a", pushed(), at(now)).await);
        assert_eq!(remind(&store, at(due - 1.0)).await, 0, "repetition {round}");
        assert_eq!(remind(&store, at(due)).await, 1, "repetition {round}");
        assert_eq!(remind(&store, at(due)).await, 0, "repetition {round}");
        now = due;
    }
    let claimed = claim_one(&store, "a", at(now)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(now)).await);
    assert_eq!(remind(&store, at(1000.0 * hour)).await, 0, "three and no more");
    // A new change begins anew, and a clock that went back puts no repetition to sleep.
    mark(&store, &card, at(1000.0 * hour)).await;
    let claimed = claim_one(&store, "a", at(1000.0 * hour)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(1000.0 * hour)).await);
    assert_eq!(remind(&store, at(0.0)).await, 1);
}

async fn a_phone_that_asked_is_not_reminded(database: TestDatabase) {
    let store = database.store().await;
    let (_, card, key) = shop_with_phone(&store).await;
    let ask = async |position| {
        let mut tx = store.begin().await.unwrap();
        targets::record_polls(&mut tx, &BTreeMap::from([(key.clone(), Question { position, listed: false })]), at(1.0))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    mark(&store, &card, at(0.0)).await;
    let claimed = claim_one(&store, "a", at(0.0)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(0.0)).await);
    ask(5).await;
    assert_eq!(remind(&store, at(9000.0)).await, 0);
    // It asks before the outcome of its push is recorded.
    mark(&store, &card, at(10.0)).await;
    let claimed = claim_one(&store, "a", at(10.0)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(10.0)).await);
    assert_eq!(remind(&store, at(9000.0)).await, 0);
}

async fn a_phone_that_asked_and_did_not_fetch_is_reminded(database: TestDatabase) {
    let store = database.store().await;
    let (shop, card, key) = shop_with_phone(&store).await;
    let mut card = card;
    let told = async |card: &mut Card, pushed_at: f64| {
        let mut tx = store.begin().await.unwrap();
        card.position = workspaces::next_position(&mut tx, &shop.workspace).await.unwrap();
        super::shop::update(&mut tx, card).await.unwrap();
        tx.commit().await.unwrap();
        mark(&store, card, at(pushed_at)).await;
        let claimed = claim_one(&store, "a", at(pushed_at)).await;
        let settled = DeliveryResult {
            acknowledged: false,
            claimed,
            lease: "a".to_owned(),
            position: card.position,
            outcome: pushed(),
            at: at(pushed_at),
        };
        let mut tx = store.begin().await.unwrap();
        assert_eq!(deliveries::record_outcomes(&mut tx, &[settled]).await.unwrap().len(), 1);
        tx.commit().await.unwrap();
    };
    let ask = async |position: i64| {
        let question = Question { position, listed: true };
        let mut tx = store.begin().await.unwrap();
        targets::record_polls(&mut tx, &BTreeMap::from([(key.clone(), question)]), at(1.0)).await.unwrap();
        tx.commit().await.unwrap();
    };
    told(&mut card, 0.0).await;
    ask(card.position).await;
    assert_eq!(remind(&store, at(3601.0)).await, 1, "it asked, was told of a pass, and never fetched it");
    let claimed = claim_one(&store, "a", at(3601.0)).await;
    assert!(record(&store, &claimed, "a", pushed(), at(3601.0)).await);

    told(&mut card, 10_000.0).await;
    ask(card.position).await;
    let pass = shop.pass(&card);
    let of_card = PassKey { card: card.id.clone(), issuer: pass.issuer, object_id: pass.object_id };
    let faces = BTreeMap::from([(of_card, card.position)]);
    let mut tx = store.begin().await.unwrap();
    passes::record_fetches(&mut tx, &shop.workspace, &faces, at(10_001.0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(remind(&store, at(99_000.0)).await, 0, "it fetched");

    // An answer that was made before a push left doesn't count as following it.
    let old = card.position;
    told(&mut card, 200_000.0).await;
    let earlier = Question { position: old, listed: false };
    let mut tx = store.begin().await.unwrap();
    targets::record_polls(&mut tx, &BTreeMap::from([(key.clone(), earlier)]), at(200_001.0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(remind(&store, at(300_000.0)).await, 1);
}

async fn a_pass_type_with_much_to_do_hides_no_other(database: TestDatabase) {
    let store = database.store().await;
    let (bakery, spa) = (Shop::open(&store, "bakery").await, Shop::open(&store, "spa").await);
    for (shop, phones) in [(&bakery, 30), (&spa, 1)] {
        let card = shop.issue(&store, "M-1").await;
        for number in 0..phones {
            shop.phone(&store, &format!("phone-{number}"), &[&card]).await;
        }
        mark(&store, &card, at(0.0)).await;
    }
    let mut tx = store.begin().await.unwrap();
    let waiting = deliveries::due_issuers(&mut tx).await.unwrap();
    assert_eq!(
        waiting,
        [(bakery.workspace.clone(), bakery.issuer.clone()), (spa.workspace.clone(), spa.issuer.clone())]
    );
    let claimed = deliveries::claim(&mut tx, &spa.issuer, "a", at(0.0), at(50.0), 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    tx.commit().await.unwrap();
}

async fn a_pause_is_probed_by_one_node_at_a_time(database: TestDatabase) {
    use passloom::store::issuer_pauses;
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let begin = async |certificate: &str| {
        let mut tx = store.begin().await.unwrap();
        let (workspace, issuer) = (&shop.workspace, &shop.issuer);
        let begun =
            issuer_pauses::begin(&mut tx, workspace, issuer, certificate, "BadCertificate", at(0.0), at(300.0)).await;
        tx.commit().await.unwrap();
        begun.unwrap()
    };
    let probe = async |now: f64| {
        let mut tx = store.begin().await.unwrap();
        let next = at(now).plus(Duration::from_secs(300));
        let taken = issuer_pauses::take_probe(&mut tx, &shop.issuer, "one", at(now), next).await.unwrap();
        tx.commit().await.unwrap();
        taken
    };
    assert!(begin("one").await);
    assert!(!begin("two").await, "it pauses already");
    assert!(!probe(299.0).await);
    assert!(probe(300.0).await);
    assert!(!probe(300.0).await, "the other node comes too late");
    assert!(probe(-5.0).await, "the clock went back");
    let mut tx = store.begin().await.unwrap();
    assert_eq!(issuer_pauses::all(&mut tx).await.unwrap()[0].reason, "BadCertificate");
    assert!(!issuer_pauses::end(&mut tx, &shop.issuer, "two").await.unwrap());
    assert!(issuer_pauses::end(&mut tx, &shop.issuer, "one").await.unwrap());
    assert!(issuer_pauses::all(&mut tx).await.unwrap().is_empty());
    tx.commit().await.unwrap();
}
