//! Erasing a card: what it said is gone at once, and the phones that hold its pass learn that it is void.

use std::time::Duration;

use passloom::actions::cards::erase_card::clear_erased;
use passloom::delivery::attempt::push;
use passloom::delivery::claim::claim_due;
use passloom::delivery::record::record;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases, run};

on_both_databases![
    phones_get_a_void_pass_without_any_value,
    an_erased_card_is_gone_and_its_addresses_say_so,
    the_same_id_is_issued_again_as_another_card,
    an_erasure_at_another_revision_is_refused,
    what_came_of_an_old_cards_push_is_not_told_of_a_new_card_of_its_id,
    events_of_an_erased_card_are_gone_and_readers_go_on,
    changes_and_erasures_at_once_leave_one_truth,
    a_publishing_does_not_wake_phones_for_an_erased_card,
    a_design_that_needs_values_is_drawn_without_them,
    a_void_pass_is_one_that_phones_take_whatever_its_design_needs,
    no_row_of_the_database_holds_a_value_of_an_erased_card,
];

async fn erase(service: &Service, id: &str) -> u16 {
    service.api(Method::DELETE, &format!("/api/v1/cards/{id}"), &Value::Null).await.status
}

fn path(service: &Service, url: &Value) -> String {
    url.as_str().unwrap().strip_prefix(&service.app.public_url).unwrap().to_owned()
}

async fn phones_get_a_void_pass_without_any_value(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("anna@example.com", &anna(7531)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let (mut other, _) = service.phone_with(&card).await;
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(erase(&service, "anna@example.com").await, 204);
    assert_eq!(service.deliver().await, 2, "each phone gets a push");
    for phone in [&mut phone, &mut other] {
        assert_eq!(service.wake(phone).await.len(), 1);
        let pass = phone.passes()[&serial].pass.clone();
        assert_eq!((pass["voided"].as_bool(), pass.get("barcodes"), pass.get("barcode")), (Some(true), None, None));
        let text = pass.to_string();
        assert!(!text.contains("Anna") && !text.contains("anna@") && !text.contains("7531"), "{text}");
        assert!(service.wake(phone).await.is_empty(), "it changes only once");
    }
    // A device that comes back late, or hands the file on, still proves that it holds the pass.
    let token = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
    let registration = format!("/apple/v1/devices/late/registrations/{PASS_TYPE}/{serial}");
    let (right, wrong) = (format!("ApplePass {token}"), format!("ApplePass {}", "x".repeat(token.len())));
    let body = || json!({"pushToken": "abcd"}).to_string().into_bytes();
    for (authorization, status) in [(&wrong, 401), (&right, 201), (&right, 200)] {
        let answer = service.send(Method::POST, &registration, &[("authorization", authorization)], body()).await;
        assert_eq!(answer.status, status);
    }
    let changed =
        service.send(Method::GET, &format!("/apple/v1/devices/late/registrations/{PASS_TYPE}"), &[], Vec::new()).await;
    assert_eq!(changed.json()["serialNumbers"], json!([serial]));
    for (authorization, status) in [(&wrong, 401), (&right, 200), (&right, 200)] {
        let answer = service.send(Method::DELETE, &registration, &[("authorization", authorization)], Vec::new()).await;
        assert_eq!(answer.status, status);
    }
    phone.remove(&serial).await.unwrap();
    let pass = format!("/apple/v1/passes/{PASS_TYPE}/{serial}");
    let fetched = service.send(Method::GET, &pass, &[("authorization", &right)], Vec::new()).await;
    assert_eq!(fetched.status, 200);
    let again = [("authorization", right.as_str()), ("if-modified-since", fetched.header("last-modified"))];
    assert_eq!(service.send(Method::GET, &pass, &again, Vec::new()).await.status, 304);
    let all = service.api(Method::GET, "/api/v1/events", &Value::Null).await.json();
    assert!(!all.to_string().contains("erased/"), "nothing is told of what is left: {all}");
    service.stop().await;
}

async fn an_erased_card_is_gone_and_its_addresses_say_so(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    service.put_card("M-2", &anna(2)).await;
    assert_eq!(erase(&service, "M-1").await, 204);
    assert_eq!(erase(&service, "M-1").await, 404);
    assert_eq!(erase(&service, "nobody").await, 404);
    for rest in ["", "/apple", "/events"] {
        let answer = service.api(Method::GET, &format!("/api/v1/cards/M-1{rest}"), &Value::Null).await;
        assert_eq!(answer.status, 404, "{rest}");
    }
    let patch = json!({"attributes": {"points": 3}});
    assert_eq!(service.api(Method::PATCH, "/api/v1/cards/M-1", &patch).await.status, 404);
    let left = format!("erased%2F{}", card["serial_number"].as_str().unwrap());
    assert_eq!(service.api(Method::GET, &format!("/api/v1/cards/{left}"), &Value::Null).await.status, 404);
    let list = service.api(Method::GET, "/api/v1/cards", &Value::Null).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);

    let page = path(&service, &card["urls"]["page"]);
    for rest in ["", "/card.pkpass", "/google", "/card.css", "/logo.png"] {
        let answer =
            service.send(Method::GET, &format!("{page}{rest}"), &[("accept-language", "lv")], Vec::new()).await;
        assert_eq!((answer.status, answer.header("content-type")), (410, "text/html; charset=utf-8"), "{rest}");
        let html = String::from_utf8(answer.body).unwrap();
        assert!(html.contains("lang=\"lv\"") && !html.contains("Anna"), "{html}");
    }
    service.stop().await;
}

async fn the_same_id_is_issued_again_as_another_card(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let old =
        service.put_card("M-1", &json!({"template": "bakery", "sequence": 50, "attributes": {"name": "Anna"}})).await;
    let (mut phone, serial) = service.phone_with(&old).await;
    assert_eq!(erase(&service, "M-1").await, 204);
    let again = service.api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery", "sequence": 1})).await;
    assert_eq!((again.status, again.header("etag")), (201, "\"1\""));
    let new = again.json();
    assert_ne!(new["serial_number"], old["serial_number"]);
    assert_ne!(new["urls"], old["urls"]);
    assert_eq!((&new["attributes"]["name"], &new["wallets"]["apple"]["devices"]), (&Value::Null, &json!(0)));
    let events = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await.json();
    let kinds: Vec<_> = events["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["card.created"]);

    service.deliver().await;
    service.wake(&mut phone).await;
    assert_eq!(phone.passes()[&serial].pass["voided"], true, "who held the old card doesn't get the new one");
    service.patch_card("M-1", &json!({"attributes": {"points": 5}})).await;
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(service.deliver().await, 0, "nor is told of it");
    // Again and again.
    assert_eq!(erase(&service, "M-1").await, 204);
    assert_eq!(service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await.status, 201);
    service.stop().await;
}

async fn what_came_of_an_old_cards_push_is_not_told_of_a_new_card_of_its_id(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    let round = claim_due(&service.app, |_, _| 10).await.unwrap();
    assert_eq!(round.deliveries.len(), 1);
    assert_eq!(erase(&service, "M-1").await, 204);
    service.put_card("M-1", &anna(3)).await;
    for delivery in round.deliveries {
        record(&service.app, &[push(&service.app, delivery).await]).await.unwrap();
    }
    let events = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await.json();
    let types: Vec<&Value> = events["data"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["card.created"], "{events}");
    service.clock.advance(Duration::from_secs(5));
    service.deliver().await;
    service.stop().await;
}

async fn an_erasure_at_another_revision_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await;
    let bearer = format!("Bearer {}", service.key);
    let delete = async |tag: &str| {
        let headers = [("authorization", bearer.as_str()), ("if-match", tag)];
        service.send(Method::DELETE, "/api/v1/cards/M-1", &headers, Vec::new()).await.status
    };
    assert_eq!(delete("\"1\"").await, 412);
    assert_eq!(service.card("M-1").await["attributes"]["name"], "Anna");
    assert_eq!(delete("\"2\"").await, 204);
    assert_eq!(delete("\"2\"").await, 404);
    service.stop().await;
}

/// Every event, as it is read.
async fn all_of(service: &Service) -> String {
    service.api(Method::GET, "/api/v1/events", &Value::Null).await.json().to_string()
}

async fn events_of_an_erased_card_are_gone_and_readers_go_on(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let read = service.api(Method::GET, "/api/v1/events", &Value::Null).await.json();
    let last = read["data"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(erase(&service, "M-1").await, 204);
    let after = service.api(Method::GET, &format!("/api/v1/events?after={last}"), &Value::Null).await;
    assert_eq!(after.status, 200, "a reader who stopped at an erased event goes on behind it: {}", after.json());
    let events = after.json()["data"].clone();
    assert_eq!(events.as_array().unwrap().len(), 1);
    assert_eq!(events[0]["type"], "card.erased");
    let stand_in = events[0]["data"]["card"].as_str().unwrap();
    assert!(stand_in.starts_with("erased:") && stand_in.len() == 23, "{stand_in}");
    assert_eq!(events[0]["data"], json!({"card": stand_in, "serial_number": card["serial_number"]}));
    assert!(!all_of(&service).await.contains("M-1"), "the number may be a person's");
    let all = service.api(Method::GET, "/api/v1/events", &Value::Null).await.json();
    let kinds: Vec<_> = all["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["template.published", "card.erased"]);
    service.stop().await;
}

async fn changes_and_erasures_at_once_leave_one_truth(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-0", &anna(0)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let work = (0..40i64).map(|n| {
        let service = &service;
        async move {
            let answer = match n % 4 {
                0 => service.api(Method::DELETE, "/api/v1/cards/M-0", &Value::Null).await,
                1 => service.api(Method::PUT, "/api/v1/cards/M-0", &anna(n)).await,
                _ => service.api(Method::PATCH, "/api/v1/cards/M-0", &json!({"attributes": {"points": n}})).await,
            };
            assert!([200, 201, 204, 404].contains(&answer.status), "{}", answer.json());
            (answer.status == 201) as i64 - (answer.status == 204) as i64
        }
    });
    let balance: i64 = futures_util::future::join_all(work).await.into_iter().sum();
    let there = service.api(Method::GET, "/api/v1/cards/M-0", &Value::Null).await.status == 200;
    assert_eq!(1 + balance, i64::from(there), "every card that was issued was erased once or stands");
    service.deliver().await;
    service.clock.advance(Duration::from_secs(5));
    service.deliver().await;
    service.wake(&mut phone).await;
    assert_eq!(phone.passes()[&serial].pass["voided"], true);
    service.stop().await;
}

async fn a_publishing_does_not_wake_phones_for_an_erased_card(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(erase(&service, "M-1").await, 204);
    service.deliver().await;
    service.wake(&mut phone).await;
    service.publish("bakery", &bakery()).await;
    service.refresh().await;
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(service.deliver().await, 0);
    assert!(service.wake(&mut phone).await.is_empty());
    assert_eq!(phone.passes()[&serial].pass["voided"], true);
    service.stop().await;
}

async fn a_design_that_needs_values_is_drawn_without_them(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["organization"] = json!("Kuzina of {{ name }}");
    document["logo_text"] = json!("{{ note }}");
    document["barcode"]["value"] = json!("{{ note }}");
    document["apple"]["pass"] = json!({"userInfo": {"who": "{{ name }}"}, "suppressStripShine": true});
    service.publish("bakery", &document).await;
    let card =
        service.put_card("M-1", &json!({"template": "bakery", "attributes": {"name": "Anna", "note": "1234"}})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(erase(&service, "M-1").await, 204);
    service.deliver().await;
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    let pass = &phone.passes()[&serial].pass;
    assert_eq!(
        (pass["organizationName"].as_str(), pass.get("userInfo"), &pass["suppressStripShine"]),
        (Some("Bakery points"), None, &json!(true))
    );
    assert!(pass["voided"] == true && !pass.to_string().contains("Anna") && !pass.to_string().contains("1234"));
    service.stop().await;
}

async fn a_void_pass_is_one_that_phones_take_whatever_its_design_needs(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    let attributes = document["attributes"].as_array_mut().unwrap();
    attributes.push(json!({"name": "starts", "type": "datetime"}));
    attributes.push(json!({"name": "by", "type": "text", "default": "PKTransitTypeBus"}));
    document["apple"] = json!({"style": "boardingPass", "pass": {
        "boardingPass": {"transitType": "{{ by }}"},
        "relevantDates": [{"date": "{{ starts }}"}, {"date": "2030-06-01T10:00:00Z"}],
        "beacons": [{"proximityUUID": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "relevantText": "{{ note }}"}],
        "userInfo": {"starts": "{{ starts }}", "kept": false},
        "suppressStripShine": true}});
    service.publish("bakery", &document).await;
    let values = json!({"starts": "2030-01-01T10:00:00Z", "by": "PKTransitTypeTrain", "note": "Here"});
    let card = service.put_card("M-1", &json!({"template": "bakery", "attributes": values})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(phone.passes()[&serial].pass["relevantDates"].as_array().unwrap().len(), 2);
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(erase(&service, "M-1").await, 204);
    service.deliver().await;
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    let pass = &phone.passes()[&serial].pass;
    assert_eq!(pass["voided"], true);
    // An entry goes whole, since half of one is a mistake to phones.
    assert_eq!(pass["relevantDates"], json!([{"date": "2030-06-01T10:00:00Z"}]));
    assert_eq!(pass["boardingPass"]["transitType"], "PKTransitTypeBus", "what stood there for any card");
    assert_eq!((pass.get("beacons"), pass.get("userInfo")), (None, None));
    assert_eq!(pass["suppressStripShine"], true);
    service.stop().await;
}

/// Every row of every table as a text, after its table's name. Bytes stand in it as hexadecimal digits.
async fn rows(database: &TestDatabase) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    match database.kind() {
        Database::Sqlite => {
            let mut c = SqliteConnection::connect(database.url()).await.unwrap();
            let tables = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
            let tables: Vec<String> = tables.fetch_all(&mut c).await.unwrap();
            for table in tables {
                let columns = sqlx::query_scalar("SELECT 'quote(\"' || name || '\")' FROM pragma_table_info($1)");
                let columns: Vec<String> = columns.bind(&table).fetch_all(&mut c).await.unwrap();
                let all = format!("SELECT {} FROM \"{table}\"", columns.join(" || ' ' || "));
                let all: Vec<String> = sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(&mut c).await.unwrap();
                rows.extend(all.into_iter().map(|row| (table.clone(), row)));
            }
        }
        Database::Postgres => {
            let mut c = PgConnection::connect(database.url()).await.unwrap();
            let tables = sqlx::query_scalar(
                "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            );
            let tables: Vec<String> = tables.fetch_all(&mut c).await.unwrap();
            for table in tables {
                let all = format!("SELECT CAST(t AS TEXT) FROM \"{table}\" t");
                let all: Vec<String> = sqlx::query_scalar(AssertSqlSafe(all)).fetch_all(&mut c).await.unwrap();
                rows.extend(all.into_iter().map(|row| (table.clone(), row)));
            }
        }
    }
    rows
}

/// The tables of which a row holds the text, as it is or as bytes.
async fn tables_with(database: &TestDatabase, text: &str) -> Vec<String> {
    let bytes = hex::encode(text);
    let found = |row: &str| row.contains(text) || row.to_ascii_lowercase().contains(&bytes);
    let mut tables: Vec<String> =
        rows(database).await.into_iter().filter(|(_, row)| found(row)).map(|(table, _)| table).collect();
    tables.dedup();
    tables
}

async fn no_row_of_the_database_holds_a_value_of_an_erased_card(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let attributes = json!({"points": 2, "name": "Anna Berga", "note": "Anna likes rye"});
    service.put_card("M-1", &json!({"template": "bakery", "attributes": attributes})).await;
    for patch in [
        json!({"attributes": {"name": "Anna Kalna"}}),
        json!({"attributes": {"points": 3}, "locale": "lv"}),
        json!({"attributes": {"name": "Anna", "balance": "12.50"}}),
    ] {
        service.patch_card("M-1", &patch).await;
        service.clock.advance(Duration::from_secs(5));
        assert_eq!(service.deliver().await, 1);
        assert_eq!(service.wake(&mut phone).await.len(), 1);
    }
    // The answer to a publishing says what the new version can't show, and is kept for repeats: it quotes no value.
    let mut document = bakery();
    assert_eq!(document["attributes"][4]["name"], "note");
    document["attributes"][4]["default"] = json!("2030-12-31T00:00:00Z");
    document["apple"]["pass"] = json!({"expirationDate": "{{ note }}"});
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    assert_eq!(put.status, 200, "{}", put.json());
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "order-1")];
    let published = service.send(Method::POST, "/api/v1/templates/bakery/publish", &headers, Vec::new()).await.json();
    let error = &published["cards"]["keeping"][0]["errors"][0];
    let detail = "breaks the rule date-format: is \"…\"; expected a date like 2026-11-21T10:00+01:00, with a zone";
    assert_eq!(error, &json!({"pointer": "/attributes/note", "detail": detail}));
    service.clock.advance(Duration::from_secs(5));
    service.refresh().await;
    assert_eq!(service.deliver().await, 0, "a card that keeps its version shows nothing new");
    service.wake(&mut phone).await;

    // Bytes are searched, too: the first words of a picture are found.
    assert_eq!(tables_with(&database, "Anna").await, ["cards"]);
    assert_eq!(tables_with(&database, "IHDR").await, ["blobs"]);
    let all = rows(&database).await;
    for table in ["events", "idempotent_requests", "passes", "registrations", "targets"] {
        assert!(all.iter().any(|(name, _)| name == table), "{table} is empty and proves nothing");
    }

    service.clock.advance(Duration::from_secs(5));
    assert_eq!(erase(&service, "M-1").await, 204);
    assert_eq!(tables_with(&database, "Anna").await, Vec::<String>::new());
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    assert_eq!(phone.passes()[&serial].pass["voided"], true);
    assert_eq!(tables_with(&database, "Anna").await, Vec::<String>::new(), "nor does it come back");
    assert_eq!(tables_with(&database, "IHDR").await, ["blobs"]);
    service.stop().await;
}

#[test]
fn the_embedded_databases_file_holds_nothing_of_an_erased_card() {
    run(Database::Sqlite, async |database: TestDatabase| {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        for number in 0..50 {
            service.put_card(&format!("M-{number}"), &anna(number)).await;
            service.patch_card(&format!("M-{number}"), &json!({"attributes": {"name": "Annabella"}})).await;
        }
        for number in 0..50 {
            assert_eq!(erase(&service, &format!("M-{number}")).await, 204);
        }
        let path = database.url().strip_prefix("sqlite://").unwrap();
        let found = |text: &str| {
            let files = [path.to_owned(), format!("{path}-wal")];
            let files = files.map(|file| std::fs::read(file).unwrap_or_default()).concat();
            files.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
        };
        assert!(found("Annabella") > 0, "in the log");
        clear_erased(&service.app).await.unwrap();
        assert_eq!((found("Anna"), found("Kuzina") > 0), (0, true), "what is deleted is overwritten");
        service.stop().await;
        assert_eq!(found("Anna"), 0);
    });
}
