//! Whatever APNs does, over the wire: each answer has its reaction, and an outage ends with everything delivered.

use std::time::Duration;

use passloom::delivery::reminders::remind_due;
use passloom::domain::ids::PushToken;
use passloom::sandbox::apns::Answer;
use passloom::sandbox::phone::Phone;
use passloom::store::issuer_pauses;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::issuers::{document, mint};
use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    every_answer_of_apns_has_its_reaction,
    a_token_that_died_in_the_moment_of_its_registration_lives,
    a_busy_device_waits_as_long_as_apns_asks_and_holds_up_no_other,
    a_refused_certificate_pauses_all_of_its_devices_and_is_probed_every_five_minutes,
    a_refused_certificate_pauses_on_every_node_and_across_a_restart,
    another_certificate_ends_the_pause,
    what_one_workspaces_certificate_or_line_suffers_holds_up_no_other,
    one_bad_answer_of_the_service_delays_a_push_by_less_than_a_minute_whatever_it_asks_for,
    an_unwell_service_is_probed_and_everything_leaves_when_it_is_well,
    a_service_that_can_not_be_reached_is_probed_each_half_minute_and_nobody_waits_longer,
    a_silent_service_is_not_held_against_the_devices,
    a_goaway_with_pushes_under_way_loses_none,
    a_push_that_a_phone_does_not_follow_is_repeated,
];

const PHONES: usize = 12;

async fn shop_with_phones(database: &TestDatabase, phones: usize) -> (Service, Vec<Phone>) {
    let service = Service::start(database).await;
    let phones = phones_of(&service, phones).await;
    (service, phones)
}

async fn phones_of(service: &Service, count: usize) -> Vec<Phone> {
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(0)).await;
    let mut phones = Vec::new();
    for _ in 0..count {
        phones.push(service.phone_with(&card).await.0);
    }
    phones
}

fn token(phone: &Phone) -> PushToken {
    PushToken::parse(phone.push_token()).unwrap()
}

async fn change(service: &Service, points: i64) {
    service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
}

fn after(service: &Service, seconds: u64) {
    service.clock.advance(Duration::from_secs(seconds));
}

async fn pauses(service: &Service) -> Vec<String> {
    let pauses = issuer_pauses::all(&mut service.app.store.read().await.unwrap()).await.unwrap();
    pauses.into_iter().map(|pause| pause.reason).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// Nothing more to this token until it registers again.
    Dead,
    /// Nothing more for this change.
    GivenUp,
    /// Nothing to any device of the pass type.
    Paused,
    /// Nothing was wrong with this push but its connection: another one takes it at once.
    Elsewhere,
    /// This device is tried again within a minute.
    Again,
}

async fn every_answer_of_apns_has_its_reaction(database: TestDatabase) {
    use Reaction::{Again, Dead, Elsewhere, GivenUp, Paused};
    let (service, mut phones) = shop_with_phones(&database, 1).await;
    let mut phone = phones.remove(0);
    let serial = phone.passes().keys().next().unwrap().clone();
    let mut points = 0;
    for (status, reason, reaction) in [
        (400, "BadCollapseId", GivenUp),
        (400, "BadDeviceToken", Dead),
        (400, "BadExpirationDate", GivenUp),
        (400, "BadMessageId", GivenUp),
        (400, "BadPriority", GivenUp),
        (400, "BadTopic", Paused),
        (400, "DeviceTokenNotForTopic", GivenUp),
        (400, "DuplicateHeaders", GivenUp),
        (400, "IdleTimeout", Elsewhere),
        (400, "InvalidPushType", GivenUp),
        (400, "MissingDeviceToken", GivenUp),
        (400, "MissingTopic", Paused),
        (400, "PayloadEmpty", GivenUp),
        (400, "TopicDisallowed", Paused),
        (403, "BadCertificate", Paused),
        (403, "BadCertificateEnvironment", Paused),
        (403, "ExpiredProviderToken", Paused),
        (403, "InvalidProviderToken", Paused),
        (403, "MissingProviderToken", Paused),
        (403, "UnrelatedKeyIdInToken", Paused),
        (403, "BadEnvironmentKeyIdInToken", Paused),
        (403, "Forbidden", Paused),
        (404, "BadPath", GivenUp),
        (405, "MethodNotAllowed", GivenUp),
        (410, "Unregistered", Dead),
        (410, "ExpiredToken", Dead),
        (413, "PayloadTooLarge", GivenUp),
        (429, "TooManyProviderTokenUpdates", Again),
        (429, "TooManyRequests", Again),
        (500, "InternalServerError", Again),
        (503, "ServiceUnavailable", Again),
        (503, "Shutdown", Elsewhere),
        (502, "", Again),
    ] {
        let what = format!("{status} {reason}");
        let before = service.apns().pushes().len();
        service.apns().answer_next(Some(&token(&phone)), Answer::new(status, reason), 1);
        points += 1;
        change(&service, points).await;
        assert_eq!(service.deliver().await, 1, "{what}");
        let taken = service.apns().pushes().len() - before;
        assert_eq!(taken, usize::from(reaction == Elsewhere), "{what}");
        after(&service, 60);
        assert_eq!(service.deliver().await, usize::from(reaction == Again), "{what}, a minute later");
        points += 1;
        change(&service, points).await;
        after(&service, 2);
        let at_next_change = matches!(reaction, GivenUp | Elsewhere | Again);
        assert_eq!(service.deliver().await, usize::from(at_next_change), "{what}, at the next change");
        let paused = if reaction == Paused { vec![reason.to_owned()] } else { vec![] };
        assert_eq!(pauses(&service).await, paused, "{what}");
        match reaction {
            Dead => {
                phone.register(&serial).await.unwrap();
                assert_eq!(service.deliver().await, 1, "{what}, registered again");
            }
            Paused => {
                after(&service, 300);
                assert_eq!(service.deliver().await, 1, "{what}, five minutes later");
                assert_eq!(pauses(&service).await, [] as [String; 0], "{what}");
            }
            GivenUp | Elsewhere | Again => {}
        }
        after(&service, 2);
    }
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    service.stop().await;
}

async fn a_token_that_died_in_the_moment_of_its_registration_lives(database: TestDatabase) {
    let (service, phones) = shop_with_phones(&database, 1).await;
    service.apns().device_gone(&token(&phones[0]), service.now().micros() / 1000);
    change(&service, 1).await;
    service.deliver().await;
    service.apns().device_back(&token(&phones[0]));
    after(&service, 60);
    assert_eq!(service.deliver().await, 1, "its death is not later than its registration");
    service.stop().await;
}

async fn a_busy_device_waits_as_long_as_apns_asks_and_holds_up_no_other(database: TestDatabase) {
    let (service, phones) = shop_with_phones(&database, 2).await;
    let limit = Answer { retry_after: Some(Duration::from_secs(600)), ..Answer::new(429, "TooManyRequests") };
    service.apns().answer_next(Some(&token(&phones[0])), limit, 1);
    change(&service, 1).await;
    assert_eq!(service.deliver().await, 2);
    after(&service, 599);
    change(&service, 2).await;
    assert_eq!(service.deliver().await, 1, "the other one only");
    after(&service, 1);
    assert_eq!(service.deliver().await, 1);
    // When APNs doesn't say how long, most of a minute.
    service.apns().answer_next(Some(&token(&phones[0])), Answer::new(429, "TooManyRequests"), 1);
    change(&service, 3).await;
    after(&service, 2);
    assert_eq!(service.deliver().await, 2);
    after(&service, 54);
    assert_eq!(service.deliver().await, 0);
    after(&service, 1);
    assert_eq!(service.deliver().await, 1);
    service.stop().await;
}

async fn a_refused_certificate_pauses_all_of_its_devices_and_is_probed_every_five_minutes(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, PHONES).await;
    service.apns().answer_next(None, Answer::new(403, "BadCertificate"), PHONES as u32);
    change(&service, 1).await;
    assert_eq!(service.deliver().await, PHONES, "they were under way");
    assert_eq!(pauses(&service).await, ["BadCertificate"]);
    let issuer = service.api(Method::GET, "/api/v1/issuers/apple", &Value::Null).await.json();
    let paused = &issuer["certificates"][0]["paused"];
    assert_eq!(
        (&paused["reason"], paused["since"].as_str()),
        (&json!("BadCertificate"), Some(&*service.now().to_rfc3339()))
    );
    after(&service, 299);
    assert_eq!(service.deliver().await, 0);
    let metrics = String::from_utf8(service.send(reqwest::Method::GET, "/metrics", &[], vec![]).await.body).unwrap();
    let shown = format!("passloom_pushes_paused{{pass_type=\"{PASS_TYPE}\",cause=\"refused\"}} 1");
    assert!(metrics.contains(&shown), "{metrics}");
    service.apns().answer_next(None, Answer::new(403, "BadCertificate"), 1);
    after(&service, 1);
    assert_eq!(service.deliver().await, 1, "a probe");
    after(&service, 299);
    assert_eq!(service.deliver().await, 0);
    after(&service, 1);
    assert_eq!(service.deliver().await, PHONES, "the probe is taken, and all the others with it");
    assert_eq!(service.apns().pushes().len(), PHONES);
    let metrics = String::from_utf8(service.send(reqwest::Method::GET, "/metrics", &[], vec![]).await.body).unwrap();
    assert!(!metrics.contains("passloom_pushes_paused{"), "{metrics}");
    service.stop().await;
}

async fn a_refused_certificate_pauses_on_every_node_and_across_a_restart(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, 2).await;
    service.apns().answer_next(None, Answer::new(403, "Forbidden"), 2);
    change(&service, 1).await;
    service.deliver().await;
    let other = Service::start(&database).await;
    assert_eq!(other.deliver().await, 0);
    other.clock.advance(Duration::from_secs(300));
    assert_eq!(other.deliver().await, 2, "any node may probe");
    assert_eq!(service.deliver().await, 0);
    service.stop().await;
    other.stop().await;
}

async fn another_certificate_ends_the_pause(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, 1).await;
    service.apns().answer_next(None, Answer::new(403, "BadCertificate"), 1);
    change(&service, 1).await;
    assert_eq!(service.deliver().await, 1);
    after(&service, 60);
    assert_eq!((service.deliver().await, pauses(&service).await), (0, vec!["BadCertificate".to_owned()]));
    let renewed = document(&mint(&service, PASS_TYPE, service.now()));
    let put = service.api(Method::PUT, "/api/v1/issuers/apple", &renewed).await;
    assert_eq!(put.status, 200, "{}", put.json());
    assert_eq!(service.deliver().await, 1, "at once");
    assert_eq!(service.apns().pushes().len(), 1);
    assert_eq!(pauses(&service).await, [] as [String; 0]);
    service.stop().await;
}

async fn what_one_workspaces_certificate_or_line_suffers_holds_up_no_other(database: TestDatabase) {
    let (mut service, bakers) = shop_with_phones(&database, 1).await;
    let spa = service.workspace("spa").await;
    let own = document(&mint(&service, "pass.test.spa", service.now()));
    assert_eq!(service.api_as(&spa, Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    let bakery = std::mem::replace(&mut service.key, spa.clone());
    let spas = phones_of(&service, 3).await;
    for (answer, attempts) in [(Answer::new(403, "BadCertificate"), 1), (Answer::new(503, "ServiceUnavailable"), 4)] {
        for phone in &spas {
            service.apns().answer_next(Some(&token(phone)), answer.clone(), attempts);
        }
        for (key, points) in [(&spa, 1), (&bakery, i64::from(answer.status))] {
            service.key.clone_from(key);
            change(&service, points + service.now().seconds()).await;
        }
        let before = service.apns().pushes().len();
        assert_eq!(service.deliver().await, 4, "{answer:?}");
        let told = service.apns().pushes().split_off(before);
        assert_eq!(told.iter().map(|push| &push.token).collect::<Vec<_>>(), [&token(&bakers[0])], "{answer:?}");
        // While the one waits, the other's changes leave.
        after(&service, 10);
        change(&service, 9_000 + i64::from(answer.status)).await;
        assert_eq!(service.deliver().await, 1, "{answer:?}");
        for phone in &spas {
            service.apns().answer_next(Some(&token(phone)), answer.clone(), 0);
        }
        service.apns().answer_as_usual();
        after(&service, 600);
        assert_eq!(service.deliver().await, 3, "{answer:?}");
        after(&service, 10);
    }
    service.stop().await;
}

async fn one_bad_answer_of_the_service_delays_a_push_by_less_than_a_minute_whatever_it_asks_for(
    database: TestDatabase,
) {
    let (service, _phones) = shop_with_phones(&database, 1).await;
    let day = Answer { retry_after: Some(Duration::from_secs(86_400)), ..Answer::new(503, "ServiceUnavailable") };
    service.apns().answer_next(None, day, 1);
    change(&service, 1).await;
    assert_eq!(service.deliver().await, 1);
    after(&service, 59);
    assert_eq!(service.deliver().await, 1, "the service as a whole is the breaker's business");
    assert_eq!(service.apns().pushes().len(), 1);
    service.stop().await;
}

async fn an_unwell_service_is_probed_and_everything_leaves_when_it_is_well(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, PHONES).await;
    service.apns().answer_next(None, Answer::new(503, "ServiceUnavailable"), 1_000_000);
    change(&service, 1).await;
    service.deliver().await;
    let mut asked = Vec::new();
    for second in 0..7200 {
        if service.deliver().await > 0 {
            asked.push(second);
        }
        after(&service, 1);
    }
    let pauses: Vec<u32> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses.contains(&240), "{pauses:?}");
    assert!(asked[0] <= 30, "the first probe leaves soon: {asked:?}");
    service.apns().answer_as_usual();
    after(&service, 240);
    assert_eq!(service.deliver().await, PHONES, "nobody waits for a turn of his own");
    service.stop().await;
}

async fn a_service_that_can_not_be_reached_is_probed_each_half_minute_and_nobody_waits_longer(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, PHONES).await;
    let apns = service.apns();
    apns.refuse_connections(true);
    apns.drop_connections();
    change(&service, 1).await;
    service.deliver().await;
    let before = apns.connections();
    // Two hours, in which every device's own pauses would have grown to hours.
    for _ in 0..720 {
        after(&service, 10);
        service.deliver().await;
    }
    let probes = apns.connections() - before;
    assert!((200..=500).contains(&probes), "{probes} connections in two hours, at most two for each probe");
    apns.refuse_connections(false);
    after(&service, 30);
    assert_eq!(service.deliver().await, PHONES);
    assert_eq!(apns.pushes().len(), PHONES);
    service.stop().await;
}

async fn a_silent_service_is_not_held_against_the_devices(database: TestDatabase) {
    let service = Service::start_configured(&database, |config| config.apns_timeout = Duration::from_secs(1)).await;
    let _phones = phones_of(&service, PHONES).await;
    service.apns().hang(true);
    change(&service, 1).await;
    assert_eq!(service.deliver().await, PHONES);
    for _ in 0..3 {
        after(&service, 29);
        assert_eq!(service.deliver().await, 0);
        after(&service, 1);
        assert_eq!(service.deliver().await, 1, "a probe");
    }
    service.apns().hang(false);
    after(&service, 30);
    assert_eq!(service.deliver().await, PHONES);
    service.stop().await;
}

async fn a_goaway_with_pushes_under_way_loses_none(database: TestDatabase) {
    let (service, _phones) = shop_with_phones(&database, PHONES).await;
    let apns = service.apns();
    apns.set_latency(Duration::from_millis(100));
    change(&service, 1).await;
    let mut counts = apns.counts();
    let (delivered, ()) = futures_util::future::join(service.deliver(), async {
        counts.wait_for(|counts| counts.requests >= 4).await.unwrap();
        apns.go_away();
    })
    .await;
    assert_eq!(delivered, PHONES);
    assert_eq!(service.deliver().await, 0);
    let mut heard: Vec<String> = apns.pushes().iter().map(|push| push.token.as_str().to_owned()).collect();
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), PHONES);
    service.stop().await;
}

async fn a_push_that_a_phone_does_not_follow_is_repeated(database: TestDatabase) {
    let (service, mut phones) = shop_with_phones(&database, 2).await;
    change(&service, 1).await;
    assert_eq!(service.deliver().await, 2);
    service.wake(&mut phones[0]).await;
    let mut pushes = Vec::new();
    for hour in 1..=100 {
        after(&service, 3600);
        remind_due(&service.app).await.unwrap();
        if service.deliver().await > 0 {
            pushes.push(hour);
        }
    }
    assert_eq!(pushes, [1, 24, 72]);
    let repeated = service.apns().pushes();
    assert!(repeated[2..].iter().all(|push| push.token == token(&phones[1])), "only the one that never asked");
    service.stop().await;
}
