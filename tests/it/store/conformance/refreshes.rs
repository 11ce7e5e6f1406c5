use passloom::store::Tx;
use passloom::store::refreshes::{self, Refresh};

use super::shop::{Shop, at};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_refresh_walks_the_cards_that_some_device_holds,
    publishing_again_begins_the_walk_anew,
    the_oldest_refresh_comes_first_and_two_nodes_never_walk_the_same,
    a_refresh_waits_for_its_moment_on_every_node,
];

async fn claim(tx: &mut Tx, now: f64) -> Option<Refresh> {
    refreshes::claim(tx, at(now), at(now + 60.0)).await.unwrap()
}

async fn a_refresh_walks_the_cards_that_some_device_holds(database: TestDatabase) {
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
    refreshes::start(&mut tx, &shop.workspace, &shop.template, at(0.0)).await.unwrap();
    tx.commit().await.unwrap();

    let mut walked = Vec::new();
    loop {
        let mut tx = store.begin().await.unwrap();
        let refresh = claim(&mut tx, 9.0).await.unwrap();
        assert_eq!((&refresh.workspace_id, &refresh.template_id), (&shop.workspace, &shop.template));
        let cards = refreshes::next_cards(&mut tx, &refresh, 3).await.unwrap();
        let Some(last) = cards.last() else {
            refreshes::finish(&mut tx, &refresh).await.unwrap();
            tx.commit().await.unwrap();
            break;
        };
        refreshes::advance(&mut tx, &refresh, last, at(0.0)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(refreshes::unfinished(&mut store.read().await.unwrap(), at(1000.0)).await.unwrap().count, 1);
        walked.extend(cards);
    }
    walked.sort();
    held.sort();
    assert_eq!(walked, held);
    assert_eq!(refreshes::unfinished(&mut store.read().await.unwrap(), at(1000.0)).await.unwrap().count, 0);
}

async fn publishing_again_begins_the_walk_anew(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "a").await;
    shop.phone(&store, "phone", &[&card]).await;
    let mut tx = store.begin().await.unwrap();
    refreshes::start(&mut tx, &shop.workspace, &shop.template, at(0.0)).await.unwrap();
    let refresh = claim(&mut tx, 9.0).await.unwrap();
    refreshes::advance(&mut tx, &refresh, &card.id, at(0.0)).await.unwrap();
    let refresh = claim(&mut tx, 9.0).await.unwrap();
    assert!(refreshes::next_cards(&mut tx, &refresh, 9).await.unwrap().is_empty());
    refreshes::start(&mut tx, &shop.workspace, &shop.template, at(1.0)).await.unwrap();
    let refresh = claim(&mut tx, 9.0).await.unwrap();
    assert_eq!(refreshes::next_cards(&mut tx, &refresh, 9).await.unwrap(), [card.id]);
}

async fn the_oldest_refresh_comes_first_and_two_nodes_never_walk_the_same(database: TestDatabase) {
    let store = database.store().await;
    let late = Shop::open(&store, "late").await;
    let early = Shop::open(&store, "early").await;
    let mut tx = store.begin().await.unwrap();
    refreshes::start(&mut tx, &late.workspace, &late.template, at(2.0)).await.unwrap();
    refreshes::start(&mut tx, &early.workspace, &early.template, at(1.0)).await.unwrap();
    tx.commit().await.unwrap();
    let mut first = store.begin().await.unwrap();
    assert_eq!(claim(&mut first, 9.0).await.unwrap().workspace_id, early.workspace);
    // SQLite has one writer, so a second node waits for the first one's transaction to end.
    if database.kind() == Database::Postgres {
        let mut second = store.begin().await.unwrap();
        assert_eq!(claim(&mut second, 9.0).await.unwrap().workspace_id, late.workspace);
        let mut third = store.begin().await.unwrap();
        assert!(claim(&mut third, 9.0).await.is_none());
    }
}

async fn a_refresh_waits_for_its_moment_on_every_node(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let other = Shop::open(&store, "spa").await;
    let card = shop.issue(&store, "a").await;
    let mut tx = store.begin().await.unwrap();
    refreshes::start(&mut tx, &shop.workspace, &shop.template, at(1.0)).await.unwrap();
    refreshes::start(&mut tx, &other.workspace, &other.template, at(2.0)).await.unwrap();
    let first = claim(&mut tx, 10.0).await.unwrap();
    assert_eq!(first.workspace_id, shop.workspace);
    refreshes::advance(&mut tx, &first, &card.id, at(12.0)).await.unwrap();
    let second = claim(&mut tx, 10.0).await.unwrap();
    assert_eq!(second.workspace_id, other.workspace, "they take turns");
    refreshes::advance(&mut tx, &second, &card.id, at(13.0)).await.unwrap();
    let unfinished = refreshes::unfinished(&mut tx, at(70.0)).await.unwrap();
    assert_eq!((unfinished.count, unfinished.next_at), (2, at(12.0)));
    assert!(claim(&mut tx, 11.9).await.is_none());
    assert_eq!(claim(&mut tx, 12.0).await.unwrap().workspace_id, shop.workspace);
    // Publishing once more doesn't go faster.
    refreshes::start(&mut tx, &shop.workspace, &shop.template, at(11.0)).await.unwrap();
    assert!(claim(&mut tx, 11.9).await.is_none());
    // The clock went back by more than any pause lasts.
    assert_eq!(claim(&mut tx, -100.0).await.unwrap().workspace_id, other.workspace, "that began first");
}
