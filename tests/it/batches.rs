//! A batch is judged before its cards are held: what happens to them in between counts all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use passloom::actions::cards::command::{CardCommand, IfMatch};
use passloom::actions::cards::plan_changes::WriteOutcome;
use passloom::actions::cards::put_cards::{Batch, precompute, put_cards};
use passloom::actions::error::ActionError;
use passloom::domain::actor::Actor;
use passloom::domain::ids::{CardId, WorkspaceId};
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, ManualClock};
use passloom::platform::random::{Random, SystemRandom};
use passloom::startup::Outside;
use passloom::store::{cards, workspaces};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::service::{Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_batch_whose_cards_stay_as_they_were_is_stored_as_it_was_foreseen,
    a_patch_is_laid_over_what_was_stored_meanwhile,
    a_later_sequence_that_was_stored_meanwhile_makes_an_order_stale,
    a_card_that_was_issued_meanwhile_is_replaced,
    a_card_that_was_erased_meanwhile_is_not_brought_back,
    a_card_that_was_erased_and_issued_anew_meanwhile_is_another_card,
    a_card_that_changed_its_template_meanwhile_is_drawn_by_the_new_one,
    a_version_that_was_published_meanwhile_decides_what_fits,
    a_refusal_that_was_foreseen_long_ago_is_not_believed,
    what_a_phone_fetched_meanwhile_needs_no_notice_any_more,
    nothing_is_rendered_while_a_transaction_is_open,
    a_card_that_keeps_changing_fails_alone,
    requests_for_one_card_wait_for_each_other,
    a_template_that_was_deleted_meanwhile_fails_its_own_lines_only,
];

fn default() -> WorkspaceId {
    WorkspaceId::parse("default").unwrap()
}

/// Two orders, so that it is a batch: the first for M-1, the second for a card that nobody else touches.
async fn foreseen(service: &Service, first: CardCommand) -> Batch {
    let other = CardCommand::put(CardId::parse("other").unwrap(), anna(1), IfMatch::Anything).unwrap();
    precompute(&service.app, &default(), vec![first, other]).await
}

fn patch(body: Value) -> CardCommand {
    CardCommand::patch(CardId::parse("M-1").unwrap(), body, IfMatch::Anything).unwrap()
}

fn put(body: Value) -> CardCommand {
    CardCommand::put(CardId::parse("M-1").unwrap(), body, IfMatch::Anything).unwrap()
}

/// What came of the order for M-1.
async fn stored(service: &Service, batch: Batch) -> Result<(WriteOutcome, i64), ActionError> {
    let mut each = put_cards(&service.app, &default(), &Actor::System, batch).await.unwrap().each.into_iter();
    let first = each.next().unwrap();
    assert!(matches!(each.next(), Some(Ok((WriteOutcome::Created, 1)))), "the other one is stored");
    first
}

async fn a_batch_whose_cards_stay_as_they_were_is_stored_as_it_was_foreseen(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"points": 2}}))).await;
    assert_eq!(
        service.api(Method::GET, "/api/v1/cards/other", &Value::Null).await.status,
        404,
        "nothing is stored yet"
    );
    assert_eq!(service.card("M-1").await["revision"], 1);
    assert!(matches!(stored(&service, batch).await, Ok((WriteOutcome::Updated, 2))));
    let card = service.card("M-1").await;
    assert_eq!((card["attributes"]["points"].as_i64(), card["revision"].as_i64()), (Some(2), Some(2)));
    service.stop().await;
}

async fn a_patch_is_laid_over_what_was_stored_meanwhile(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"points": 2}}))).await;
    service.patch_card("M-1", &json!({"attributes": {"name": "Berta"}, "state": "voided"})).await;
    assert!(matches!(stored(&service, batch).await, Ok((WriteOutcome::Updated, 3))));
    let card = service.card("M-1").await;
    assert_eq!((card["attributes"]["points"].as_i64(), card["attributes"]["name"].as_str()), (Some(2), Some("Berta")));
    assert_eq!(card["state"], "voided");

    // A default said aloud makes no revision, and is kept all the same.
    let batch = foreseen_again(&service, patch(json!({"attributes": {"points": 3}}))).await;
    let aloud = service.patch_card("M-1", &json!({"attributes": {"tier": "basic"}, "locale": "en"})).await;
    assert_eq!(aloud["revision"], 3);
    put_cards(&service.app, &default(), &Actor::System, batch).await.unwrap();
    let mut design = bakery();
    design["attributes"][2]["default"] = json!("gold");
    design["languages"] = json!(["lv", "en", "ru"]);
    service.publish("bakery", &design).await;
    let card = service.card("M-1").await;
    assert_eq!((card["attributes"]["tier"].as_str(), card["locale"].as_str()), (Some("basic"), Some("en")));
    assert_eq!(card["attributes"]["points"], 3);
    service.stop().await;
}

/// Like [`foreseen`], when the other card was stored before.
async fn foreseen_again(service: &Service, first: CardCommand) -> Batch {
    let other = CardCommand::patch(CardId::parse("other").unwrap(), json!({}), IfMatch::Anything).unwrap();
    precompute(&service.app, &default(), vec![first, other]).await
}

async fn a_later_sequence_that_was_stored_meanwhile_makes_an_order_stale(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"sequence": 7, "attributes": {"points": 7}}))).await;
    // It changes nothing but the sequence, so that the revision stays.
    service.patch_card("M-1", &json!({"sequence": 8})).await;
    assert!(matches!(stored(&service, batch).await, Err(ActionError::Stale { stored: 8 })));
    assert_eq!(service.card("M-1").await["attributes"]["points"], 1);
    service.stop().await;
}

async fn a_card_that_was_issued_meanwhile_is_replaced(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let batch = foreseen(&service, put(anna(2))).await;
    let issued = service.put_card("M-1", &anna(1)).await;
    assert!(matches!(stored(&service, batch).await, Ok((WriteOutcome::Updated, 2))));
    let card = service.card("M-1").await;
    assert_eq!((&card["serial_number"], &card["attributes"]["points"]), (&issued["serial_number"], &json!(2)));
    service.stop().await;
}

async fn a_card_that_was_erased_meanwhile_is_not_brought_back(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"points": 2}}))).await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    assert!(matches!(stored(&service, batch).await, Err(ActionError::NotFound("card"))));
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-1", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn a_card_that_was_erased_and_issued_anew_meanwhile_is_another_card(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"note": "hello"}}))).await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    let anew = service.put_card("M-1", &anna(1)).await;
    assert!(matches!(stored(&service, batch).await, Ok((WriteOutcome::Updated, 2))));
    let card = service.card("M-1").await;
    assert_eq!((&card["serial_number"], &card["attributes"]["note"]), (&anew["serial_number"], &json!("hello")));
    assert_eq!(card["attributes"]["points"], 1);
    service.stop().await;
}

async fn a_card_that_changed_its_template_meanwhile_is_drawn_by_the_new_one(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let mut club = bakery();
    club["attributes"][2]["choices"] = json!(["basic", "gold"]);
    service.publish("club", &club).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"tier": "silver"}}))).await;
    service.patch_card("M-1", &json!({"template": "club"})).await;
    let refused = stored(&service, batch).await;
    let Err(ActionError::Invalid(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems.into_vec()[0].pointer, "/attributes/tier");
    assert_eq!(service.card("M-1").await["attributes"]["tier"], "basic");
    service.stop().await;
}

async fn a_version_that_was_published_meanwhile_decides_what_fits(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"name": "Maximiliana"}}))).await;
    let mut short = bakery();
    short["attributes"][3]["max_length"] = json!(8);
    service.publish("bakery", &short).await;
    let refused = stored(&service, batch).await;
    let Err(ActionError::Invalid(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems.into_vec()[0].pointer, "/attributes/name");
    assert_eq!(service.card("M-1").await["attributes"]["name"], "Anna");
    service.stop().await;
}

async fn a_refusal_that_was_foreseen_long_ago_is_not_believed(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let batch = foreseen(&service, put(json!({"template": "club"}))).await;
    service.publish("club", &bakery()).await;
    // The sender read no answers for a while.
    service.clock.advance(Duration::from_secs(6));
    assert!(matches!(stored(&service, batch).await, Ok((WriteOutcome::Updated, 2))));
    assert_eq!(service.card("M-1").await["template"], "club");
    service.stop().await;
}

async fn what_a_phone_fetched_meanwhile_needs_no_notice_any_more(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let (mut phone, _) = service.phone_with(&service.card("M-1").await).await;
    service.patch_card("M-1", &json!({"attributes": {"tier": "silver"}})).await;
    // Planned while the phone has yet to fetch the tier, whose message comes before that of the points.
    let batch = foreseen(&service, patch(json!({"attributes": {"points": 5}}))).await;
    assert_eq!(service.wake(&mut phone).await[0].notice.as_deref(), Some("Your status is now silver"));
    stored(&service, batch).await.unwrap();
    assert_eq!(service.wake(&mut phone).await[0].notice.as_deref(), Some("You now have 5 points"));
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

/// Randomness that can be held back: a new card's serial number is made when its order is judged.
#[derive(Debug, Default)]
struct HeldBack {
    /// Whether it is held back, and how many ask for it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl HeldBack {
    fn hold(&self, held: bool) {
        self.state.lock().unwrap().0 = held;
        self.changed.notify_all();
    }

    /// Until somebody asks.
    fn wait(&self) {
        let patience = Duration::from_secs(60);
        let state = self.state.lock().unwrap();
        let (_state, waited) = self.changed.wait_timeout_while(state, patience, |(_, asking)| *asking == 0).unwrap();
        assert!(!waited.timed_out(), "nothing is judged anew");
    }
}

impl Random for HeldBack {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), openssl::error::ErrorStack> {
        let mut state = self.state.lock().unwrap();
        state.1 += usize::from(state.0);
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(held, _)| *held).unwrap());
        SystemRandom.fill(buffer)
    }
}

async fn nothing_is_rendered_while_a_transaction_is_open(database: TestDatabase) {
    let random = Arc::new(HeldBack::default());
    let outside = |clock: Arc<ManualClock>| Outside { clock, random: random.clone(), wallets: Vec::new() };
    let service = Service::start_outside(&database, outside).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let batch = foreseen(&service, put(anna(2))).await;
    // So the order for M-1 is judged anew, and makes a new card.
    service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await;

    random.hold(true);
    let app = service.app.clone().into_inner();
    let storing = tokio::spawn(async move { put_cards(&app, &default(), &Actor::System, batch).await });
    let asked = random.clone();
    tokio::task::spawn_blocking(move || asked.wait()).await.unwrap();
    let other = async {
        let mut tx = service.app.store.begin().await.unwrap();
        cards::hold_many(&mut tx, &default(), &[&CardId::parse("M-1").unwrap()]).await.unwrap();
        workspaces::next_position(&mut tx, &default()).await.unwrap();
        tx.commit().await.unwrap();
    };
    let other = tokio::time::timeout(Duration::from_secs(10), other).await;
    random.hold(false);
    assert!(other.is_ok(), "others wait for the database while an order is judged");
    let fulfilled = storing.await.unwrap().unwrap();
    assert!(fulfilled.each.iter().all(|each| matches!(each, Ok((WriteOutcome::Created, 1)))), "{:?}", fulfilled.each);
    service.stop().await;
}

/// A clock at each look at which a card changes.
#[derive(Debug)]
struct Meddling {
    clock: Arc<ManualClock>,
    database: (Database, String),
    on: Arc<AtomicBool>,
}

impl Clock for Meddling {
    fn now(&self) -> Timestamp {
        if self.on.load(Ordering::Relaxed) {
            let (database, url) = self.database.clone();
            // While a transaction is open, it doesn't get in between.
            let change = async move {
                let change = "UPDATE cards SET revision = revision + 1 WHERE id = 'M-1'";
                match database {
                    Database::Sqlite => {
                        let mut c = SqliteConnection::connect(&url).await.unwrap();
                        let _ = c.execute(AssertSqlSafe(format!("PRAGMA busy_timeout = 0; {change}"))).await;
                    }
                    Database::Postgres => {
                        let mut c = PgConnection::connect(&url).await.unwrap();
                        let _ = c.execute(AssertSqlSafe(format!("SET lock_timeout = 1; {change}"))).await;
                    }
                }
            };
            let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(change);
            std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        }
        self.clock.now()
    }
}

async fn a_card_that_keeps_changing_fails_alone(database: TestDatabase) {
    let (on, place) = (Arc::new(AtomicBool::new(false)), (database.kind(), database.url().to_owned()));
    let outside = |clock| Outside {
        clock: Arc::new(Meddling { clock, database: place, on: on.clone() }),
        random: Arc::new(SystemRandom),
        wallets: Vec::new(),
    };
    let service = Service::start_outside(&database, outside).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let batch = foreseen(&service, patch(json!({"attributes": {"points": 2}}))).await;
    on.store(true, Ordering::Relaxed);
    let first = stored(&service, batch).await;
    on.store(false, Ordering::Relaxed);
    assert!(matches!(first, Err(ActionError::Busy)), "{first:?}");
    assert_eq!(service.card("M-1").await["attributes"]["points"], 1, "it is left as it is");
    service.stop().await;
}

async fn requests_for_one_card_wait_for_each_other(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    let patch = |n: usize| {
        let service = &service;
        async move { service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"attributes": {"points": 100 + n}})).await }
    };
    let answers = futures_util::future::join_all((0..40).map(patch)).await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    let mut revisions: Vec<i64> = answers.iter().map(|answer| answer.json()["revision"].as_i64().unwrap()).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..42).collect::<Vec<_>>(), "each is laid over the one before");
    service.stop().await;
}

async fn a_template_that_was_deleted_meanwhile_fails_its_own_lines_only(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 1).await;
    service.publish("passing", &bakery()).await;
    let document = json!({"template": "passing", "attributes": {"name": "Anna"}});
    let order = CardCommand::put(CardId::parse("M-2").unwrap(), document, IfMatch::Anything).unwrap();
    let batch = foreseen(&service, order).await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/templates/passing", &Value::Null).await.status, 204);
    let first = stored(&service, batch).await;
    let Err(ActionError::Invalid(problems)) = first else { panic!("{first:?}") };
    assert_eq!(problems.into_vec()[0].pointer, "/template");
    service.stop().await;
}
