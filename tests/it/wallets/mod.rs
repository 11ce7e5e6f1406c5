//! What every wallet's driver does, and that the service needs no Apple: a second wallet in memory is issued in, changed
//! and delivered to like Apple's.

pub mod fake;

use std::sync::Arc;
use std::time::Duration;

use passloom::actions::keys::default_workspace;
use passloom::delivery::attempt::push;
use passloom::delivery::claim::claim_due;
use passloom::delivery::record::record;
use passloom::domain::cards::Card;
use passloom::domain::ids::{AuthToken, CardId, IssuerId, TargetAddress, TargetId, WorkspaceId};
use passloom::domain::render::render;
use passloom::domain::templates::Template;
use passloom::domain::time::Timestamp;
use passloom::domain::wallet::WalletKind;
use passloom::platform::clock::ManualClock;
use passloom::platform::random::SystemRandom;
use passloom::startup::{Contents, JobMode, Outside};
use passloom::store::deliveries;
use passloom::store::targets::{self, TargetKey, TargetKind};
use passloom::store::{issuers, workspaces};
use passloom::wallets::apple::driver::AppleWallet;
use passloom::wallets::{CardIdentity, PushOutcome, RatePlan, Wallet};
use reqwest::Method;
use serde_json::{Map, Value, json};

use self::fake::FakeWallet;
use crate::support::service::{Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_workspace_without_apple_issues_changes_and_delivers,
    a_workspace_with_two_wallets_keeps_both_current,
    a_wallet_that_is_down_delays_no_other,
    a_refusal_of_one_wallets_issuer_pauses_no_other,
    a_claim_that_fails_for_one_issuer_drops_nothing_of_the_others,
    an_issuer_is_not_called_faster_than_its_plan_allows,
    no_more_is_claimed_than_a_second_of_the_plan_allows,
    no_more_deliveries_are_under_way_than_the_plan_allows,
    an_erased_card_is_voided_in_a_wallet_that_is_sent_documents,
];

pub const FREE: RatePlan = RatePlan { in_flight: None, per_second: None };

/// A service whose default workspace has Apple's sandbox issuer and a fake one.
pub async fn two_wallets(database: &TestDatabase, jobs: JobMode, plan: RatePlan) -> (Service, Arc<FakeWallet>) {
    let wallet = Arc::new(FakeWallet::default());
    let driver: Arc<dyn Wallet> = wallet.clone();
    let outside = |clock: Arc<ManualClock>| Outside { clock, random: Arc::new(SystemRandom), wallets: vec![driver] };
    let service = Service::start_in(database, Contents::Nothing, jobs, |_| {}, outside).await;
    add_issuer(&service, &wallet, &default_workspace(), plan).await;
    (service, wallet)
}

pub async fn add_issuer(service: &Service, wallet: &FakeWallet, workspace: &WorkspaceId, plan: RatePlan) -> IssuerId {
    let id = IssuerId::parse(&format!("fake-{workspace}")).unwrap();
    let mut tx = service.app.store.begin().await.unwrap();
    issuers::claim(&mut tx, &id, workspace, (WalletKind::Google, "fake"), service.now()).await.unwrap();
    tx.commit().await.unwrap();
    wallet.add_issuer(workspace, &id, plan);
    id
}

/// A holder saves the card: from then on its object is told of changes.
pub async fn save(service: &Service, workspace: &WorkspaceId, issuer: &IssuerId, card: &Value) -> String {
    let serial = card["serial_number"].as_str().unwrap().to_owned();
    let key = TargetKey { workspace: workspace.clone(), issuer: issuer.clone(), id: TargetId::parse(&serial).unwrap() };
    let address = TargetAddress::parse(&serial).unwrap();
    let card = CardId::parse(card["id"].as_str().unwrap()).unwrap();
    let mut tx = service.app.store.begin().await.unwrap();
    targets::put(&mut tx, &key, &address, TargetKind::Google, service.now()).await.unwrap();
    let position = workspaces::next_position(&mut tx, workspace).await.unwrap();
    targets::register(&mut tx, &key, &card, position, service.now()).await.unwrap();
    tx.commit().await.unwrap();
    serial
}

pub fn fake_default() -> IssuerId {
    IssuerId::parse("fake-default").unwrap()
}

fn points(points: i64) -> Value {
    json!({"attributes": {"points": points}})
}

pub fn shows(wallet: &FakeWallet, serial: &str, value: &str) -> bool {
    wallet.service.object(serial).is_some_and(|object| object["values"]["points"].as_str().unwrap().contains(value))
}

async fn a_workspace_without_apple_issues_changes_and_delivers(database: TestDatabase) {
    let (mut service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.key = service.workspace("spa").await;
    let spa = WorkspaceId::parse("spa").unwrap();
    service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await.expect(&[201]);
    let refused = service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await.expect(&[409]);
    assert!(refused["type"].as_str().unwrap().ends_with("/issuer-missing"), "{refused}");

    let issuer = add_issuer(&service, &wallet, &spa, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    assert_eq!(card["wallets"]["google"], json!({"saved": false, "current": false}));
    assert_eq!(service.patch_card("M-1", &points(2)).await["revision"], 2);
    assert_eq!(service.deliver().await, 0, "nobody has it yet");

    let serial = save(&service, &spa, &issuer, &card).await;
    service.patch_card("M-1", &points(4711)).await;
    assert_eq!(service.deliver().await, 1);
    assert!(shows(&wallet, &serial, "4711"), "{:?}", wallet.service.object(&serial));
    assert_eq!(wallet.service.object(&serial).unwrap()["id"], format!("{issuer}.{serial}"));
    assert_eq!(service.card("M-1").await["wallets"]["google"], json!({"saved": true, "current": true}));
    let ledger = service.api(Method::GET, "/api/v1/cards/M-1/delivery", &Value::Null).await.expect(&[200]);
    let target = &ledger["targets"][0];
    assert_eq!((&target["wallet"], &target["state"]), (&json!("google"), &json!("current")), "{ledger}");
    let events = service.api(Method::GET, "/api/v1/events?limit=100", &Value::Null).await.expect(&[200]);
    let pushed = events["data"].as_array().unwrap().iter().find(|event| event["type"] == "card.pushed").unwrap();
    assert_eq!(pushed["data"]["wallet"], "google");
    // What the wallet has taken is not repeated.
    service.clock.advance(Duration::from_secs(100 * 3600));
    passloom::delivery::reminders::remind_due(&service.app).await.unwrap();
    assert_eq!(service.deliver().await, 0);
    service.stop().await;
}

async fn a_workspace_with_two_wallets_keeps_both_current(database: TestDatabase) {
    let (service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, apple) = service.phone_with(&card).await;
    let serial = save(&service, &default_workspace(), &fake_default(), &card).await;
    service.patch_card("M-1", &points(4711)).await;
    assert_eq!(service.deliver().await, 2);
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    assert_eq!(phone.field(&apple, "points").unwrap(), "4711");
    assert!(shows(&wallet, &serial, "4711"));
    let wallets = service.card("M-1").await["wallets"].clone();
    let current = json!({"apple": {"devices": 1, "current": 1}, "google": {"saved": true, "current": true}});
    assert_eq!(wallets, current);

    // A publishing reaches both, too.
    let mut document = bakery();
    document["description"] = json!("Another description");
    service.publish("bakery", &document).await;
    service.clock.advance(Duration::from_secs(3));
    service.refresh().await;
    assert_eq!(service.deliver().await, 2);
    service.stop().await;
}

async fn a_wallet_that_is_down_delays_no_other(database: TestDatabase) {
    let (service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, apple) = service.phone_with(&card).await;
    let serial = save(&service, &default_workspace(), &fake_default(), &card).await;
    wallet.service.answer(Some(PushOutcome::Unreachable { reason: "no route".to_owned() }));
    for balance in [100, 200, 300] {
        service.patch_card("M-1", &points(balance)).await;
        service.deliver().await;
        assert_eq!(service.wake(&mut phone).await.len(), 1, "Apple's phone is told at once");
        assert_eq!(phone.field(&apple, "points").unwrap(), balance.to_string());
        service.clock.advance(Duration::from_secs(3));
    }
    assert!(wallet.service.object(&serial).is_none());
    let ledger = service.api(Method::GET, "/api/v1/cards/M-1/delivery", &Value::Null).await.expect(&[200]);
    let google = ledger["targets"].as_array().unwrap().iter().find(|target| target["wallet"] == "google").unwrap();
    let reason = google["reason"].as_str().unwrap();
    assert!(reason.starts_with("the fake service has been away since"), "{reason}");
    let calls = wallet.service.calls().len();
    assert!(calls <= 2, "a service that is away is only probed, not called {calls} times");

    wallet.service.answer(None);
    service.clock.advance(Duration::from_secs(60));
    service.deliver().await;
    assert!(shows(&wallet, &serial, "300"), "what waited leaves when it is back");
    service.stop().await;
}

async fn a_refusal_of_one_wallets_issuer_pauses_no_other(database: TestDatabase) {
    let (service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, _) = service.phone_with(&card).await;
    let serial = save(&service, &default_workspace(), &fake_default(), &card).await;
    wallet.service.answer(Some(PushOutcome::IssuerRefused { reason: "permissionDenied".to_owned() }));
    for balance in [100, 200] {
        service.patch_card("M-1", &points(balance)).await;
        service.deliver().await;
        assert_eq!(service.wake(&mut phone).await.len(), 1);
        service.clock.advance(Duration::from_secs(3));
    }
    assert_eq!(wallet.service.calls().len(), 1, "paused after the first refusal");
    wallet.service.answer(None);
    service.clock.advance(Duration::from_secs(301));
    service.deliver().await;
    assert!(shows(&wallet, &serial, "200"));
    service.stop().await;
}

async fn a_claim_that_fails_for_one_issuer_drops_nothing_of_the_others(database: TestDatabase) {
    let (service, _wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, _) = service.phone_with(&card).await;
    save(&service, &default_workspace(), &fake_default(), &card).await;
    service.patch_card("M-1", &points(5)).await;
    for statement in match database.kind() {
        Database::Sqlite => vec![
            "CREATE TRIGGER no_claim BEFORE UPDATE OF lease ON targets WHEN NEW.issuer_id = 'fake-default'
            BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        ],
        Database::Postgres => vec![
            "CREATE FUNCTION no_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$",
            "CREATE TRIGGER no_claim BEFORE UPDATE OF lease ON targets FOR EACH ROW
            WHEN (NEW.issuer_id = 'fake-default') EXECUTE FUNCTION no_claim()",
        ],
    } {
        database.execute(statement).await;
    }
    let mut round = claim_due(&service.app, |_, _| 10).await.unwrap();
    assert!(round.failure.is_some(), "it is told");
    assert_eq!(round.deliveries.len(), 1, "and Apple's is there");
    let done = push(&service.app, round.deliveries.remove(0)).await;
    record(&service.app, &[done]).await.unwrap();
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    let table = if database.kind() == Database::Postgres { " ON targets" } else { "" };
    database.execute(&format!("DROP TRIGGER no_claim{table}")).await;
    assert_eq!(service.deliver().await, 1);
    service.stop().await;
}

/// Cards that are saved and changed, so that each has a document to be sent.
async fn many_due(service: &Service, count: usize) {
    service.publish("bakery", &bakery()).await;
    for number in 0..count {
        let id = format!("M-{number}");
        let card = service.put_card(&id, &anna(1)).await;
        save(service, &default_workspace(), &fake_default(), &card).await;
    }
    let lines: String = (0..count)
        .map(|number| format!("{}\n", json!({"id": format!("M-{number}"), "patch": true, "attributes": {"points": 7}})))
        .collect();
    let headers =
        [("authorization", format!("Bearer {}", service.key)), ("content-type", "application/x-ndjson".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, lines.into_bytes()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

async fn an_issuer_is_not_called_faster_than_its_plan_allows(database: TestDatabase) {
    let plan = RatePlan { in_flight: None, per_second: Some(50) };
    let (service, wallet) = two_wallets(&database, JobMode::ByHand, plan).await;
    many_due(&service, 6).await;
    assert_eq!(service.deliver().await, 6);
    let calls = wallet.service.calls();
    let span = *calls.last().unwrap() - calls[0];
    // The first may have been late for its turn, never early.
    assert!(span >= Duration::from_millis(80), "six calls came within {span:?}; a second has 50 turns");
    service.stop().await;
}

async fn no_more_is_claimed_than_a_second_of_the_plan_allows(database: TestDatabase) {
    let plan = RatePlan { in_flight: None, per_second: Some(3) };
    let (service, _wallet) = two_wallets(&database, JobMode::ByHand, plan).await;
    many_due(&service, 5).await;
    let round = claim_due(&service.app, |_, in_flight| in_flight).await.unwrap();
    assert_eq!(round.deliveries.len(), 3, "the others would wait for their turns past the end of their leases");
    let leases = round.deliveries.iter().map(|delivery| delivery.lease().to_owned()).collect();
    passloom::delivery::claim::hand_back(&service.app, &leases).await.unwrap();
    assert_eq!(service.deliver().await, 5);
    service.stop().await;
}

async fn no_more_deliveries_are_under_way_than_the_plan_allows(database: TestDatabase) {
    let plan = RatePlan { in_flight: Some(2), per_second: None };
    let (service, wallet) = two_wallets(&database, JobMode::Running, plan).await;
    wallet.service.set_latency(Duration::from_millis(20));
    many_due(&service, 8).await;
    while deliveries::unfinished(&mut service.app.store.read().await.unwrap()).await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(wallet.service.most_under_way(), 2);
    service.stop().await;
}

async fn an_erased_card_is_voided_in_a_wallet_that_is_sent_documents(database: TestDatabase) {
    let (service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let serial = save(&service, &default_workspace(), &fake_default(), &card).await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    assert_eq!(service.deliver().await, 1);
    let object = wallet.service.object(&serial).unwrap();
    assert_eq!(object["state"], "voided");
    assert!(!object.to_string().contains("Anna"), "{object}");
    service.stop().await;
}

#[test]
fn every_driver_tells_cards_apart_by_what_they_show() {
    let workspace = default_workspace();
    let (service, fake) = (passloom::wallets::apple::issuers::AppleIssuers::default(), FakeWallet::default());
    fake.add_issuer(&workspace, &fake_default(), FREE);
    let now = Timestamp::from_seconds(1_795_000_000);
    let issuer = fake.current(&workspace, now).unwrap();
    let drivers: [Arc<dyn Wallet>; 2] = [Arc::new(AppleWallet(Arc::new(service))), Arc::new(fake)];
    let template = Template::parse(&bakery()).unwrap();
    let values = |points: i64| -> Map<String, Value> { anna(points)["attributes"].as_object().unwrap().clone() };
    let cards = [1, 1, 2].map(|points| Card::sample(values(points), now));
    for driver in drivers {
        let kind = driver.kind();
        let prepared = driver.prepare(&template, &[]).unwrap();
        let auth_token = AuthToken::parse("0123456789abcdef").unwrap();
        let shown = cards.each_ref().map(|card| {
            let rendered = render(&template, card, "https://kuzina.example/c/x").unwrap();
            let identity = CardIdentity {
                serial: &card.serial,
                issuer: &*issuer,
                auth_token: &auth_token,
                public_url: "https://kuzina.example",
            };
            let document = prepared.document(&rendered, Some(&identity));
            assert!(prepared.problems_of_values(&rendered, &document, now).is_empty(), "{kind:?}");
            assert_eq!(prepared.document(&rendered, Some(&identity)), document, "{kind:?}: equal cards, equal bytes");
            assert!(prepared.document(&rendered, None).json.is_object(), "{kind:?} needs no identity for a check");
            (prepared.digest(&rendered, &identity).unwrap(), document)
        });
        assert_eq!(shown[0], shown[1], "{kind:?}");
        assert!(shown[0].0 != shown[2].0 && shown[0].1 != shown[2].1, "{kind:?}");
        assert!(driver.current(&WorkspaceId::parse("nobody").unwrap(), now).is_none(), "{kind:?}");
    }
}
