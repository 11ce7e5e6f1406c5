//! Apple's web service with the habits of real phones: new tokens, shared cards, odd readers, odd dates, odd addresses,
//! complaints, and a database that was restored.

use std::time::Duration;

use passloom::actions::passes::device_logs::prune_device_log;
use passloom::actions::workspaces::after_restore::{EPOCH, after_restore};
use passloom::config::Limits;
use passloom::platform::proxies::TrustedProxies;
use passloom::sandbox::phone::Phone;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

use super::issuers::{document, mint};
use crate::support::service::{Answer, PASS_TYPE, Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_new_push_token_replaces_the_old_one_at_once,
    two_phones_hold_one_card_and_one_phone_two_cards,
    readers_with_other_scheme_words_register_and_are_never_pushed_to,
    dates_that_are_none_count_as_absent_and_those_in_the_future_are_believed,
    parts_of_an_address_are_decoded_once,
    phones_complaints_are_grouped_and_shown_without_secrets,
    a_complaint_is_shown_to_the_workspace_whose_card_it_speaks_of,
    complaints_are_bounded_by_number_age_and_address,
    only_a_trusted_proxy_is_believed_about_addresses,
    an_address_that_asks_far_too_much_is_held_back_and_nobody_else,
    after_a_restore_every_phone_shows_what_the_database_holds,
];

/// What a reader needs to ask for a pass.
struct Holder {
    serial: String,
    secret: String,
}

impl Holder {
    fn of(phone: &Phone) -> Self {
        let (serial, installed) = phone.passes().iter().next().unwrap();
        Self { serial: serial.clone(), secret: installed.pass["authenticationToken"].as_str().unwrap().to_owned() }
    }

    async fn register(&self, service: &Service, device: &str, scheme: &str, token: &str) -> u16 {
        let path = format!("/apple/v1/devices/{device}/registrations/{PASS_TYPE}/{}", self.serial);
        let authorization = format!("{scheme} {}", self.secret);
        let body = json!({"pushToken": token}).to_string().into_bytes();
        service.send(Method::POST, &path, &[("authorization", &authorization)], body).await.status
    }

    async fn fetch(&self, service: &Service, method: Method, path: &str, since: Option<&str>) -> Answer {
        let authorization = format!("ApplePass {}", self.secret);
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(since.map(|since| ("if-modified-since", since)));
        service.send(method, path, &headers, Vec::new()).await
    }
}

async fn change(service: &Service, id: &str, points: i64) {
    service.patch_card(id, &json!({"attributes": {"points": points}})).await;
}

async fn a_new_push_token_replaces_the_old_one_at_once(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&phone);
    let (old, new) = ("aa".repeat(32), "bb".repeat(32));
    assert_eq!(holder.register(&service, "device", "ApplePass", &old).await, 201);
    change(&service, "M-1", 1).await;
    assert_eq!(holder.register(&service, "device", "ApplePass", &new).await, 200);
    service.deliver().await;
    let tokens: Vec<String> = service.apns().pushes().iter().map(|push| push.token.as_str().to_owned()).collect();
    assert!(tokens.contains(&new) && !tokens.contains(&old), "{tokens:?}");
    service.stop().await;
}

async fn two_phones_hold_one_card_and_one_phone_two_cards(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let second = service.put_card("M-2", &anna(7)).await;
    let (mut both, first_serial) = service.phone_with(&card).await;
    let second_serial = both.add(second["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    let (mut one, _) = service.phone_with(&card).await;
    change(&service, "M-1", 121).await;
    assert_eq!(service.deliver().await, 2);
    assert_eq!((service.wake(&mut both).await.len(), service.wake(&mut one).await.len()), (1, 1));
    service.clock.advance(Duration::from_secs(2));
    change(&service, "M-2", 8).await;
    assert_eq!(service.deliver().await, 1, "only the phone that holds it");
    service.wake(&mut both).await;
    assert_eq!(both.field(&first_serial, "points").unwrap(), "121");
    assert_eq!(both.field(&second_serial, "points").unwrap(), "8");
    // Taken from one phone it stays on the other; taken with one card the phone keeps its other.
    both.remove(&first_serial).await.unwrap();
    service.clock.advance(Duration::from_secs(2));
    change(&service, "M-1", 122).await;
    assert_eq!(service.deliver().await, 1);
    service.wake(&mut one).await;
    assert_eq!(one.field(&first_serial, "points").unwrap(), "122");
    assert_eq!(service.card("M-2").await["wallets"]["apple"], json!({"devices": 1, "current": 1}));
    assert_eq!((both.complaints(), one.complaints()), (&[] as &[String], &[] as &[String]));
    service.stop().await;
}

async fn readers_with_other_scheme_words_register_and_are_never_pushed_to(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&phone);
    for (number, scheme) in ["AndroidPass", "AttidoPass", "WalletUnionPass", "androidpass"].into_iter().enumerate() {
        let device = format!("reader-{number}");
        assert_eq!(holder.register(&service, &device, scheme, &"cd".repeat(32)).await, 201, "{scheme}");
        assert_eq!(holder.register(&service, &device, scheme, "fcm:any-shape").await, 200, "{scheme}");
        let list = format!("/apple/v1/devices/{device}/registrations/{PASS_TYPE}");
        assert_eq!(service.send(Method::GET, &list, &[], vec![]).await.status, 200, "{scheme}");
    }
    assert_eq!(holder.register(&service, "lower", "applepass", &"ef".repeat(32)).await, 201);
    change(&service, "M-1", 1).await;
    assert_eq!(service.deliver().await, 2, "the phone, and the one that writes Apple's word in small letters");
    assert_eq!(holder.register(&service, "x", "", "aa").await, 401);
    service.stop().await;
}

async fn dates_that_are_none_count_as_absent_and_those_in_the_future_are_believed(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&phone);
    let path = format!("/apple/v1/passes/{PASS_TYPE}/{}", holder.serial);
    let modified = holder.fetch(&service, Method::GET, &path, None).await.header("last-modified").to_owned();
    for none in ["", "nonsense", "0", "-1", "Sat, 21 Nov", "2026-11-21T10:00:00Z", "Sat, 99 Nov 2026 10:00:00 GMT"] {
        assert_eq!(holder.fetch(&service, Method::GET, &path, Some(none)).await.status, 200, "{none:?}");
        assert_eq!(holder.fetch(&service, Method::HEAD, &path, Some(none)).await.status, 200, "{none:?}");
    }
    for (since, status) in
        [(modified.as_str(), 304), ("Fri, 31 Dec 2049 23:59:59 GMT", 304), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)]
    {
        for method in [Method::GET, Method::HEAD] {
            let answer = holder.fetch(&service, method.clone(), &path, Some(since)).await;
            assert_eq!(
                (answer.status, answer.header("last-modified")),
                (status, modified.as_str()),
                "{method} {since}"
            );
        }
    }
    service.stop().await;
}

async fn parts_of_an_address_are_decoded_once(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (phone, _) = service.phone_with(&card).await;
    let holder = Holder::of(&phone);
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let (pass_type, serial) = (encoded(PASS_TYPE), encoded(&holder.serial));
    for base in ["/apple/v1", "/apple//v1"] {
        let path = format!("{base}/passes/{pass_type}/{serial}");
        assert_eq!(holder.fetch(&service, Method::GET, &path, None).await.status, 200, "{path}");
        let twice = format!("{base}/passes/{PASS_TYPE}/{}", serial.replace('%', "%25"));
        assert_eq!(holder.fetch(&service, Method::GET, &twice, None).await.status, 401, "{twice}");
    }
    // A device's name is opaque, and the same one however it is written.
    assert_eq!(holder.register(&service, "a%20b", "ApplePass", "aa").await, 401, "no phone has a space in it");
    assert_eq!(holder.register(&service, "d%2B%3D1", "ApplePass", "aa").await, 201);
    assert_eq!(holder.register(&service, "d+=1", "ApplePass", "aa").await, 200);
    let list = format!("/apple//v1/devices/d+%3d1/registrations/{pass_type}?passesUpdatedSince=%30");
    assert_eq!(service.send(Method::GET, &list, &[], vec![]).await.status, 200);
    service.stop().await;
}

async fn complain(service: &Service, from: &str, messages: &[String]) -> u16 {
    let body = json!({"logs": messages}).to_string().into_bytes();
    service.send(Method::POST, "/apple/v1/log", &[("x-forwarded-for", from)], body).await.status
}

async fn groups(service: &Service) -> Vec<Value> {
    let answer = service.api(Method::GET, "/api/v1/devices/logs?limit=1000", &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["data"].as_array().unwrap().clone()
}

async fn phones_complaints_are_grouped_and_shown_without_secrets(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let serial = card["serial_number"].as_str().unwrap();
    let page = card["urls"]["page"].as_str().unwrap();
    let failed = |device: &str| {
        format!(
            "Register task (for device {device}, pass type {PASS_TYPE}, serial number {serial}; with web service url {page}) \
             encountered error: Authentication failure"
        )
    };
    let first = service.now();
    assert_eq!(complain(&service, "198.51.100.1", &[failed(&"a1".repeat(16)), "\u{1b}[31mred".to_owned()]).await, 200);
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(complain(&service, "198.51.100.2", &[failed(&"b2".repeat(16)), failed(&"b2".repeat(16))]).await, 200);
    let stranger = "Get pass task (pass type pass.of.nobody, serial number 1) encountered error: 500".to_owned();
    assert_eq!(complain(&service, "198.51.100.3", &[stranger]).await, 200);
    let shown = groups(&service).await;
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(shown[0]["count"], 3);
    assert_eq!(shown[0]["first_at"].as_str().unwrap(), first.to_rfc3339());
    assert_eq!(shown[0]["last_at"].as_str().unwrap(), service.now().to_rfc3339());
    assert_eq!((shown[0]["pass_type"].as_str(), shown[0]["serial_number"].as_str()), (Some(PASS_TYPE), Some(serial)));
    assert_eq!(shown[1]["message"], "\\u{1b}[<n> red".replace(" red", ""), "escaped, with stand-ins");
    let text = Value::from(shown.clone()).to_string();
    assert!(!text.contains(&"b2".repeat(16)) && !text.contains(page), "{text}");
    assert!(shown[0]["message"].as_str().unwrap().ends_with("encountered error: Authentication failure"));

    let first = service.api(Method::GET, "/api/v1/devices/logs?limit=1", &Value::Null).await.json();
    let next = format!("/api/v1/devices/logs?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = service.api(Method::GET, &next, &Value::Null).await.json();
    assert_eq!(second, json!({"data": [shown[1]], "next_cursor": null}));
    service.stop().await;
}

async fn a_complaint_is_shown_to_the_workspace_whose_card_it_speaks_of(database: TestDatabase) {
    let (mut service, card) = Service::shop_with_card(&database, 120).await;
    let bakers = card["serial_number"].as_str().unwrap();
    let mut spa = Service::start(&database).await;
    service.key = std::mem::take(&mut spa.key);
    spa.key = spa.workspace("spa").await;
    let own = document(&mint(&spa, "pass.test.spa", spa.now()));
    assert_eq!(spa.api(Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    spa.publish("bakery", &bakery()).await;
    let card = spa.put_card("S-1", &anna(1)).await;
    let spas = card["serial_number"].as_str().unwrap();
    let unchanged =
        |serial: &str| format!("Server requested update to serial number '{serial}', but the pass was unchanged.");
    let same_tag =
        "Response to 'What changed?' request included 2 serial numbers but the lastUpdated tag (7) remained \
                    the same."
            .to_owned();
    let get = format!("Get pass task (pass type pass.test.spa, serial number {spas}, if-modified-since (null)) failed");
    // A phone with cards of both says everything in one request; nothing says whose the tag is.
    let messages = [get, unchanged(spas), unchanged(bakers), same_tag.clone()];
    assert_eq!(complain(&service, "198.51.100.1", &messages).await, 200);
    // Here the other message tells whose, also for a serial number that is nobody's.
    let messages = [unchanged("01a200ae-bc99-737f-a9aa-000000000000"), same_tag, unchanged(bakers)];
    assert_eq!(complain(&service, "198.51.100.2", &messages).await, 200);

    let shown = async |service: &Service| {
        let mut shown: Vec<(String, Value, Value, Value)> = groups(service)
            .await
            .into_iter()
            .map(|mut group| {
                let words = group["message"].as_str().unwrap().split(' ').take(2).collect::<Vec<_>>().join(" ");
                (words, group["pass_type"].take(), group["serial_number"].take(), group["count"].take())
            })
            .collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    };
    let row = |words: &str, pass_type: &str, serial: Option<&str>, count: u64| {
        (words.to_owned(), json!(pass_type), json!(serial), json!(count))
    };
    let get = row("Get pass", "pass.test.spa", Some(spas), 1);
    assert_eq!(shown(&spa).await, [get, row("Server requested", "pass.test.spa", Some(spas), 1)]);
    let response = row("Response to", PASS_TYPE, None, 1);
    assert_eq!(shown(&service).await, [response, row("Server requested", PASS_TYPE, Some(bakers), 3)]);
    service.stop().await;
    spa.stop().await;
}

async fn complaints_are_bounded_by_number_age_and_address(database: TestDatabase) {
    let (service, _) = Service::shop_with_card(&database, 120).await;
    let letters = |mut number: usize| {
        let mut word = String::new();
        for _ in 0..4 {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    };
    for request in 0..10 {
        let messages: Vec<String> =
            (0..50).map(|n| format!("something {} went wrong", letters(request * 50 + n))).collect();
        assert_eq!(complain(&service, &format!("198.51.100.{request}"), &messages).await, 200);
        service.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(groups(&service).await.len(), 200);
    prune_device_log(&service.app).await.unwrap();
    let kept = groups(&service).await;
    assert_eq!(kept.len(), 150, "the newest, with room for others");
    assert!(
        complain(&service, "198.51.100.20", &["known".to_owned()]).await == 200 && groups(&service).await.len() == 151
    );
    // A stranger who goes on and on is answered, and not heard.
    for _ in 0..100 {
        assert_eq!(complain(&service, "203.0.113.1", &["on and on".to_owned()]).await, 200);
    }
    let heard = groups(&service).await.iter().find(|group| group["message"] == "on and on").unwrap()["count"].clone();
    assert_eq!(heard, 30);
    let long = "x ".repeat(10_000);
    assert_eq!(complain(&service, "198.51.100.21", &[long]).await, 200);
    assert!(groups(&service).await.iter().all(|group| group["message"].as_str().unwrap().len() <= 2052));
    service.clock.advance(Duration::from_secs(31 * 24 * 3600));
    prune_device_log(&service.app).await.unwrap();
    assert_eq!(groups(&service).await.len(), 0);
    service.stop().await;
}

async fn only_a_trusted_proxy_is_believed_about_addresses(database: TestDatabase) {
    let proxies = |text: &str| TrustedProxies::parse(text).unwrap();
    let service = Service::start_configured(&database, |config| config.trusted_proxies = proxies("10.0.0.0/8")).await;
    let card = async {
        service.publish("bakery", &bakery()).await;
        service.put_card("M-1", &anna(1)).await
    };
    card.await;
    // The tests' own address is none of the proxies: whatever it says, it is one client.
    for n in 0..40 {
        assert_eq!(complain(&service, &format!("198.51.100.{n}"), &["on and on".to_owned()]).await, 200);
    }
    assert_eq!(groups(&service).await[0]["count"], 30);
    service.stop().await;
}

async fn an_address_that_asks_far_too_much_is_held_back_and_nobody_else(database: TestDatabase) {
    let service = Service::start_configured(&database, |config| {
        config.limits = Limits { phones: 20, backends: 10, ..Limits::default() };
    })
    .await;
    let ask = async |path: &str, from: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("x-forwarded-for", from), ("authorization", bearer.as_str())];
        service.send(Method::GET, path, &headers, Vec::new()).await
    };
    let list = format!("/apple/v1/devices/nobody/registrations/{PASS_TYPE}");
    for (path, most, fine) in [(list.as_str(), 20, 204), ("/api/v1/cards", 10, 200)] {
        for _ in 0..most {
            assert_eq!(ask(path, "198.51.100.1", &service.key).await.status, fine, "{path}");
        }
        let spelt = path.replacen('a', "%61", 1);
        assert_eq!(ask(&spelt, "198.51.100.1", &service.key).await.status, 429, "{spelt}");
        let refused = ask(path, "198.51.100.1", &service.key).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, "60"), "{path}");
        assert_eq!(ask(path, "198.51.100.2", &service.key).await.status, fine, "{path}");
    }
    let problem = ask("/api/v1/cards", "198.51.100.1", "wrong").await;
    assert_eq!(problem.json()["type"], "/problems/too-many-requests");
    assert_eq!(ask("/healthz", "198.51.100.1", "").await.status, 200);
    // This machine's own programs ask as they like.
    for _ in 0..30 {
        assert_eq!(service.send(Method::GET, &list, &[], Vec::new()).await.status, 204);
    }
    service.stop().await;
}

/// Runs SQL as an operator's tools would.
async fn run_sql(database: &TestDatabase, texts: &[&'static str]) {
    for text in texts {
        match database.kind() {
            Database::Sqlite => {
                let mut c = sqlx::SqliteConnection::connect(database.url()).await.unwrap();
                sqlx::query(*text).execute(&mut c).await.unwrap();
            }
            Database::Postgres => {
                let mut c = sqlx::PgConnection::connect(database.url()).await.unwrap();
                sqlx::query(*text).execute(&mut c).await.unwrap();
            }
        }
    }
}

async fn after_a_restore_every_phone_shows_what_the_database_holds(database: TestDatabase) {
    let (service, card) = Service::shop_with_card(&database, 120).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let (mut away, _) = service.phone_with(&card).await;
    service.put_card("M-2", &anna(1)).await;
    run_sql(
        &database,
        &["CREATE TABLE kept_cards AS SELECT * FROM cards", "CREATE TABLE kept_workspaces AS SELECT * FROM workspaces"],
    )
    .await;
    // What happens after the backup is on the phone, and lost to the database.
    for points in [200, 300, 400] {
        change(&service, "M-1", points).await;
        service.clock.advance(Duration::from_secs(2));
        service.deliver().await;
        service.wake(&mut phone).await;
    }
    assert_eq!(phone.field(&serial, "points").unwrap(), "400");
    run_sql(
        &database,
        &[
            "UPDATE cards SET attributes = (SELECT k.attributes FROM kept_cards k WHERE k.id = cards.id),
            position = (SELECT k.position FROM kept_cards k WHERE k.id = cards.id),
            modified = (SELECT k.modified FROM kept_cards k WHERE k.id = cards.id),
            revision = (SELECT k.revision FROM kept_cards k WHERE k.id = cards.id)",
            "UPDATE workspaces SET position = (SELECT k.position FROM kept_workspaces k WHERE k.id = workspaces.id)",
            "UPDATE targets SET polled_position = 0, notified_position = 0",
            "UPDATE passes SET acknowledged = NULL, acknowledged_at = NULL",
            "DROP TABLE kept_cards",
            "DROP TABLE kept_workspaces",
        ],
    )
    .await;
    assert_eq!(service.wake(&mut phone).await.len(), 0, "the phone knows better than the database");
    assert_eq!(after_restore(&service.app.store, service.now()).await.unwrap(), 1);
    service.refresh().await;
    service.clock.advance(Duration::from_secs(2));
    assert_eq!(service.deliver().await, 2, "every phone is told");
    for phone in [&mut phone, &mut away] {
        assert_eq!(service.wake(phone).await.len(), 1);
        assert_eq!(phone.field(&serial, "points").unwrap(), "120");
        assert_eq!(service.wake(phone).await.len(), 0);
        assert!(phone.complaints().iter().all(|c| c.contains("full unchanged pass data")), "{:?}", phone.complaints());
    }
    // Life goes on in the new epoch, and so it does after the next one.
    for epoch in 1..=3 {
        change(&service, "M-1", 500 + epoch).await;
        assert_eq!(service.wake(&mut phone).await.len(), 1);
        assert_eq!(phone.field(&serial, "points").unwrap(), (500 + epoch).to_string());
        let answer = service.api(Method::GET, "/api/v1/cards/M-1/delivery", &Value::Null).await.json();
        assert_eq!(answer["face"].as_i64().unwrap() / EPOCH, epoch);
        after_restore(&service.app.store, service.now()).await.unwrap();
    }
    service.refresh().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}
