//! Many cards in one request, streamed both ways.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_bulk_ends_with_its_key,
    every_line_is_answered_in_order_with_what_came_of_it,
    answers_come_while_the_body_is_still_arriving,
    a_bad_line_fails_alone,
    one_card_may_be_named_many_times,
    a_body_without_lines_is_answered_without_lines,
    who_may_not_write_is_refused_before_the_body_is_read,
    a_long_body_is_fulfilled_by_two_bulks_at_once,
    a_bulk_reaches_phones_with_one_push,
    a_card_may_be_called_bulk,
    a_line_that_is_too_long_fails_alone,
    what_arrived_before_a_sender_went_away_is_stored_whole_lines_only,
    a_template_that_is_published_meanwhile_is_the_one_that_counts,
    another_workspaces_cards_are_out_of_reach,
    senders_who_read_no_answers_keep_nobody_waiting,
];

async fn bulk(service: &Service, body: &str) -> Vec<Value> {
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-ndjson")];
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body.as_bytes().to_vec()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    lines(&answer.body)
}

fn lines(body: &[u8]) -> Vec<Value> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn statuses(answers: &[Value]) -> Vec<(&str, i64)> {
    answers.iter().map(|a| (a["status"].as_str().unwrap(), a["revision"].as_i64().unwrap_or(0))).collect()
}

/// A bulk whose body the test writes piece by piece, and whose answers it reads as they come.
struct Open {
    body: mpsc::UnboundedSender<Result<Vec<u8>, std::io::Error>>,
    answers: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    read: Vec<u8>,
}

impl Open {
    async fn open(service: &Service, first: &str) -> Self {
        Self::open_as(service, &service.key, first).await
    }

    async fn open_as(service: &Service, key: &str, first: &str) -> Self {
        let (body, pieces) = mpsc::unbounded_channel();
        body.send(Ok(first.as_bytes().to_vec())).unwrap();
        let pieces =
            futures_util::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/api/v1/cards/bulk", service.base)).bearer_auth(key);
        let response = request.body(reqwest::Body::wrap_stream(pieces)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body, answers: Box::pin(response.bytes_stream()), read: Vec::new() }
    }

    fn write(&self, text: &str) {
        self.body.send(Ok(text.as_bytes().to_vec())).unwrap();
    }

    async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            self.read.extend(self.answers.next().await?.unwrap());
        }
    }
}

async fn a_bulk_ends_with_its_key(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let line = |n: usize| format!("{}\n", json!({"id": format!("M-{n}"), "template": "bakery"}));
    let made = json!({"name": "till", "scopes": ["cards:write"]});
    let made = service.api(Method::POST, "/api/v1/keys", &made).await.json();
    let mut bulk = Open::open_as(&service, made["secret"].as_str().unwrap(), &line(1)).await;
    assert_eq!(bulk.line().await.unwrap()["status"], "created");
    let id = made["id"].as_str().unwrap();
    let revoked = service.api(Method::DELETE, &format!("/api/v1/keys/{id}"), &Value::Null).await;
    assert_eq!(revoked.status, 204);
    bulk.write(&line(2));
    assert!(bulk.answers.next().await.unwrap().is_err(), "it breaks off");
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-2", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn every_line_is_answered_in_order_with_what_came_of_it(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &json!({"template": "bakery", "sequence": 5, "attributes": {"points": 1}})).await;
    service.put_card("M-2", &anna(2)).await;
    let answers = bulk(
        &service,
        &[
            json!({"id": "M-3", "template": "bakery", "locale": "lv", "attributes": {"points": 3, "name": "Berta"}}),
            json!({"id": "M-2", "patch": true, "attributes": {"points": 22}}),
            json!({"id": "M-1", "template": "bakery", "sequence": 5, "attributes": {"points": 9}}),
            json!({"id": "M-2", "patch": true, "attributes": {"points": 22}}),
            json!({"id": "M-1", "patch": true, "sequence": 6}),
            json!({"id": "M-9", "patch": true, "attributes": {"points": 9}}),
            json!({"id": "M-4", "template": "bakery", "state": "voided"}),
        ]
        .map(|line| line.to_string())
        .join("\n"),
    )
    .await;
    let ids: Vec<_> = answers.iter().map(|a| a["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["M-3", "M-2", "M-1", "M-2", "M-1", "M-9", "M-4"]);
    assert_eq!(
        statuses(&answers),
        [
            ("created", 1),
            ("updated", 2),
            ("stale", 0),
            ("unchanged", 2),
            ("unchanged", 1),
            ("failed", 0),
            ("created", 1)
        ]
    );
    assert_eq!(answers[0]["problem"], Value::Null);
    assert_eq!(answers[2]["problem"]["status"], 409);
    assert_eq!(
        (&answers[5]["problem"]["type"], &answers[5]["problem"]["status"]),
        (&json!("/problems/not-found"), &json!(404))
    );
    let card = service.card("M-3").await;
    assert_eq!((card["locale"].as_str(), card["attributes"]["name"].as_str()), (Some("lv"), Some("Berta")));
    assert_eq!(service.card("M-1").await["sequence"], 6);
    assert_eq!(service.card("M-2").await["attributes"]["name"], "Anna", "a patch leaves what it doesn't name");
    assert_eq!(service.card("M-4").await["state"], "voided");
    let events = service.api(Method::GET, "/api/v1/events", &Value::Null).await.json();
    let told: Vec<_> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .skip(3)
        .map(|e| (e["type"].as_str().unwrap(), e["data"]["card"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("card.created", "M-3"), ("card.updated", "M-2"), ("card.created", "M-4")]);
    service.stop().await;
}

async fn answers_come_while_the_body_is_still_arriving(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let line = |id: &str| format!("{}\r\n", json!({"id": id, "template": "bakery"}));
    let mut open = Open::open(&service, &line("M-1")).await;
    assert_eq!(open.line().await.unwrap()["id"], "M-1");
    assert_eq!(service.card("M-1").await["revision"], 1, "a line that is answered is stored");
    // Half a line waits for its other half.
    let second = line("M-2");
    open.write(&second[..10]);
    open.write(&second[10..]);
    assert_eq!(open.line().await.unwrap()["id"], "M-2");
    open.write(&(line("M-3") + &line("M-4") + "\n" + line("M-5").trim_end()));
    assert_eq!(open.line().await.unwrap()["id"], "M-3");
    assert_eq!(open.line().await.unwrap()["id"], "M-4");
    drop(std::mem::replace(&mut open.body, mpsc::unbounded_channel().0));
    assert_eq!(open.line().await.unwrap()["id"], "M-5", "the last line needs no ending");
    assert_eq!(open.line().await, None);
    service.stop().await;
}

async fn a_bad_line_fails_alone(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let good = |id: &str| json!({"id": id, "template": "bakery"}).to_string();
    let bad = [
        "{".to_owned(),
        "7".to_owned(),
        "{\"id\": 7}".to_owned(),
        "{}".to_owned(),
        json!({"id": "a/b", "template": "bakery"}).to_string(),
        json!({"id": "..", "template": "bakery"}).to_string(),
        json!({"id": "B-1"}).to_string(),
        json!({"id": "B-2", "template": "nowhere", "state": "asleep"}).to_string(),
        json!({"id": "B-3", "template": "bakery", "attributes": {"points": "many", "shoes": 1}, "colour": 1})
            .to_string(),
        json!({"id": "B-4", "template": "bakery", "patch": "yes"}).to_string(),
        "{\"id\": \"B-5\", \"template\": \"bak\u{0}ery\"}".to_owned(),
    ];
    let mut body = good("G-0");
    for (n, line) in bad.iter().enumerate() {
        body += &format!("\n{line}\n{}", good(&format!("G-{}", n + 1)));
    }
    let answers = bulk(&service, &body).await;
    assert_eq!(answers.len(), 2 * bad.len() + 1);
    for (n, answer) in answers.iter().enumerate() {
        let expected = if n % 2 == 0 { ("created", 1) } else { ("failed", 0) };
        assert_eq!(statuses(std::slice::from_ref(answer)), [expected], "{answer}");
    }
    let of = |n: usize| &answers[2 * n + 1];
    for unreadable in [0, 1, 2, 3, 4, 5, 10] {
        assert_eq!(of(unreadable)["id"], Value::Null, "{}", of(unreadable));
    }
    let pointers = |n: usize| -> Vec<&str> {
        of(n)["problem"]["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect()
    };
    assert_eq!(of(0)["problem"]["status"], 400);
    assert_eq!(pointers(2), ["/id"]);
    assert_eq!((&of(6)["id"], pointers(6)), (&json!("B-1"), vec!["/template"]));
    assert_eq!(pointers(7), ["/state", "/template"]);
    let mut all = pointers(8);
    all.sort_unstable();
    assert_eq!(all, ["/attributes/points", "/attributes/shoes", "/colour"]);
    assert_eq!(pointers(9), ["/patch"]);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/B-3", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn one_card_may_be_named_many_times(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let mut body = String::new();
    for n in 0..10 {
        body +=
            &format!("{}\n", json!({"id": "M-1", "template": "bakery", "attributes": {"points": n}, "sequence": n}));
        body += &format!("{}\n", json!({"id": "M-1", "patch": true, "attributes": {"note": format!("n{n}")}}));
    }
    body += &json!({"id": "M-1", "patch": true, "sequence": 3}).to_string();
    let answers = bulk(&service, &body).await;
    let expected: Vec<(&str, i64)> =
        (1..=20).map(|n| (if n == 1 { "created" } else { "updated" }, n)).chain([("stale", 0)]).collect();
    assert_eq!(statuses(&answers), expected);
    let card = service.card("M-1").await;
    assert_eq!((card["revision"].as_i64(), card["attributes"]["points"].as_i64()), (Some(20), Some(9)));
    assert_eq!(card["attributes"]["note"], "n9");
    let events = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await.json();
    let revisions: Vec<_> =
        events["data"].as_array().unwrap().iter().map(|e| e["data"]["revision"].as_i64().unwrap()).collect();
    assert_eq!(revisions, (1..=20).collect::<Vec<_>>());
    service.stop().await;
}

async fn a_body_without_lines_is_answered_without_lines(database: TestDatabase) {
    let service = Service::shop(&database).await;
    for body in ["", "\n", "\r\n\r\n  \n"] {
        assert_eq!(bulk(&service, body).await, Vec::<Value>::new());
    }
    service.stop().await;
}

async fn who_may_not_write_is_refused_before_the_body_is_read(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (key, status) in [("nobody", 401), (service.new_key(&service.key, &["cards:read"]).await.as_str(), 403)] {
        // A body that never ends: it is answered all the same.
        let endless = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let request = client.post(format!("{}/api/v1/cards/bulk", service.base)).bearer_auth(key);
        let response = request.body(reqwest::Body::wrap_stream(endless)).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
    service.stop().await;
}

async fn a_long_body_is_fulfilled_by_two_bulks_at_once(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let body = |from: i64| -> String {
        // The same cards in different orders, and some of its own for each.
        (0..1500)
            .map(|n| {
                let n = (n * 7 + from) % 1500;
                format!("{}\n", json!({"id": format!("M-{n}"), "template": "bakery", "attributes": {"points": from}}))
            })
            .collect()
    };
    let (one, other) = (body(1), body(2));
    let (one, other) = futures_util::future::join(bulk(&service, &one), bulk(&service, &other)).await;
    let mut revisions: BTreeMap<String, i64> = BTreeMap::new();
    let mut created = 0;
    for answer in one.iter().chain(&other) {
        assert!(["created", "updated"].contains(&answer["status"].as_str().unwrap()), "{answer}");
        created += i64::from(answer["status"] == "created");
        let newest = revisions.entry(answer["id"].as_str().unwrap().to_owned()).or_default();
        *newest = (*newest).max(answer["revision"].as_i64().unwrap());
    }
    assert_eq!((one.len(), other.len(), created, revisions.len()), (1500, 1500, 1500, 1500));
    assert!(revisions.values().all(|revision| *revision == 2), "no change was lost");
    let page = service.api(Method::GET, "/api/v1/cards?limit=1000", &Value::Null).await.json();
    assert!(page["data"].as_array().unwrap().iter().all(|card| card["revision"] == 2));
    service.stop().await;
}

async fn a_bulk_reaches_phones_with_one_push(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let mut phone = service.phone("en");
    let mut serials = Vec::new();
    for n in 0..3 {
        let card = service.put_card(&format!("M-{n}"), &anna(0)).await;
        serials.push(phone.add(card["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap());
    }
    let body: String = (0..3)
        .map(|n| format!("{}\n", json!({"id": format!("M-{n}"), "patch": true, "attributes": {"points": 7 + n}})))
        .collect();
    assert_eq!(statuses(&bulk(&service, &body).await), [("updated", 2); 3]);
    assert_eq!(service.deliver().await, 1, "one push serves all of a device's cards");
    assert_eq!(service.wake(&mut phone).await.len(), 3);
    for (n, serial) in serials.iter().enumerate() {
        assert!(phone.passes()[serial].pass["storeCard"]["headerFields"][0]["value"] == 7 + n as i64);
    }
    // What a card doesn't show, and what doesn't change, wakes nobody.
    let quiet: String = [
        json!({"id": "M-0", "patch": true, "attributes": {"note": "vip"}}),
        json!({"id": "M-1", "patch": true, "attributes": {"points": 8}}),
    ]
    .map(|line| format!("{line}\n"))
    .concat();
    assert_eq!(statuses(&bulk(&service, &quiet).await), [("updated", 3), ("unchanged", 2)]);
    service.clock.advance(Duration::from_secs(5));
    assert_eq!(service.deliver().await, 0);
    service.stop().await;
}

async fn a_card_may_be_called_bulk(database: TestDatabase) {
    let service = Service::shop(&database).await;
    assert_eq!(service.put_card("bulk", &anna(1)).await["id"], "bulk");
    assert_eq!(service.patch_card("bulk", &json!({"attributes": {"points": 2}})).await["revision"], 2);
    let bearer = format!("Bearer {}", service.key);
    let post = service.send(Method::POST, "/api/v1/cards/other", &[("authorization", &bearer)], Vec::new()).await;
    assert_eq!(post.status, 405);
    service.stop().await;
}

async fn a_line_that_is_too_long_fails_alone(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let good = |id: &str| json!({"id": id, "template": "bakery"}).to_string();
    let long = json!({"id": "L-1", "template": "bakery", "attributes": {"name": "x".repeat(1024 * 1024)}}).to_string();
    let answers =
        bulk(&service, &[good("M-1"), long.clone(), good("M-2"), long.repeat(3), good("M-3")].join("\n")).await;
    let expected = [("created", 1), ("failed", 0), ("created", 1), ("failed", 0), ("created", 1)];
    assert_eq!(statuses(&answers), expected);
    assert_eq!((&answers[1]["id"], &answers[1]["problem"]["status"]), (&Value::Null, &json!(413)));
    service.stop().await;
}

async fn what_arrived_before_a_sender_went_away_is_stored_whole_lines_only(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let line = |id: &str| format!("{}\n", json!({"id": id, "template": "bakery"}));
    let mut open = Open::open(&service, &line("M-1")).await;
    assert_eq!(open.line().await.unwrap()["status"], "created");
    // This line looks whole, but the sender goes away before its ending.
    open.write(line("M-2").trim_end());
    open.body.send(Err(std::io::Error::other("gone"))).unwrap();
    while let Some(Ok(_)) = open.answers.next().await {}
    drop(open);
    assert_eq!(service.card("M-1").await["revision"], 1);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-2", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn a_template_that_is_published_meanwhile_is_the_one_that_counts(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let body: String = (0..1200)
        .map(|n| format!("{}\n", json!({"id": format!("M-{n}"), "template": "bakery", "attributes": {"points": n}})))
        .collect();
    let publishing = async {
        for version in 2..5 {
            let mut document = bakery();
            document["logo_text"] = json!(format!("Kuzina {version}"));
            service.publish("bakery", &document).await;
        }
    };
    let (answers, ()) = futures_util::future::join(bulk(&service, &body), publishing).await;
    assert!(answers.iter().all(|answer| answer["status"] == "created"));
    assert_eq!(service.card("M-1199").await["template_version"], 4);
    service.stop().await;
}

async fn another_workspaces_cards_are_out_of_reach(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &anna(1)).await;
    let other = format!("Bearer {}", service.workspace("other").await);
    let headers = [("authorization", other.as_str())];
    let body =
        [json!({"id": "M-1", "patch": true, "attributes": {"points": 99}}), json!({"id": "M-1", "template": "bakery"})]
            .map(|line| line.to_string())
            .join("\n");
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, body.into_bytes()).await;
    let answers = lines(&answer.body);
    assert_eq!(statuses(&answers), [("failed", 0), ("failed", 0)]);
    assert_eq!(answers[0]["problem"]["status"], 404);
    assert_eq!(service.card("M-1").await["attributes"]["points"], 1);
    service.stop().await;
}

async fn senders_who_read_no_answers_keep_nobody_waiting(database: TestDatabase) {
    let service = Service::shop(&database).await;
    // Each bad member is named in the answer, so that no socket can hold all of them.
    let unknown: String =
        (0..30).map(|n| format!(r#", "a member that is unknown, whose long name is in the answer: {n}": 0"#)).collect();
    let lines: String = (0..600)
        .map(|n| match n % 2 {
            0 => format!("{{\"id\": \"M-{n}\", \"template\": \"bakery\"}}\n"),
            _ => format!("{{\"id\": \"M-{n}\", \"template\": \"bakery\"{unknown}}}\n"),
        })
        .collect();
    // More than there are connections to either database.
    let mut stalled = Vec::new();
    for _ in 0..26 {
        stalled.push(Open::open(&service, &lines).await);
    }
    for points in 1..=8 {
        service.publish("bakery", &bakery()).await;
        service.put_card("Anna", &anna(points)).await;
        assert_eq!(service.card("Anna").await["attributes"]["points"], points);
    }
    // Who reads after all gets every answer.
    let mut last = stalled.pop().unwrap();
    drop(stalled);
    drop(std::mem::replace(&mut last.body, mpsc::unbounded_channel().0));
    let mut answers = Vec::new();
    while let Some(answer) = last.line().await {
        answers.push(answer);
    }
    assert_eq!(answers.len(), 600);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], format!("M-{n}"));
        assert_eq!(answer["status"] == "failed", n % 2 == 1, "{answer}");
    }
    service.stop().await;
}

#[test]
fn a_half_sent_bulk_is_let_finish_when_the_program_is_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_passloom"));
    command.current_dir(directory.path()).env_clear().env("PASSLOOM_LISTEN", format!("127.0.0.1:{port}"));
    command.env("PASSLOOM_INTERNAL_LISTEN", "off");
    let mut program = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
    let key = said.find_map(|line| line.strip_prefix("API key: ").map(str::to_owned)).unwrap();
    // Said last: it serves now.
    assert!(said.next().unwrap().starts_with("Demo card: "));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (body, pieces) = mpsc::unbounded_channel::<Result<String, std::io::Error>>();
        let line = |id: &str| Ok(format!("{}\n", json!({"id": id, "template": "bakery-points"})));
        body.send(line("M-1")).unwrap();
        let pieces =
            futures_util::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("http://127.0.0.1:{port}/api/v1/cards/bulk")).bearer_auth(&key);
        let mut answers = request.body(reqwest::Body::wrap_stream(pieces)).send().await.unwrap();
        assert_eq!(answers.status(), 200);
        let first = answers.chunk().await.unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&first).unwrap()["status"], "created");

        let pid = program.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // It has begun to stop when nobody new is let in.
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            tokio::task::yield_now().await;
        }
        for id in ["M-2", "M-3"] {
            body.send(line(id)).unwrap();
            let answer = answers.chunk().await.unwrap().unwrap();
            let answer = serde_json::from_slice::<Value>(&answer).unwrap();
            assert_eq!((answer["id"].as_str(), answer["status"].as_str()), (Some(id), Some("created")));
        }
        drop(body);
        assert_eq!(answers.chunk().await.unwrap(), None);
    });
    assert!(program.wait().unwrap().success());
}
