//! Events are counted by day, and those that are older than they are kept are removed.

use std::time::Duration;

use passloom::actions::retention::{count_events, prune_events};
use passloom::domain::ids::WorkspaceId;
use passloom::store::daily_counts::{self, DailyCount};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{ADMIN_KEY, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_reader_who_stopped_before_the_oldest_event_is_told_from_where_to_go_on,
    events_are_counted_once_by_day_template_and_wallet,
    what_an_erased_card_did_is_counted_before_it_is_forgotten,
    a_day_is_the_workspaces_own,
    the_newest_event_stays_however_old_it_is,
    a_gap_is_never_made_when_the_clock_went_back,
    many_old_events_are_counted_and_removed_in_steps,
    old_entries_of_the_audit_list_go_too,
    of_a_workspace_only_its_own_events_are_removed,
];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Keeps events for thirty days.
async fn start(database: &TestDatabase) -> Service {
    Service::start_configured(database, |config| config.event_retention = 30 * DAY).await
}

fn workspace(id: &str) -> WorkspaceId {
    WorkspaceId::parse(id).unwrap()
}

async fn prune(service: &Service) -> u64 {
    prune_events(&service.app, || false).await.unwrap()
}

async fn events(service: &Service, key: &str) -> Vec<Value> {
    let answer = service.api_as(key, Method::GET, "/api/v1/events?limit=1000", &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["data"].as_array().unwrap().clone()
}

fn id(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

async fn counts(service: &Service, of: &str) -> Vec<DailyCount> {
    let mut reader = service.app.store.read().await.unwrap();
    daily_counts::list(&mut reader, &workspace(of), ("0000", "9999"), 1000).await.unwrap()
}

/// What of everything was counted, whatever the day.
async fn sums(service: &Service) -> [i64; 6] {
    count_events(&service.app, || false).await.unwrap();
    let counts = counts(service, "default").await;
    counts.iter().fold([0; 6], |[a, b, c, d, e, f], count| {
        let DailyCount { issued, updated, installed, removed, pushed, fetched, .. } = count;
        [a + issued, b + updated, c + installed, d + removed, e + pushed, f + fetched]
    })
}

async fn a_reader_who_stopped_before_the_oldest_event_is_told_from_where_to_go_on(database: TestDatabase) {
    let service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    service.clock.advance(20 * DAY);
    service.put_card("M-2", &anna(1)).await;
    let before = events(&service, &service.key).await;
    assert_eq!((before.len(), prune(&service).await), (3, 0), "nothing is old");
    service.clock.advance(11 * DAY);
    service.put_card("M-3", &anna(1)).await;
    assert!(prune(&service).await >= 2);
    assert_eq!(prune(&service).await, 0);

    let left = events(&service, &service.key).await;
    assert_eq!(left.len(), 2);
    assert_eq!(left[0], before[2]);
    for gone in [&before[0], &before[1]] {
        for member in ["after", "cursor"] {
            let path = format!("/api/v1/events?{member}={}", id(gone));
            let answer = service.api(Method::GET, &path, &Value::Null).await;
            let problem = answer.json();
            assert_eq!((answer.status, problem["type"].as_str()), (410, Some("/problems/events-gone")), "{problem}");
            assert_eq!(problem["oldest"].as_str(), Some(id(&left[0])));
        }
    }
    let path = format!("/api/v1/events?after={}", id(&left[0]));
    assert_eq!(service.api(Method::GET, &path, &Value::Null).await.json()["data"], json!([left[1]]));
    // An id from after those that were removed, no id, and another form of one that was.
    for unknown in ["ffffffff-ffff-7fff-bfff-ffffffffffff", "x", &id(&before[0]).to_uppercase()] {
        let answer = service.api(Method::GET, &format!("/api/v1/events?after={unknown}"), &Value::Null).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/after".to_owned()]), "{unknown}");
    }
    // A card's timeline and the place where a reader of it stopped go on with what is left.
    let timeline = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await;
    assert_eq!((timeline.status, &timeline.json()["data"]), (200, &json!([])));
    service.stop().await;
}

async fn events_are_counted_once_by_day_template_and_wallet(database: TestDatabase) {
    let service = start(&database).await;
    // So that a day doesn't end while the test runs.
    let noon = service.now().seconds() / 86_400 * 86_400 + 86_400 + 12 * 3600;
    service.clock.set(passloom::domain::time::Timestamp::from_seconds(noon));
    service.publish("bakery", &bakery()).await;
    service.publish("club", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    service.put_card("M-2", &json!({"template": "club"})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    service.deliver().await;
    service.wake(&mut phone).await;
    count_events(&service.app, || false).await.unwrap();
    count_events(&service.app, || false).await.unwrap();
    service.clock.advance(DAY);
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    phone.remove(&serial).await.unwrap();
    service.deliver().await;
    count_events(&service.app, || false).await.unwrap();

    let counted = counts(&service, "default").await;
    let rows: Vec<_> = counted
        .iter()
        .map(|c| (c.template.as_str(), c.wallet.as_str(), [c.issued, c.updated, c.installed, c.removed]))
        .collect();
    assert_eq!(
        rows,
        [
            ("bakery", "", [1, 1, 0, 0]),
            ("bakery", "apple", [0, 0, 1, 0]),
            ("club", "", [1, 0, 0, 0]),
            ("bakery", "", [0, 1, 0, 0]),
            ("bakery", "apple", [0, 0, 0, 1]),
        ]
    );
    assert_eq!(counted[0].day, counted[2].day);
    assert!(counted[0].day < counted[3].day && counted[0].day.len() == 10, "{counted:?}");
    let all = events(&service, &service.key).await;
    let of = |kind: &str| all.iter().filter(|event| event["type"] == kind).count() as i64;
    assert_eq!(sums(&service).await, [2, 2, 1, 1, of("card.pushed"), of("card.fetched")]);
    assert!(of("card.pushed") > 0 && of("card.fetched") > 0);

    // Removing the events leaves their counts.
    service.clock.advance(40 * DAY);
    let before = counts(&service, "default").await;
    assert!(prune(&service).await > 0);
    assert_eq!(counts(&service, "default").await, before);
    service.stop().await;
}

async fn what_an_erased_card_did_is_counted_before_it_is_forgotten(database: TestDatabase) {
    let service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    count_events(&service.app, || false).await.unwrap();
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    service.put_card("M-1", &anna(1)).await;
    assert_eq!(sums(&service).await, [2, 1, 0, 0, 0, 0], "each once");
    service.stop().await;
}

async fn a_day_is_the_workspaces_own(database: TestDatabase) {
    let mut service = start(&database).await;
    let body = json!({"id": "riga", "name": "Riga", "time_zone": "+02:00"});
    let made = service.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &body).await;
    service.key = made.json()["key"]["secret"].as_str().unwrap().to_owned();
    let certificate = crate::http::issuers::mint(&service, "pass.test.riga", service.now());
    let certificate = crate::http::issuers::document(&certificate);
    assert_eq!(service.api(Method::PUT, "/api/v1/issuers/apple", &certificate).await.status, 200);
    service.publish("bakery", &bakery()).await;
    let midnight = service.now().seconds() / 86_400 * 86_400 + 86_400;
    for (hour, card) in [(21, "M-1"), (23, "M-2")] {
        service.clock.set(passloom::domain::time::Timestamp::from_seconds(midnight + hour * 3600));
        service.put_card(card, &anna(1)).await;
    }
    count_events(&service.app, || false).await.unwrap();
    let counted = counts(&service, "riga").await;
    let days: Vec<&str> = counted.iter().map(|count| count.day.as_str()).collect();
    let of = |seconds: i64| {
        passloom::domain::time::Timestamp::from_seconds(seconds)
            .to_rfc3339_seconds()
            .split('T')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(days, [of(midnight), of(midnight + 86_400)]);
    service.stop().await;
}

async fn the_newest_event_stays_however_old_it_is(database: TestDatabase) {
    let service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let newest = events(&service, &service.key).await.pop().unwrap();
    service.clock.advance(300 * DAY);
    prune(&service).await;
    assert_eq!(events(&service, &service.key).await, std::slice::from_ref(&newest));
    let path = format!("/api/v1/events?after={}", id(&newest));
    let answer = service.api(Method::GET, &path, &Value::Null).await;
    assert_eq!((answer.status, &answer.json()["data"]), (200, &json!([])), "who has read everything stays there");
    service.stop().await;
}

async fn a_gap_is_never_made_when_the_clock_went_back(database: TestDatabase) {
    let service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    service.put_card("M-2", &anna(1)).await;
    // A node whose clock was wrong recorded the second one.
    database.execute("UPDATE events SET at = 0 WHERE card_id = 'M-1'").await;
    let before = events(&service, &service.key).await;
    assert!(before[1]["timestamp"].as_str() < before[0]["timestamp"].as_str(), "{before:?}");
    prune(&service).await;
    assert_eq!(events(&service, &service.key).await, before, "what is old stands behind what is not");
    service.stop().await;
}

async fn many_old_events_are_counted_and_removed_in_steps(database: TestDatabase) {
    let service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let before = sums(&service).await;
    let numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1300)";
    database
        .execute(&format!(
            "INSERT INTO events (workspace_id, position, n, id, type, card_id, at, data)
            {numbers} SELECT 'default', 1000, n, '00000000-0000-7000-8000-00000000' || (1000 + n), 'card.updated', 'M-1', 0, '{{}}'
            FROM numbers"
        ))
        .await;
    database.execute("UPDATE workspaces SET position = 1000 WHERE id = 'default'").await;
    // One position's events are not counted at once, and each of them once all the same.
    count_events(&service.app, || true).await.unwrap();
    let some = counts(&service, "default").await.iter().map(|count| count.updated).sum::<i64>();
    assert!((400..=500).contains(&some), "{some}");
    let after = sums(&service).await;
    assert_eq!((after[0], after[1]), (before[0], before[1] + 1300));
    assert_eq!(sums(&service).await, after);

    service.clock.advance(40 * DAY);
    let first = prune_events(&service.app, || true).await.unwrap();
    assert!(first <= 1000, "{first} in one step");
    prune(&service).await;
    assert_eq!(events(&service, &service.key).await.len(), 1);
    assert_eq!(sums(&service).await, after);
    service.stop().await;
}

async fn old_entries_of_the_audit_list_go_too(database: TestDatabase) {
    let service = start(&database).await;
    let old = service.new_key(ADMIN_KEY, &["cards:read"]).await;
    service.clock.advance(31 * DAY);
    service.new_key(ADMIN_KEY, &["cards:read"]).await;
    prune(&service).await;
    let left = service.api(Method::GET, "/api/v1/audit", &Value::Null).await.json();
    let kinds: Vec<&str> = left["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["key.created"]);
    assert_eq!(service.api_as(&old, Method::GET, "/api/v1/events", &Value::Null).await.status, 200, "the key is kept");
    service.stop().await;
}

async fn of_a_workspace_only_its_own_events_are_removed(database: TestDatabase) {
    let mut service = start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let theirs = id(&events(&service, &service.key).await[0]).to_owned();
    service.clock.advance(31 * DAY);
    let default = service.key.clone();
    service.key = service.workspace("spa").await;
    let certificate = crate::http::issuers::mint(&service, "pass.test.spa", service.now());
    let certificate = crate::http::issuers::document(&certificate);
    assert_eq!(service.api(Method::PUT, "/api/v1/issuers/apple", &certificate).await.status, 200);
    service.publish("bakery", &bakery()).await;
    let own = events(&service, &service.key).await;
    prune(&service).await;
    assert_eq!(events(&service, &service.key).await, own);
    assert_eq!(events(&service, &default).await.len(), 1);
    let path = format!("/api/v1/events?after={theirs}");
    assert_eq!(service.api(Method::GET, &path, &Value::Null).await.status, 422, "nothing of this one was removed");
    assert_eq!(service.api_as(&default, Method::GET, &path, &Value::Null).await.status, 410);
    assert_eq!(counts(&service, "spa").await, Vec::new());
    service.stop().await;
}
