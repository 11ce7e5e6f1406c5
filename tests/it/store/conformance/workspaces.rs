use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use passloom::domain::ids::WorkspaceId;
use passloom::domain::wallet::WalletKind;
use passloom::store::{Store, StoreError, health, issuers, workspaces};
use sqlx::{PgPool, SqlitePool};

use super::shop::{Shop, at, insert, update};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_secret_is_never_replaced,
    a_workspace_that_is_not_there_has_neither_secret_nor_position,
    an_issuer_belongs_to_one_workspace,
    a_position_is_given_back_when_its_transaction_fails,
    positions_become_visible_in_the_order_in_which_they_were_taken,
];

async fn a_secret_is_never_replaced(database: TestDatabase) {
    let store = database.store().await;
    let id = WorkspaceId::parse("bakery").unwrap();
    let mut tx = store.begin().await.unwrap();
    workspaces::insert(&mut tx, &id, "Bakery", b"first", at(0.0)).await.unwrap();
    workspaces::insert(&mut tx, &id, "Bakery", b"second", at(1.0)).await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.read().await.unwrap();
    assert_eq!(workspaces::secret(&mut reader, &id).await.unwrap().as_deref(), Some(b"first".as_slice()));
    health::ping(&mut reader).await.unwrap();
}

async fn a_workspace_that_is_not_there_has_neither_secret_nor_position(database: TestDatabase) {
    let store = database.store().await;
    let id = WorkspaceId::parse("nobody").unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(workspaces::secret(&mut tx, &id).await.unwrap(), None);
    assert!(matches!(workspaces::position(&mut tx, &id).await, Err(StoreError::RowGone("workspaces"))));
    assert!(matches!(workspaces::next_position(&mut tx, &id).await, Err(StoreError::RowGone("workspaces"))));
}

async fn an_issuer_belongs_to_one_workspace(database: TestDatabase) {
    let store = database.store().await;
    let bakery = Shop::open(&store, "bakery").await;
    let spa = Shop::open(&store, "spa").await;
    let mut tx = store.begin().await.unwrap();
    let taken = issuers::claim(&mut tx, &bakery.issuer, &spa.workspace, (WalletKind::Apple, "TEAM"), at(1.0)).await;
    assert!(matches!(taken, Err(StoreError::RowGone("issuers"))), "{taken:?}");
    // Its own may be claimed at every start.
    issuers::claim(&mut tx, &bakery.issuer, &bakery.workspace, (WalletKind::Apple, "TEAM"), at(1.0)).await.unwrap();
    let owner = issuers::owner(&mut tx, &bakery.issuer).await.unwrap();
    assert_eq!(owner, Some(bakery.workspace));
}

async fn a_position_is_given_back_when_its_transaction_fails(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let mut tx = store.begin().await.unwrap();
    let lost = workspaces::next_position(&mut tx, &shop.workspace).await.unwrap();
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(workspaces::next_position(&mut tx, &shop.workspace).await.unwrap(), lost);
    assert_eq!(workspaces::next_position(&mut tx, &shop.workspace).await.unwrap(), lost + 1);
    tx.commit().await.unwrap();
    assert_eq!(workspaces::position(&mut store.read().await.unwrap(), &shop.workspace).await.unwrap(), lost + 1);
}

const WRITERS: i64 = 64;

/// Phones ask "what changed since position p" and are never told again of what was at p or before. So whoever sees
/// p must see everything up to p, even though 64 transactions overlap.
async fn positions_become_visible_in_the_order_in_which_they_were_taken(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let before = workspaces::position(&mut store.read().await.unwrap(), &shop.workspace).await.unwrap();
    let finished = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..2)
        .map(|_| {
            let (store, shop, url) = (store.clone(), shop.clone(), database.url().to_owned());
            let (kind, finished) = (database.kind(), finished.clone());
            tokio::spawn(
                async move { watch(&store, &shop, &Watcher::connect(kind, &url).await, before, &finished).await },
            )
        })
        .collect();

    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (store, shop) = (store.clone(), shop.clone());
            tokio::spawn(async move { write(&store, &shop, number).await })
        })
        .collect();
    let mut taken = BTreeSet::new();
    for writer in writers {
        assert!(taken.insert(writer.await.unwrap()), "a position was given twice");
    }
    finished.store(true, Ordering::SeqCst);
    assert_eq!(taken, (before + 1..=before + WRITERS).collect());
    let mut glimpses = 0;
    for watcher in watchers {
        glimpses += watcher.await.unwrap();
    }
    assert!(glimpses > 0, "nobody looked while the writers were at work");
}

async fn write(store: &Store, shop: &Shop, number: i64) -> i64 {
    let mut card = shop.card(&format!("card-{number}"));
    let mut tx = store.begin().await.unwrap();
    assert!(insert(&mut tx, &card).await.unwrap());
    card.position = workspaces::next_position(&mut tx, &shop.workspace).await.unwrap();
    update(&mut tx, &card).await.unwrap();
    // Some hold their position for longer before they commit.
    for _ in 0..number % 7 {
        health::ping(&mut tx).await.unwrap();
        tokio::task::yield_now().await;
    }
    tx.commit().await.unwrap();
    card.position
}

/// Looks until the writers are done; answers how often it looked at an unfinished state.
async fn watch(store: &Store, shop: &Shop, watcher: &Watcher, before: i64, finished: &AtomicBool) -> usize {
    let mut glimpses = 0;
    let mut last = before;
    loop {
        let done = finished.load(Ordering::SeqCst);
        let seen = workspaces::position(&mut store.read().await.unwrap(), &shop.workspace).await.unwrap();
        assert!(seen >= last, "the position went back from {last} to {seen}");
        last = seen;
        // A later statement, so it sees at least as much.
        let positions = watcher.positions().await;
        let newest = positions.last().copied().unwrap_or(before);
        assert!(newest >= seen, "position {seen} was seen before the card that it belongs to, {newest} was the newest");
        let all: Vec<i64> = (before + 1..=newest).collect();
        assert_eq!(positions, all, "a card with a smaller position was missing");
        if done {
            return glimpses;
        }
        glimpses += usize::from(newest < before + WRITERS);
        tokio::task::yield_now().await;
    }
}

/// Sees cards as they lie in the table; the store has no such question.
enum Watcher {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Watcher {
    async fn connect(kind: Database, url: &str) -> Self {
        match kind {
            Database::Sqlite => Self::Sqlite(SqlitePool::connect(url).await.unwrap()),
            Database::Postgres => Self::Postgres(PgPool::connect(url).await.unwrap()),
        }
    }

    async fn positions(&self) -> Vec<i64> {
        let query = "SELECT position FROM cards ORDER BY position";
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        }
    }
}
