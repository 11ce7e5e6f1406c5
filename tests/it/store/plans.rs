//! How PostgreSQL carries out the statements that take a batch: it looks up the rows that are named, however many others
//! there are, and whatever it believes about the tables. Two benchmarks once found plans that read a whole workspace for
//! each batch; SQLite's plans are looked at in `statements`.
//!
//! The database itself counts the rows that are read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use passloom::domain::actor::Actor;
use passloom::domain::cards::Card;
use passloom::domain::event::EventKind;
use passloom::domain::ids::CardId;
use passloom::store::cards::Issued;
use passloom::store::deliveries::{self, DeliveryResult, Outcome};
use passloom::store::events::{self, NewEvent};
use passloom::store::passes::{self, PassKey};
use passloom::store::targets::{self, Question, TargetKey};
use passloom::store::{Store, Tx, cards, workspaces};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::conformance::shop::{Shop, at, page_token_hash};
use crate::support::{Database, TestDatabase, run};

/// Cards of the workspace, each on a phone of its own.
const CARDS: usize = 5000;
/// How many of them a batch names.
const NAMED: usize = 3;
/// Each named card has a few rows, and some statements read them twice.
const FEW: i64 = 40 * NAMED as i64;

#[test]
fn a_batch_reads_the_rows_that_it_names_while_the_statistics_are_those_of_a_small_table() {
    run(Database::Postgres, async |database| reads_few_rows(&database, false).await);
}

#[test]
fn a_batch_reads_the_rows_that_it_names_when_the_statistics_are_fresh() {
    run(Database::Postgres, async |database| reads_few_rows(&database, true).await);
}

async fn reads_few_rows(database: &TestDatabase, fresh: bool) {
    let store = database.store().await;
    let shop = Shop::open(&store, "shop").await;
    store.close().await;
    // What is known is how the tables were when PostgreSQL looked at them first by itself.
    for table in ["cards", "passes", "targets", "registrations", "events"] {
        database.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
    }
    fill(database, 1..=60).await;
    database.execute("ANALYZE").await;
    fill(database, 61..=CARDS).await;
    if fresh {
        database.execute("ANALYZE").await;
    }

    let mut measured = Measured { database, read: Vec::new() };
    let shop = &shop;
    let ids: Vec<CardId> = (1..=NAMED).map(|n| CardId::parse(&format!("M-{}", n * 1000)).unwrap()).collect();
    let named: Vec<&CardId> = ids.iter().collect();
    let phones: Vec<TargetKey> = (1..=NAMED).map(|n| shop.target(&format!("phone-{}", n * 1000))).collect();
    let issued = measured
        .measure("cards::find_many", async |tx| cards::find_many(tx, &shop.workspace, &named).await.unwrap())
        .await;
    assert_eq!(issued.len(), NAMED);
    measured
        .measure("passes::issuers_of", async |tx| {
            let serials = issued.iter().map(|issued| issued.card.serial.as_str()).collect();
            assert_eq!(passes::issuers_of(tx, &serials).await.unwrap().len(), NAMED);
        })
        .await;
    measured
        .measure("cards::hold_many", async |tx| {
            assert_eq!(cards::hold_many(tx, &shop.workspace, &named).await.unwrap().len(), NAMED);
        })
        .await;
    measured
        .measure("cards::update_many", async |tx| {
            let changed: Vec<&Card> = issued.iter().map(|issued| &issued.card).collect();
            cards::update_many(tx, &shop.workspace, &changed).await.unwrap();
        })
        .await;
    measured
        .measure("cards::insert_many", async |tx| {
            let new: Vec<Card> = (0..NAMED).map(|n| shop.card(&format!("new-{n}"))).collect();
            let new: Vec<_> = new.iter().map(|card| (card, page_token_hash(card))).collect();
            assert!(cards::insert_many(tx, &shop.workspace, &new).await.unwrap());
        })
        .await;
    measured
        .measure("passes::record_fetches", async |tx| {
            let key = |issued: &Issued| {
                let object_id = issued.card.serial.as_str().to_owned();
                PassKey { card: issued.card.id.clone(), issuer: shop.issuer.clone(), object_id }
            };
            let faces: BTreeMap<_, _> = issued.iter().map(|issued| (key(issued), 9)).collect();
            let noted = passes::record_fetches(tx, &shop.workspace, &faces, at(1.0)).await.unwrap();
            assert_eq!(noted.len(), NAMED);
        })
        .await;
    measured
        .measure("passes::insert_many", async |tx| {
            let new: Vec<Card> = (0..NAMED).map(|n| shop.card(&format!("new-{n}"))).collect();
            let new: Vec<_> = new.iter().map(|card| (&card.id, shop.pass(card))).collect();
            let new: Vec<_> = new.iter().map(|(id, pass)| (*id, pass)).collect();
            passes::insert_many(tx, &shop.workspace, &new).await.unwrap();
        })
        .await;
    measured
        .measure("events::record", async |tx| {
            let position = workspaces::next_position(tx, &shop.workspace).await.unwrap();
            let told: Vec<NewEvent<'_>> = named
                .iter()
                .map(|id| NewEvent {
                    id: uuid::Uuid::new_v4(),
                    kind: EventKind::CardUpdated,
                    card: Some(*id),
                    serial: None,
                    data: json!({}),
                })
                .collect();
            events::record(tx, &shop.workspace, &Actor::System, position, at(1.0), &told).await.unwrap();
        })
        .await;
    measured
        .measure("targets::record_polls", async |tx| {
            let asked = phones.iter().map(|key| (key.clone(), Question { position: 1, listed: true })).collect();
            targets::record_polls(tx, &asked, at(1.0)).await.unwrap();
        })
        .await;
    measured
        .measure("targets::of_cards", async |tx| {
            let faces: Vec<_> = named.iter().map(|id| (*id, 1)).collect();
            let found = targets::of_cards(tx, &shop.workspace, &faces).await.unwrap();
            assert_eq!(found.len(), NAMED);
        })
        .await;
    measured
        .measure("targets::mark", async |tx| {
            let marked = deliveries::mark(tx, &shop.workspace, &named, at(1.0), Duration::ZERO).await.unwrap();
            assert_eq!(marked, NAMED as u64);
        })
        .await;
    measured
        .measure("targets::claim, news and record_outcomes", async |tx| {
            let claimed = deliveries::claim(tx, &shop.issuer, "lease", at(2.0), at(62.0), 100).await.unwrap();
            assert_eq!(claimed.len(), NAMED);
            deliveries::news(tx, &claimed).await.unwrap();
            let day = Duration::from_secs(86_400);
            let settled: Vec<DeliveryResult> = claimed
                .into_iter()
                .map(|claimed| DeliveryResult {
                    claimed,
                    lease: "lease".to_owned(),
                    // Later than every question, so that the devices will be reminded.
                    position: 1_000_000,
                    outcome: Outcome::Delivered { window: Duration::ZERO, remind_after: [day, day, day] },
                    acknowledged: false,
                    at: at(2.0),
                })
                .collect();
            assert_eq!(deliveries::record_outcomes(tx, &settled).await.unwrap().len(), NAMED);
        })
        .await;
    measured
        .measure("targets::remind", async |tx| {
            let reminded = deliveries::remind(tx, at(100_000.0), 100).await.unwrap();
            assert_eq!(reminded, (NAMED as u64, NAMED as u64));
        })
        .await;

    let too_many: Vec<_> = measured.read.iter().filter(|(_, rows)| *rows > FEW).collect();
    assert!(too_many.is_empty(), "of {CARDS} cards {NAMED} are named, and so many rows read: {too_many:?}");
    assert!(measured.read.iter().all(|(_, rows)| *rows >= NAMED as i64), "nothing was counted: {:?}", measured.read);
}

/// Cards, each fetched by a phone of its own.
async fn fill(database: &TestDatabase, numbers: RangeInclusive<usize>) {
    let many = format!("FROM generate_series({}, {}) AS n", numbers.start(), numbers.end());
    for insert in [
        "INSERT INTO cards (workspace_id, id, serial_number, template_id, attributes, state, revision,
            position, modified, page_generation, page_token_hash, created_at, updated_at)
        SELECT 'shop', 'M-' || n, 'serial-M-' || n, 'points', '{}', 'active', 1, 2, 2, 1,
            convert_to('token ' || n, 'UTF8'), n, n",
        "INSERT INTO passes (workspace_id, card_id, wallet, issuer_id, object_id, acknowledged, acknowledged_at)
        SELECT 'shop', 'M-' || n, 'apple', 'pass.test.shop', 'serial-M-' || n, 2, n",
        "INSERT INTO targets (workspace_id, issuer_id, id, address, kind, registered_at, marks, attempts,
            notified_position, polled_position, reminders)
        SELECT 'shop', 'pass.test.shop', 'phone-' || n, 'aa', 'apns', n, 0, 0, 0, 0, 0",
        "INSERT INTO registrations (workspace_id, issuer_id, target_id, card_id, position, created_at)
        SELECT 'shop', 'pass.test.shop', 'phone-' || n, 'M-' || n, 0, n",
        "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data)
        SELECT 'shop', 2, n, 'event ' || n, 'card.created', 'M-' || n, n, '{}'",
    ] {
        database.execute(&format!("{insert} {many}")).await;
    }
}

struct Measured<'d> {
    database: &'d TestDatabase,
    /// What was done, and how many rows and entries of indexes were read for it.
    read: Vec<(&'static str, i64)>,
}

impl Measured<'_> {
    async fn measure<T>(&mut self, what: &'static str, work: impl AsyncFnOnce(&mut Tx) -> T) -> T {
        let before = self.rows_read().await;
        let store = Store::connect(self.database.url()).await.unwrap();
        let mut tx = store.begin_batch().await.unwrap();
        let done = work(&mut tx).await;
        tx.commit().await.unwrap();
        store.close().await;
        let rows = self.rows_read().await - before;
        self.read.push((what, rows));
        done
    }

    /// A connection's counts are in the database's once it is gone.
    async fn rows_read(&self) -> i64 {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        let others =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap() > 0 {}
        let read = "SELECT CAST((SELECT SUM(seq_tup_read) FROM pg_stat_user_tables)
            + (SELECT SUM(GREATEST(idx_tup_read, idx_tup_fetch)) FROM pg_stat_user_indexes) AS BIGINT)";
        sqlx::query_scalar(read).fetch_one(&mut connection).await.unwrap()
    }
}
