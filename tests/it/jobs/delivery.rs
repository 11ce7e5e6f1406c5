//! From a change to the phone, through the simulated APNs.

use std::time::Duration;

use passloom::domain::ids::PushToken;
use passloom::sandbox::apns::{Answer, ReceivedPush};
use reqwest::Method;
use serde_json::json;

use crate::http::issuers::{document, mint};
use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_changed_balance_reaches_the_phone_with_its_message,
    a_push_says_nothing_but_that_something_changed_and_waits_thirty_days_for_the_phone,
    a_dead_token_does_not_stop_other_phones,
    a_token_registered_again_after_it_died_lives,
    ten_changes_in_five_seconds_are_at_most_three_pushes,
    an_unchanged_card_gets_no_push,
    one_push_serves_all_cards_of_a_device,
    a_push_that_fails_is_tried_again_within_a_minute,
    a_refused_certificate_pauses_and_comes_back,
    a_published_template_refreshes_its_cards_without_rewriting_them,
    the_tier_is_announced_before_the_balance_until_it_was_fetched,
    readers_of_other_makers_get_no_push_by_apns,
    a_message_that_a_card_can_not_fill_never_keeps_it_from_changing,
    a_tier_that_changes_only_pictures_is_a_new_face,
    a_move_between_templates_never_takes_last_modified_back,
    work_is_done_once,
    the_jobs_do_by_themselves_what_the_tests_do_by_hand,
    the_seldom_jobs_do_by_themselves_what_the_tests_do_by_hand,
];

fn token(phone: &passloom::sandbox::phone::Phone) -> PushToken {
    PushToken::parse(phone.push_token()).unwrap()
}

async fn a_changed_balance_reaches_the_phone_with_its_message(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(120)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let current = |card: serde_json::Value| card["wallets"]["apple"].clone();
    assert_eq!(current(service.card("M-1").await), json!({"devices": 1, "current": 1}));

    let changed = service.patch_card("M-1", &json!({"attributes": {"points": 150}})).await;
    assert_eq!((changed["revision"].as_i64(), changed["attributes"]["points"].as_i64()), (Some(2), Some(150)));
    assert_eq!(current(changed), json!({"devices": 1, "current": 0}));
    let mut line = service.apns().connect_device(&token(&phone));
    assert_eq!(service.deliver().await, 1);
    assert_eq!(line.recv().await.as_deref(), Some(PASS_TYPE));

    let refreshed = service.wake(&mut phone).await;
    assert_eq!(refreshed[0].notice.as_deref(), Some("You now have 150 points"));
    assert_eq!(phone.field(&serial, "points").unwrap(), "150");
    assert_eq!(current(service.card("M-1").await), json!({"devices": 1, "current": 1}));
    let push = &service.apns().pushes()[0];
    assert_eq!((push.topic.as_str(), &push.payload[..]), (PASS_TYPE, b"{}".as_slice()));
    service.stop().await;
}

async fn a_push_says_nothing_but_that_something_changed_and_waits_thirty_days_for_the_phone(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(0)).await;
    let (phone, _) = service.phone_with(&card).await;
    let mut expected = Vec::new();
    for points in 1..=2 {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
        assert_eq!(service.deliver().await, 1);
        expected.push(ReceivedPush {
            topic: PASS_TYPE.to_owned(),
            token: token(&phone),
            expiration: Some(u64::try_from(service.now().seconds()).unwrap() + 30 * 24 * 3600),
            priority: 10,
            push_type: None,
            payload: "{}".into(),
            connection: 1,
        });
        service.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(service.apns().pushes(), expected);
    service.stop().await;
}

async fn a_dead_token_does_not_stop_other_phones(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (dead, _) = service.phone_with(&card).await;
    let (mut alive, serial) = service.phone_with(&card).await;
    service.apns().device_gone(&token(&dead), (service.now().micros() / 1000) + 1000);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 2);
    service.wake(&mut alive).await;
    assert_eq!(alive.field(&serial, "points").unwrap(), "2");
    // The registration stays, the token is not tried again.
    service.clock.advance(Duration::from_secs(3600));
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 2);
    service.stop().await;
}

async fn a_token_registered_again_after_it_died_lives(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // APNs says that it died before the registration that we know.
    service.apns().device_gone(&token(&phone), (service.now().micros() / 1000) - 60_000);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    service.apns().device_back(&token(&phone));
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(service.deliver().await, 1, "it is tried again");
    assert_eq!(service.apns().pushes().len(), 1);

    // And one that really died comes back with its next registration.
    service.apns().device_gone(&token(&phone), (service.now().micros() / 1000) + 1000);
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.apns().device_back(&token(&phone));
    phone.register(&serial).await.unwrap();
    service.patch_card("M-1", &json!({"attributes": {"points": 4}})).await;
    service.clock.advance(Duration::from_secs(2));
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.apns().pushes().len(), 2);
    service.stop().await;
}

async fn ten_changes_in_five_seconds_are_at_most_three_pushes(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(0)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    for points in 1..=10 {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
        service.deliver().await;
        service.clock.advance(Duration::from_millis(500));
    }
    let within = service.apns().pushes().len();
    assert!((1..=3).contains(&within), "{within} pushes");
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").unwrap(), "10");
    service.stop().await;
}

async fn an_unchanged_card_gets_no_push(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(5)).await;
    let (_phone, _) = service.phone_with(&card).await;
    let same = service.patch_card("M-1", &json!({"attributes": {"points": 5}})).await;
    assert_eq!(same["revision"], 1);
    assert_eq!(service.put_card("M-1", &anna(5)).await["revision"], 1);
    assert_eq!(service.deliver().await, 0);
    // A value that the card doesn't show is stored without waking anybody.
    let hidden = service.patch_card("M-1", &json!({"attributes": {"note": "prefers rye"}})).await;
    assert_eq!((hidden["revision"].as_i64(), hidden["attributes"]["note"].as_str()), (Some(2), Some("prefers rye")));
    assert_eq!(service.deliver().await, 0);
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["current"], 1);
    service.stop().await;
}

async fn one_push_serves_all_cards_of_a_device(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let mut phone = service.phone("lv");
    for id in ["M-1", "M-2", "M-3"] {
        let card = service.put_card(id, &anna(1)).await;
        phone.add(card["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    }
    for id in ["M-1", "M-2", "M-3"] {
        service.patch_card(id, &json!({"attributes": {"points": 2}})).await;
    }
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.wake(&mut phone).await.len(), 3);
    service.stop().await;
}

async fn a_push_that_fails_is_tried_again_within_a_minute(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (_phone, _) = service.phone_with(&card).await;
    service.apns().answer_next(None, Answer::new(503, "ServiceUnavailable"), 1);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.deliver().await, 0, "not at once");
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.apns().pushes().len(), 1);
    service.stop().await;
}

async fn a_refused_certificate_pauses_and_comes_back(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (_phone, _) = service.phone_with(&card).await;
    service.apns().answer_next(None, Answer::new(403, "BadCertificate"), 1);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(service.deliver().await, 0);
    service.clock.advance(Duration::from_secs(240));
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.apns().pushes().len(), 1);
    service.stop().await;
}

async fn a_published_template_refreshes_its_cards_without_rewriting_them(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let mut document = bakery();
    document["fields"]["header"][0]["label"] = json!("Bonus");
    assert_eq!(service.publish("bakery", &document).await, 2);
    service.refresh().await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    assert_eq!(phone.front(&serial)[0].label, "Bonus");
    let after = service.card("M-1").await;
    assert_eq!((after["revision"].as_i64(), after["template_version"].as_i64()), (Some(1), Some(2)));
    assert_eq!(after["updated_at"], card["updated_at"]);
    assert_eq!(after["wallets"]["apple"]["current"], 1);
    service.stop().await;
}

async fn the_tier_is_announced_before_the_balance_until_it_was_fetched(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, _) = service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2, "tier": "gold"}})).await;
    // Before anybody fetched, the balance changes once more: the tier's message stays.
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    assert_eq!(service.wake(&mut phone).await[0].notice.as_deref(), Some("Your status is now gold"));
    service.patch_card("M-1", &json!({"attributes": {"points": 4}})).await;
    assert_eq!(service.wake(&mut phone).await[0].notice.as_deref(), Some("You now have 4 points"));
    // A change without a message shows none, not the old one.
    service.patch_card("M-1", &json!({"attributes": {"name": "Anna B."}})).await;
    assert_eq!(service.wake(&mut phone).await[0].notice, None);
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn readers_of_other_makers_get_no_push_by_apns(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (phone, serial) = service.phone_with(&card).await;
    let secret = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
    let path = format!("/apple/v1/devices/android/registrations/{PASS_TYPE}/{serial}");
    let body = json!({"pushToken": "cd".repeat(32)}).to_string().into_bytes();
    let headers = [("authorization", format!("AndroidPass {secret}"))];
    let headers = [(headers[0].0, headers[0].1.as_str())];
    assert_eq!(service.send(Method::POST, &path, &headers, body).await.status, 201);
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1, "the iPhone only");
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 2);
    service.stop().await;
}

async fn work_is_done_once(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let metrics = &service.app.metrics;
    let (mut phone, serial) = service.phone_with(&card).await;
    let hashed = metrics.files_hashed.get();
    assert!(hashed > 0);
    let signed = metrics.signatures.get();
    for points in 2..=6 {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
        service.wake(&mut phone).await;
    }
    assert_eq!(metrics.signatures.get() - signed, 5, "one signature for each changed pass that was fetched");
    for _ in 0..5 {
        assert!(phone.fetch(&serial, service.now()).await.unwrap().is_none());
    }
    assert_eq!(metrics.signatures.get() - signed, 5, "none for a 304");
    for id in ["M-2", "M-3"] {
        let card = service.put_card(id, &anna(1)).await;
        service.phone_with(&card).await;
    }
    assert_eq!(metrics.files_hashed.get(), hashed, "a version's files are hashed once");
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn the_jobs_do_by_themselves_what_the_tests_do_by_hand(database: TestDatabase) {
    use passloom::startup::{Contents, JobMode};
    let service = Service::start_with(&database, Contents::Nothing, JobMode::Running).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let mut line = phone.listen(&serial).await.unwrap();
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(line.next().await.unwrap().as_deref(), Some(PASS_TYPE));
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").unwrap(), "2");
    // The next one waits for the end of the window, which the test's clock never reaches by itself.
    service.clock.advance(Duration::from_secs(2));
    service.patch_card("M-1", &json!({"attributes": {"points": 3}})).await;
    assert_eq!(line.next().await.unwrap().as_deref(), Some(PASS_TYPE));
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").unwrap(), "3");
    // So does what a publishing changed.
    service.clock.advance(Duration::from_secs(2));
    let mut document = bakery();
    document["logo_text"] = json!("Anew");
    service.publish("bakery", &document).await;
    assert_eq!(line.next().await.unwrap().as_deref(), Some(PASS_TYPE));
    service.wake(&mut phone).await;
    assert_eq!(phone.passes()[&serial].pass["logoText"], "Anew");
}

/// What jobs that look seldom find when they start: the past of another node.
async fn the_seldom_jobs_do_by_themselves_what_the_tests_do_by_hand(database: TestDatabase) {
    use passloom::startup::{Contents, JobMode};
    let mut past = Service::shop(&database).await;
    let card = past.put_card("M-1", &anna(1)).await;
    past.phone_with(&card).await;
    past.clock.set(past.now().minus(Duration::from_secs(3 * 86_400)));
    past.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(past.deliver().await, 1);
    let key = json!({"name": "old", "scopes": ["cards:read"]}).to_string().into_bytes();
    let headers = [("authorization", format!("Bearer {}", past.key)), ("idempotency-key", "old".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(past.send(Method::POST, "/api/v1/keys", &headers, key.clone()).await.status, 201);

    let now = Service::start_with(&database, Contents::Nothing, JobMode::Running).await;
    past.key.clone_from(&now.key);
    // The phone that didn't follow is reminded by the other node's jobs.
    now.apns().counts().wait_for(|counts| counts.pushes == 1).await.unwrap();
    // The old answer is forgotten: the same key may make another request.
    let bearer = format!("Bearer {}", now.key);
    let other = json!({"name": "new", "scopes": ["cards:read"]}).to_string().into_bytes();
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "old")];
    while now.send(Method::POST, "/api/v1/keys", &headers, other.clone()).await.status != 201 {
        tokio::task::yield_now().await;
    }
    // A certificate that one node is given, the other has by itself.
    let spa = past.workspace("spa").await;
    let own = document(&mint(&past, "pass.test.spa", now.now()));
    assert_eq!(past.api_as(&spa, Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    let workspace = passloom::domain::ids::WorkspaceId::parse("spa").unwrap();
    while now.app.issuers.of_workspace(&workspace).is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn a_message_that_a_card_can_not_fill_never_keeps_it_from_changing(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["header"][0]["change_message"] = json!("{{ name }}, you now have %@ points");
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery", "attributes": {"points": 1}})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // The name is missing, then it makes the message one that a phone would refuse, then all is well.
    for (patch, notice) in [
        (json!({"points": 2}), None),
        (json!({"points": 3, "name": "5% off"}), None),
        (json!({"points": 4, "name": "Anna"}), Some("Anna, you now have 4 points")),
    ] {
        service.patch_card("M-1", &json!({"attributes": patch})).await;
        let refreshed = service.wake(&mut phone).await;
        assert_eq!(refreshed[0].notice.as_deref(), notice);
        assert_eq!(phone.field(&serial, "points").unwrap(), patch["points"].to_string());
    }
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn a_tier_that_changes_only_pictures_is_a_new_face(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["secondary"] = json!([]);
    document["tiers"]["looks"] = json!({});
    service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    service.put_image("bakery", "strip", &crate::support::service::png(375, 144)).await;
    service.put_image("bakery", "strip?tier=gold", &crate::support::service::png(750, 288)).await;
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, _) = service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"tier": "gold"}})).await;
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    service.stop().await;
}

async fn a_move_between_templates_never_takes_last_modified_back(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let mut other = bakery();
    other["logo_text"] = json!("Other");
    service.publish("other", &other).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // The first template is published again while the clock runs ahead; then the clock is set right.
    let right = service.now();
    service.clock.advance(Duration::from_secs(1000));
    let mut document = bakery();
    document["logo_text"] = json!("Newer");
    service.publish("bakery", &document).await;
    service.wake(&mut phone).await;
    service.clock.set(right);
    service.patch_card("M-1", &json!({"template": "other"})).await;
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    assert_eq!(phone.passes()[&serial].pass["logoText"], "Other");
    service.refresh().await;
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}
