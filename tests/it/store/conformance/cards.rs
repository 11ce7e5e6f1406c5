use std::collections::BTreeMap;

use passloom::domain::cards::{Card, State};
use passloom::domain::ids::{CardId, FieldKey, IssuerId, SerialNumber};
use passloom::domain::values::locale::Language;
use passloom::store::passes::{self, PassKey};
use passloom::store::{StoreError, Tx, cards};
use serde_json::json;

use super::shop::{Shop, at, insert, page_token_hash, update};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_card_is_issued_once,
    a_changed_card_is_read_back_as_it_was_written,
    a_face_joins_the_card_with_its_templates_newest_publication,
    a_card_is_found_by_its_serial_number_and_its_page,
    another_workspace_sees_no_card,
    a_serial_number_is_never_given_twice,
    changes_of_one_card_wait_for_each_other,
    a_card_that_is_gone_can_not_be_updated,
    an_older_face_does_not_replace_a_newer_one_that_was_fetched,
    the_newest_change_of_a_templates_cards_is_known,
];

async fn a_card_is_issued_once(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let mut again = shop.card("M-1");
    again.serial = SerialNumber::parse("another").unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(!insert(&mut tx, &again).await.unwrap());
    let found = cards::lock(&mut tx, &shop.workspace, &card.id).await.unwrap().unwrap();
    assert_eq!(found.card.serial, card.serial);
}

async fn a_changed_card_is_read_back_as_it_was_written(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let mut card = shop.issue(&store, "M-1").await;
    card.content.locale = Some(Language::parse("pt-BR").unwrap());
    card.content.attributes.insert("name".to_owned(), json!("Zoë \u{1F370}"));
    card.content.attributes.insert("balance".to_owned(), json!(9_007_199_254_740_993_i64));
    card.content.state = State::Expired;
    card.content.expires_at = Some(at(100.000_001));
    card.expired_at = Some(at(50.0));
    card.sequence = Some(i64::MAX);
    card.revision = 2;
    card.position = 77;
    card.modified += 1;
    card.live_message = Some(FieldKey::parse("balance").unwrap());
    card.updated_at = at(1.0);
    let mut tx = store.begin().await.unwrap();
    update(&mut tx, &card).await.unwrap();
    tx.commit().await.unwrap();

    let found = cards::find(&mut store.read().await.unwrap(), &shop.workspace, &card.id).await.unwrap().unwrap().card;
    assert_same(found, &card);

    card.sequence = None;
    let mut tx = store.begin().await.unwrap();
    update(&mut tx, &card).await.unwrap();
    tx.commit().await.unwrap();
    let found = cards::find(&mut store.read().await.unwrap(), &shop.workspace, &card.id).await.unwrap().unwrap().card;
    assert_same(found, &card);
}

/// JSONB forgets the order of an object's members, so attributes are compared as values.
fn assert_same(mut found: Card, expected: &Card) {
    assert_eq!(found.content, expected.content);
    found.content = expected.content.clone();
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

async fn a_face_joins_the_card_with_its_templates_newest_publication(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let mut reader = store.read().await.unwrap();
    let issued = cards::find(&mut reader, &shop.workspace, &card.id).await.unwrap().unwrap();
    assert_eq!(issued.face(), card.position);
    drop(reader);
    let position = shop.publish(&store, 2).await;
    let mut reader = store.read().await.unwrap();
    let issued = cards::find(&mut reader, &shop.workspace, &card.id).await.unwrap().unwrap();
    assert_eq!(issued.face(), position);
    assert_eq!(issued.publication.version, 2);
    assert_eq!(issued.modified(), at(0.0).seconds() + 2);
}

async fn a_card_is_found_by_its_serial_number_and_its_page(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    shop.issue(&store, "M-2").await;
    let mut tx = store.begin().await.unwrap();
    let found = cards::by_serial(&mut tx, &shop.issuer, &card.serial).await.unwrap().unwrap();
    assert_eq!(found.card.id, card.id);
    let found = cards::lock_by_serial(&mut tx, &shop.issuer, &card.serial).await.unwrap().unwrap();
    assert_eq!(found.card.id, card.id);
    let found = cards::by_page(&mut tx, &page_token_hash(&card)).await.unwrap().unwrap();
    assert_eq!(found.card.id, card.id);
    assert!(cards::by_page(&mut tx, b"guessed").await.unwrap().is_none());
    let unknown = SerialNumber::parse("unknown").unwrap();
    assert!(cards::by_serial(&mut tx, &shop.issuer, &unknown).await.unwrap().is_none());
}

async fn another_workspace_sees_no_card(database: TestDatabase) {
    let store = database.store().await;
    let bakery = Shop::open(&store, "bakery").await;
    let spa = Shop::open(&store, "spa").await;
    let card = bakery.issue(&store, "M-1").await;
    let mut tx = store.begin().await.unwrap();
    assert!(cards::find(&mut tx, &spa.workspace, &card.id).await.unwrap().is_none());
    assert!(cards::lock(&mut tx, &spa.workspace, &card.id).await.unwrap().is_none());
    assert!(cards::by_serial(&mut tx, &spa.issuer, &card.serial).await.unwrap().is_none());
    drop(tx);
    // The backends of two workspaces may use the same numbers.
    let twin = spa.issue(&store, "M-1").await;
    let mut reader = store.read().await.unwrap();
    let found = cards::find(&mut reader, &bakery.workspace, &twin.id).await.unwrap().unwrap();
    assert_eq!(found.passes[0].issuer, bakery.issuer);
}

async fn a_serial_number_is_never_given_twice(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let mut twin = shop.card("M-2");
    twin.serial = card.serial;
    let mut tx = store.begin().await.unwrap();
    assert!(insert(&mut tx, &twin).await.unwrap());
    let refused = passes::insert_many(&mut tx, &shop.workspace, &[(&twin.id, &shop.pass(&twin))]).await;
    assert!(matches!(refused, Err(StoreError::Duplicate(_))), "{refused:?}");
    drop(tx);
    assert!(cards::find(&mut store.read().await.unwrap(), &shop.workspace, &twin.id).await.unwrap().is_none());
}

async fn changes_of_one_card_wait_for_each_other(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let id = shop.issue(&store, "M-1").await.id;
    let changes: Vec<_> = (0..32)
        .map(|_| {
            let (store, shop, id) = (store.clone(), shop.clone(), id.clone());
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let mut card = cards::lock(&mut tx, &shop.workspace, &id).await.unwrap().unwrap().card;
                card.revision += 1;
                tokio::task::yield_now().await;
                update(&mut tx, &card).await.unwrap();
                tx.commit().await.unwrap();
            })
        })
        .collect();
    for change in changes {
        change.await.unwrap();
    }
    let found = cards::find(&mut store.read().await.unwrap(), &shop.workspace, &id).await.unwrap().unwrap();
    assert_eq!(found.card.revision, 33);
}

async fn a_card_that_is_gone_can_not_be_updated(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.card("never-issued");
    let mut tx = store.begin().await.unwrap();
    assert!(matches!(update(&mut tx, &card).await, Err(StoreError::RowGone("cards"))));
}

async fn an_older_face_does_not_replace_a_newer_one_that_was_fetched(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let card = shop.issue(&store, "M-1").await;
    let mut tx = store.begin().await.unwrap();
    let fetched = async |tx: &mut Tx| {
        let issued = cards::find(tx, &card.workspace, &card.id).await.unwrap().unwrap();
        issued.fetched().map(|fetch| (fetch.face, fetch.at))
    };
    assert_eq!(fetched(&mut tx).await, None);
    for (second, face, newest) in [(1.0, 5, (5, at(1.0))), (2.0, 4, (5, at(1.0))), (3.0, 6, (6, at(3.0)))] {
        let of =
            PassKey { card: card.id.clone(), issuer: shop.issuer.clone(), object_id: card.serial.as_str().to_owned() };
        let faces = BTreeMap::from([
            (PassKey { card: CardId::parse("gone").unwrap(), ..of.clone() }, face),
            (PassKey { object_id: "of-an-erased-card".to_owned(), ..of.clone() }, 99),
            (PassKey { issuer: IssuerId::parse("another").unwrap(), ..of.clone() }, 99),
            (of, face),
        ]);
        let new = passes::record_fetches(&mut tx, &shop.workspace, &faces, at(second)).await.unwrap();
        assert_eq!(new.len(), usize::from(newest.1 == at(second)), "{face}: {new:?}");
        assert_eq!(fetched(&mut tx).await, Some(newest));
    }
}

async fn the_newest_change_of_a_templates_cards_is_known(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let newest = async || {
        let mut reader = store.read().await.unwrap();
        cards::newest_of_template(&mut reader, &shop.workspace, &shop.template).await.unwrap()
    };
    assert_eq!(newest().await, None);
    shop.issue(&store, "M-1").await;
    let mut card = shop.issue(&store, "M-2").await;
    card.modified += 10;
    let mut tx = store.begin().await.unwrap();
    update(&mut tx, &card).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(newest().await, Some(card.modified));
}
