use passloom::store::Tx;
use passloom::store::fan_outs::{self, FanOut, FanOutKey};

use super::shop::{Shop, at};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_fan_out_walks_the_cards_that_some_device_holds,
    publishing_again_begins_the_walk_anew,
    the_oldest_fan_out_comes_first_and_two_nodes_never_walk_the_same,
    a_fan_out_waits_for_its_moment_on_every_node,
];

fn key(shop: &Shop) -> FanOutKey {
    FanOutKey::publishing(&shop.workspace, &shop.template)
}

async fn claim(tx: &mut Tx, now: f64) -> Option<FanOut> {
    fan_outs::claim(tx, at(now), at(now + 60.0)).await.unwrap()
}

async fn a_fan_out_walks_the_cards_that_some_device_holds(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let other = Shop::open(&store, "spa").await;
    let mut held = Vec::new();
    // Upper and lower case, so that an order by locale and one by bytes are not the same.
    for id in ["a", "B", "c", "D", "e"] {
        let card = shop.issue(&store, id).await;
        if id != "c" {
            shop.phone(&store, &format!("phone-{id}"), &[&card]).await;
            held.push(card.id);
        }
    }
    let stranger = other.issue(&store, "b").await;
    other.phone(&store, "phone", &[&stranger]).await;
    let mut tx = store.begin().await.unwrap();
    assert!(claim(&mut tx, 9.0).await.is_none());
    fan_outs::start(&mut tx, &key(&shop), at(0.0)).await.unwrap();
    tx.commit().await.unwrap();

    let mut walked = Vec::new();
    loop {
        let mut tx = store.begin().await.unwrap();
        let fan_out = claim(&mut tx, 9.0).await.unwrap();
        assert_eq!(fan_out.key, key(&shop));
        let cards = fan_outs::next_cards(&mut tx, &fan_out, 3).await.unwrap();
        let Some(last) = cards.last() else {
            fan_outs::finish(&mut tx, &fan_out.key).await.unwrap();
            tx.commit().await.unwrap();
            break;
        };
        fan_outs::advance(&mut tx, &fan_out.key, last, at(0.0)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(fan_outs::unfinished(&mut store.read().await.unwrap(), at(1000.0)).await.unwrap().count, 1);
        walked.extend(cards);
    }
    walked.sort();
    held.sort();
    assert_eq!(walked, held);
    assert_eq!(fan_outs::unfinished(&mut store.read().await.unwrap(), at(1000.0)).await.unwrap().count, 0);
}

async fn publishing_again_begins_the_walk_anew(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "a").await;
    shop.phone(&store, "phone", &[&card]).await;
    let mut tx = store.begin().await.unwrap();
    fan_outs::start(&mut tx, &key(&shop), at(0.0)).await.unwrap();
    let fan_out = claim(&mut tx, 9.0).await.unwrap();
    fan_outs::advance(&mut tx, &fan_out.key, &card.id, at(0.0)).await.unwrap();
    let fan_out = claim(&mut tx, 9.0).await.unwrap();
    assert!(fan_outs::next_cards(&mut tx, &fan_out, 9).await.unwrap().is_empty());
    fan_outs::start(&mut tx, &key(&shop), at(1.0)).await.unwrap();
    let fan_out = claim(&mut tx, 9.0).await.unwrap();
    assert_eq!(fan_outs::next_cards(&mut tx, &fan_out, 9).await.unwrap(), [card.id]);
}

async fn the_oldest_fan_out_comes_first_and_two_nodes_never_walk_the_same(database: TestDatabase) {
    let store = database.store().await;
    let late = Shop::open(&store, "late").await;
    let early = Shop::open(&store, "early").await;
    let mut tx = store.begin().await.unwrap();
    fan_outs::start(&mut tx, &key(&late), at(2.0)).await.unwrap();
    fan_outs::start(&mut tx, &key(&early), at(1.0)).await.unwrap();
    tx.commit().await.unwrap();
    let mut first = store.begin().await.unwrap();
    assert_eq!(claim(&mut first, 9.0).await.unwrap().key.workspace, early.workspace);
    // SQLite has one writer, so a second node waits for the first one's transaction to end.
    if database.kind() == Database::Postgres {
        let mut second = store.begin().await.unwrap();
        assert_eq!(claim(&mut second, 9.0).await.unwrap().key.workspace, late.workspace);
        let mut third = store.begin().await.unwrap();
        assert!(claim(&mut third, 9.0).await.is_none());
    }
}

async fn a_fan_out_waits_for_its_moment_on_every_node(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let other = Shop::open(&store, "spa").await;
    let card = shop.issue(&store, "a").await;
    let mut tx = store.begin().await.unwrap();
    fan_outs::start(&mut tx, &key(&shop), at(1.0)).await.unwrap();
    fan_outs::start(&mut tx, &key(&other), at(2.0)).await.unwrap();
    let first = claim(&mut tx, 10.0).await.unwrap();
    assert_eq!(first.key.workspace, shop.workspace);
    fan_outs::advance(&mut tx, &first.key, &card.id, at(12.0)).await.unwrap();
    let second = claim(&mut tx, 10.0).await.unwrap();
    assert_eq!(second.key.workspace, other.workspace, "they take turns");
    fan_outs::advance(&mut tx, &second.key, &card.id, at(13.0)).await.unwrap();
    let unfinished = fan_outs::unfinished(&mut tx, at(70.0)).await.unwrap();
    assert_eq!((unfinished.count, unfinished.next_at), (2, at(12.0)));
    assert!(claim(&mut tx, 11.9).await.is_none());
    assert_eq!(claim(&mut tx, 12.0).await.unwrap().key.workspace, shop.workspace);
    // Publishing once more doesn't go faster.
    fan_outs::start(&mut tx, &key(&shop), at(11.0)).await.unwrap();
    assert!(claim(&mut tx, 11.9).await.is_none());
    // The clock went back by more than any pause lasts.
    assert_eq!(claim(&mut tx, -100.0).await.unwrap().key.workspace, other.workspace, "that began first");
}
