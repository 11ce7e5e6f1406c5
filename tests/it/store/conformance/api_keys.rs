use passloom::store::StoreError;
use passloom::store::api_keys::{self, NewApiKey};

use super::shop::{Shop, at};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![a_key_is_found_until_it_is_revoked, two_keys_never_share_a_secret];

async fn a_key_is_found_until_it_is_revoked(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let mut tx = store.begin().await.unwrap();
    for (id, name, hash) in [("1", "till", b"hash-1"), ("2", "app", b"hash-2")] {
        let key = NewApiKey { id, workspace: &shop.workspace, name, hash, scopes: "cards:write", created_at: at(0.0) };
        api_keys::insert(&mut tx, &key).await.unwrap();
    }
    let revoked = api_keys::revoke_named(&mut tx, &shop.workspace, "till", at(1.0)).await.unwrap();
    assert_eq!(revoked, ["1"]);
    assert!(!api_keys::revoke(&mut tx, &shop.workspace, "1", at(2.0)).await.unwrap(), "it was revoked before");
    assert!(api_keys::exists(&mut tx, &shop.workspace, "1").await.unwrap());
    assert!(!api_keys::exists(&mut tx, &shop.workspace, "3").await.unwrap());
    tx.commit().await.unwrap();

    let mut reader = store.read().await.unwrap();
    assert_eq!(api_keys::find(&mut reader, b"hash-1").await.unwrap(), None);
    let found = api_keys::find(&mut reader, b"hash-2").await.unwrap();
    assert_eq!(found, Some(("2".to_owned(), shop.workspace.clone(), "cards:write".to_owned())));
    assert_eq!(api_keys::find(&mut reader, b"hash-3").await.unwrap(), None);
}

async fn two_keys_never_share_a_secret(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let mut tx = store.begin().await.unwrap();
    let key =
        |id| NewApiKey { id, workspace: &shop.workspace, name: "till", hash: b"hash", scopes: "", created_at: at(0.0) };
    api_keys::insert(&mut tx, &key("1")).await.unwrap();
    let refused = api_keys::insert(&mut tx, &key("2")).await;
    assert!(matches!(refused, Err(StoreError::Duplicate(_))), "{refused:?}");
}
