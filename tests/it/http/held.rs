//! What requests make the service hold in memory: large cards, answers that nobody reads, documents of many values.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use passloom::actions::cards::expire_cards::expire_step;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_page_of_large_cards_ends_early_and_the_list_goes_on,
    large_cards_are_changed_expired_and_looked_at_a_few_at_a_time,
    a_page_of_large_events_ends_early_and_the_list_goes_on,
];

/// What has nothing to do with the database.
mod on_one_database {
    use crate::support::{Database, run};

    #[test]
    fn an_answer_that_is_not_read_is_given_up_and_its_room_is_free_again() {
        run(Database::Sqlite, super::an_answer_that_is_not_read_is_given_up_and_its_room_is_free_again);
    }

    #[test]
    fn a_list_waits_for_room_and_gives_it_back() {
        run(Database::Sqlite, super::a_list_waits_for_room_and_gives_it_back);
    }

    #[test]
    fn a_document_of_too_many_values_is_refused_before_it_is_read() {
        run(Database::Sqlite, super::a_document_of_too_many_values_is_refused_before_it_is_read);
    }

    #[test]
    fn bad_lines_are_answered_with_little() {
        run(Database::Sqlite, super::bad_lines_are_answered_with_little);
    }
}

const LARGE: usize = 100;

/// A template of a hundred long texts, and cards that have all of them: some 780 kB each, so three are more than a page.
async fn large_cards(service: &Service, count: usize) {
    let attributes: Vec<Value> =
        (0..LARGE).map(|n| json!({"name": format!("a{n}"), "type": "text", "max_length": 4096})).collect();
    let document = json!({
        "name": "Large", "organization": "Large", "languages": ["en"], "attributes": attributes, "fields": {},
        "apple": {"style": "storeCard"},
    });
    service.publish("large", &document).await;
    for n in 0..count {
        service.put_card(&format!("L-{n}"), &json!({"template": "large", "attributes": values("…")})).await;
    }
}

fn values(character: &str) -> Value {
    let text = character.repeat(2600);
    (0..LARGE).map(|n| (format!("a{n}"), json!(text))).collect::<serde_json::Map<_, _>>().into()
}

async fn a_page_of_large_cards_ends_early_and_the_list_goes_on(database: TestDatabase) {
    let service = Service::start(&database).await;
    large_cards(&service, 7).await;
    for filter in ["", "&template=large", "&state=active", "&template=large&state=active"] {
        let (mut pages, mut ids, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let list = format!("/api/v1/cards?limit=1000{filter}{cursor}");
            let page = service.api(Method::GET, &list, &Value::Null).await;
            assert_eq!(page.status, 200, "{}", page.json());
            let page = page.json();
            let cards = page["data"].as_array().unwrap();
            pages.push(cards.len());
            ids.extend(cards.iter().map(|card| card["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(pages, [3, 3, 1], "{filter}");
        assert_eq!(ids, (0..7).map(|n| format!("L-{n}")).collect::<Vec<_>>(), "{filter}");
    }
    // A page that ends with the list has no next one.
    let last = service.api(Method::GET, "/api/v1/cards?limit=1", &Value::Null).await.json();
    let after = last["next_cursor"].as_str().unwrap();
    let rest = service.api(Method::GET, &format!("/api/v1/cards?limit=3&cursor={after}"), &Value::Null).await.json();
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(3));
    let after = rest["next_cursor"].as_str().unwrap();
    let rest = service.api(Method::GET, &format!("/api/v1/cards?limit=3&cursor={after}"), &Value::Null).await.json();
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(3), &Value::Null));
    service.stop().await;
}

async fn large_cards_are_changed_expired_and_looked_at_a_few_at_a_time(database: TestDatabase) {
    let service = Service::start(&database).await;
    large_cards(&service, 7).await;
    // More than what is held at a time, in one body of small lines; one card twice, and in the order of the lines.
    let end = service.now().plus(Duration::from_secs(60)).to_string();
    let later = service.now().plus(Duration::from_secs(61)).to_string();
    let mut lines: Vec<Value> =
        (0..7).map(|n| json!({"id": format!("L-{n}"), "patch": true, "expires_at": end})).collect();
    lines.push(json!({"id": "L-0", "patch": true, "expires_at": later}));
    lines.push(json!({"id": "L-6", "patch": true, "expires_at": later}));
    let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body.into_bytes()).await;
    let answers: Vec<Value> =
        String::from_utf8(answer.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        answers.iter().map(|line| (line["id"].as_str().unwrap(), line["status"].as_str().unwrap())).collect();
    let expected: Vec<_> = lines.iter().map(|line| (line["id"].as_str().unwrap(), "updated")).collect();
    assert_eq!(told, expected);

    service.clock.advance(Duration::from_secs(62));
    let mut steps = Vec::new();
    loop {
        match expire_step(&service.app).await.unwrap() {
            0 => break,
            expired => steps.push(expired),
        }
    }
    assert_eq!(steps, [3, 3, 1]);

    let published = service.api(Method::POST, "/api/v1/templates/large/publish", &Value::Null).await.json();
    assert!(published["version"].is_i64() && published["cards"].is_null(), "all were looked at: {published}");
    service.refresh().await;
    service.stop().await;
}

async fn a_page_of_large_events_ends_early_and_the_list_goes_on(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &json!({"template": "bakery"})).await;
    for points in 0..3 {
        service.patch_card("M-1", &json!({"attributes": {"points": 7 + points}})).await;
    }
    for list in ["/api/v1/events?limit=2", "/api/v1/cards/M-1/events?limit=2"] {
        let (mut events, mut cursor) = (0, String::new());
        loop {
            let page = service.api(Method::GET, &format!("{list}{cursor}"), &Value::Null).await.json();
            events += page["data"].as_array().unwrap().len();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let whole = service.api(Method::GET, &list.replace("limit=2", "limit=1000"), &Value::Null).await.json();
        assert_eq!(Some(events), whole["data"].as_array().map(Vec::len), "{list}");
        assert!(events >= 4 && whole["next_cursor"].is_null(), "{list}");
    }
    service.stop().await;
}

/// A picture with so many bytes beside its pixels.
fn padded(padding: usize) -> Vec<u8> {
    let mut bytes = png(375, 144);
    let content = [b"teSt".as_slice(), &vec![7; padding]].concat();
    let mut chunk = u32::try_from(padding).unwrap().to_be_bytes().to_vec();
    chunk.extend_from_slice(&content);
    chunk.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
    // Behind the signature and the head.
    bytes.splice(33..33, chunk);
    bytes
}

async fn an_answer_that_is_not_read_is_given_up_and_its_room_is_free_again(database: TestDatabase) {
    let service =
        Service::start_configured(&database, |config| config.limits.unread = Duration::from_millis(300)).await;
    service.publish("bakery", &bakery()).await;
    service.put_image("bakery", "strip", &padded(15 * 1024 * 1024)).await;
    let uploads = &service.app.memory.uploads;
    assert_eq!(uploads.free(), uploads.size());

    let address: SocketAddr =
        service.base.split("localhost:").nth(1).map(|port| format!("127.0.0.1:{port}")).unwrap().parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // What the system keeps for a reader that doesn't read is little.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut connection = std::net::TcpStream::from(socket);
    let request = format!(
        "GET /api/v1/templates/bakery/images/strip HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        service.key
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut beginning = [0; 12];
    let mut reading = connection.try_clone().unwrap();
    let beginning = tokio::task::spawn_blocking(move || reading.read_exact(&mut beginning).map(|()| beginning));
    assert_eq!(&beginning.await.unwrap().unwrap(), b"HTTP/1.1 200");
    // It holds its room while it waits for its reader, and no longer.
    while uploads.free() < uploads.size() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest);
        rest.len()
    });
    assert!(rest.await.unwrap() < 15 * 1024 * 1024, "the connection was closed before all of it was sent");
    service.stop().await;
}

async fn a_list_waits_for_room_and_gives_it_back(database: TestDatabase) {
    let service = Service::start(&database).await;
    let answers = &service.app.memory.answers;
    let all = answers.take(answers.size()).await.unwrap();
    let listing = service.api(Method::GET, "/api/v1/cards", &Value::Null);
    let giving_back = async {
        while answers.waiting() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(all);
    };
    let (listed, ()) = tokio::join!(listing, giving_back);
    assert_eq!((listed.status, answers.free()), (200, answers.size()));
    // Others don't wait for the room of lists.
    let _all = answers.take(answers.size()).await.unwrap();
    assert_eq!(service.api(Method::GET, "/api/v1/cards/unknown", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn a_document_of_too_many_values_is_refused_before_it_is_read(database: TestDatabase) {
    let service = Service::start(&database).await;
    let bearer = format!("Bearer {}", service.key);
    // Each "[0]," counts as two values. What a template's document may have is too much for a card.
    let many = |lists: usize| format!("{{\"name\":[{}0]}}", "[0],".repeat(lists)).into_bytes();
    for (path, lists, most) in [("/api/v1/templates/many", 60_000, 100_000), ("/api/v1/cards/many", 6_000, 10_000)] {
        let refused = service.send(Method::PUT, path, &[("authorization", &bearer)], many(lists)).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec![String::new()]), "{path}");
        let detail = refused.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.ends_with(&format!("expected at most {most}")), "{path}: {detail}");
    }
    // A large body is read off the threads that serve, and refused with the same words.
    for body in [many(200_000), "[".repeat(100_000).into_bytes(), format!("\"{}\"", "x".repeat(500_000)).into_bytes()] {
        let refused = service.send(Method::PUT, "/api/v1/cards/many", &[("authorization", &bearer)], body).await;
        assert!([400, 422].contains(&refused.status), "{}", refused.status);
    }
    let mut body = many(6_000);
    body.extend_from_slice(b"\n{}\n");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body).await;
    let answers = String::from_utf8(answer.body).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let details: Vec<&str> = answers.iter().map(|line| line["problem"]["detail"].as_str().unwrap()).collect();
    assert_eq!(details, ["the body has about 12003 values; expected at most 10000", "/id is required"]);
    service.stop().await;
}

async fn bad_lines_are_answered_with_little(database: TestDatabase) {
    let service = Service::start(&database).await;
    let choices: Vec<String> = (0..100).map(|n| format!("{n:064}")).collect();
    let attributes: Vec<Value> =
        (0..100).map(|n| json!({"name": format!("c{n}"), "type": "choice", "choices": choices})).collect();
    let document = json!({
        "name": "Choices", "organization": "Choices", "languages": ["en"], "attributes": attributes, "fields": {},
        "apple": {"style": "storeCard"},
    });
    service.publish("choices", &document).await;
    let values: serde_json::Map<String, Value> = (0..100).map(|n| (format!("c{n}"), json!("x"))).collect();
    let document = json!({"template": "choices", "attributes": values});
    let single = service.api(Method::PUT, "/api/v1/cards/bad", &document).await;
    assert_eq!(single.status, 422);
    let errors = single.json()["errors"].as_array().cloned().unwrap();
    assert!(errors.last().unwrap()["detail"].as_str().unwrap().ends_with("more problems are not listed"));
    assert!(
        single.json()["detail"] == "100 members break rules" && single.body.len() < 64 * 1024,
        "{}",
        single.body.len()
    );

    let mut line = document;
    line["id"] = json!("bad");
    let body = format!("{line}\n").repeat(20);
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body.into_bytes()).await;
    let lines = String::from_utf8(answer.body).unwrap();
    for line in lines.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&answer["id"], &answer["status"]), (&json!("bad"), &json!("failed")));
        let errors = answer["problem"]["errors"].as_array().unwrap();
        assert!(line.len() < 5 * 1024 && errors.len() > 2, "{} bytes", line.len());
        assert!(errors.last().unwrap()["detail"].as_str().unwrap().ends_with("more problems are not listed"));
    }
    assert_eq!(lines.lines().count(), 20);
    service.stop().await;
}
