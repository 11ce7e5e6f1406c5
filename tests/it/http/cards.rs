//! The cards API, as a loyalty backend meets it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_card_is_issued_replaced_read_and_patched,
    all_faults_of_a_card_are_named_at_once_and_nothing_is_stored,
    what_is_not_json_is_400_and_what_is_too_large_413,
    ids_and_path_tricks_are_refused,
    keys_open_their_own_scopes_only,
    every_answer_with_a_card_carries_its_revision,
    a_wrong_revision_is_refused,
    while_the_database_is_away_backends_get_a_problem_and_customers_words,
    times_are_kept_as_they_were_sent_however_far_they_lie,
    a_late_change_is_refused_and_changes_nothing,
    what_changes_nothing_keeps_the_revision_and_wakes_nobody,
    what_a_card_shows_may_be_put_back_and_is_kept_when_a_default_changes,
    a_sequence_may_be_a_moment_in_nanoseconds,
    what_takes_get_takes_head,
    fifty_requests_for_one_new_card_issue_one_card,
    states_and_ends_reach_the_pass,
    a_card_needs_a_published_template,
    values_that_a_phone_would_refuse_are_named_at_their_attribute,
    a_failure_inside_answers_without_its_cause,
];

async fn a_card_is_issued_replaced_read_and_patched(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let document = json!({"template": "bakery", "locale": "lv", "attributes": {"points": 120, "balance": 12.5, "tier": "silver", "name": "Anna"}});
    let put = service.api(Method::PUT, "/api/v1/cards/M-1001", &document).await;
    assert_eq!((put.status, put.header("etag")), (201, "\"1\""));
    let card = put.json();
    assert_eq!(
        card["attributes"],
        json!({"points": 120, "balance": "12.50", "tier": "silver", "name": "Anna", "note": null, "expires_on": null})
    );
    assert_eq!((card["state"].as_str(), card["locale"].as_str()), (Some("active"), Some("lv")));
    assert_eq!(
        card["wallets"],
        json!({"apple": {"devices": 0, "current": 0}, "google": {"saved": false, "current": false}})
    );
    let page = card["urls"]["page"].as_str().unwrap();
    assert_eq!(card["urls"]["apple"], format!("{page}/card.pkpass"));
    assert!(!page.contains("M-1001"));
    assert_eq!(service.card("M-1001").await, card);

    let patched =
        service.patch_card("M-1001", &json!({"attributes": {"points": 7, "name": null}, "locale": null})).await;
    assert_eq!((patched["attributes"]["points"].as_i64(), &patched["attributes"]["name"]), (Some(7), &Value::Null));
    assert_eq!((patched["locale"].as_str(), patched["revision"].as_i64()), (Some("en"), Some(2)));
    assert_eq!(patched["attributes"]["balance"], "12.50", "what a patch leaves out stays");

    // A PUT puts what it leaves out back to its default.
    let replaced = service.api(Method::PUT, "/api/v1/cards/M-1001", &json!({"template": "bakery"})).await;
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"3\""));
    assert_eq!(replaced.json()["attributes"]["points"], 0);
    assert_eq!(replaced.json()["serial_number"], card["serial_number"]);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/nobody", &Value::Null).await.status, 404);
    service.stop().await;
}

async fn all_faults_of_a_card_are_named_at_once_and_nothing_is_stored(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let wrong = json!({
        "template": "bakery", "locale": "no_language", "state": "asleep", "expires_at": "tomorrow", "sequence": 1.5, "colour": 1,
        "attributes": {"points": "many", "tier": "platinum", "name": "A\u{0}", "balance": "1.005", "shoes": 43, "a/b~c": 1}});
    let answer = service.api(Method::PUT, "/api/v1/cards/M-1", &wrong).await;
    assert_eq!((answer.status, answer.header("content-type")), (422, "application/problem+json"));
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!(
        pointers,
        [
            "/attributes/a~1b~0c",
            "/attributes/balance",
            "/attributes/name",
            "/attributes/points",
            "/attributes/shoes",
            "/attributes/tier",
            "/colour",
            "/expires_at",
            "/locale",
            "/sequence",
            "/state"
        ]
    );
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-1", &Value::Null).await.status, 404);

    let card = service.put_card("M-1", &anna(1)).await;
    for patch in [
        json!({"attributes": {"points": "x", "name": "B"}}),
        json!({"attributes": 7}),
        json!([]),
        json!({"template": "nowhere"}),
        json!({"points": 1}),
    ] {
        let answer = service.api(Method::PATCH, "/api/v1/cards/M-1", &patch).await;
        assert_eq!(answer.status, 422, "{patch}: {}", answer.json());
    }
    assert_eq!(service.card("M-1").await, card);
    let unknown = service.api(Method::PUT, "/api/v1/cards/M-2", &json!({"template": "nowhere", "state": "x"})).await;
    assert_eq!(unknown.pointers(), ["/state", "/template"]);
    service.stop().await;
}

async fn what_is_not_json_is_400_and_what_is_too_large_413(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str())];
    for body in [&b""[..], b"{", b"{\"a\": \"\xff\"}", b"\xef\xbb\xbf{}", b"nan"] {
        let answer = service.send(Method::PUT, "/api/v1/cards/M-1", &headers, body.to_vec()).await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert_eq!(answer.json()["type"], "/problems/not-json");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(service.send(Method::PUT, "/api/v1/cards/M-1", &headers, deep.into_bytes()).await.status, 400);
    let large = format!("{{\"template\": \"{}\"}}", "x".repeat(1024 * 1024));
    assert_eq!(service.send(Method::PUT, "/api/v1/cards/M-1", &headers, large.into_bytes()).await.status, 413);
    service.stop().await;
}

async fn ids_and_path_tricks_are_refused(database: TestDatabase) {
    let service = Service::shop(&database).await;
    for id in ["..", ".", "a%00b", "a%2Fb", "a%20b", "%F0%9F%98%80", &"x".repeat(129)] {
        let answer = service.api(Method::PUT, &format!("/api/v1/cards/{id}"), &anna(1)).await;
        assert!([404, 422].contains(&answer.status), "{id}: {}", answer.status);
    }
    let fine = service.api(Method::PUT, &format!("/api/v1/cards/a.b_c~d:e@f-{}", "x".repeat(116)), &anna(1)).await;
    assert_eq!(fine.status, 201);
    assert_eq!(service.send(Method::POST, "/api/v1/cards/x", &[], Vec::new()).await.status, 405);
    assert_eq!(service.send(Method::GET, "/nowhere", &[], Vec::new()).await.status, 404);
    service.stop().await;
}

async fn keys_open_their_own_scopes_only(database: TestDatabase) {
    let service = Service::shop(&database).await;
    for authorization in ["", "Bearer", "Bearer x", "Basic abc", "ApplePass x"] {
        let answer =
            service.send(Method::GET, "/api/v1/cards/M-1", &[("authorization", authorization)], Vec::new()).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{authorization:?}");
    }
    let reader = passloom::platform::secrets::fingerprint("reader");
    let mut tx = service.app.store.begin().await.unwrap();
    let key = passloom::store::api_keys::NewApiKey {
        id: "k1",
        workspace: &passloom::actions::keys::default_workspace(),
        name: "reader",
        hash: &reader,
        scopes: "cards:read",
        created_at: service.now(),
    };
    passloom::store::api_keys::insert(&mut tx, &key).await.unwrap();
    tx.commit().await.unwrap();
    let headers = [("authorization", "Bearer reader")];
    assert_eq!(service.send(Method::GET, "/api/v1/cards/M-1", &headers, Vec::new()).await.status, 404);
    let write = service.send(Method::PUT, "/api/v1/cards/M-1", &headers, anna(1).to_string().into_bytes()).await;
    assert_eq!(write.status, 403);
    assert_eq!(service.send(Method::GET, "/api/v1/templates/bakery", &headers, Vec::new()).await.status, 403);
    // Who asks is known before the body is read.
    let stranger = [("authorization", "Bearer stranger")];
    for (headers, expected) in [(stranger, 401), (headers, 403)] {
        let answer = service.send(Method::PUT, "/api/v1/cards/M-1", &headers, b"no JSON".to_vec()).await;
        assert_eq!((answer.status, answer.header("x-request-id").len()), (expected, 36));
    }
    service.stop().await;
}

async fn every_answer_with_a_card_carries_its_revision(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let path = "/api/v1/cards/M-1";
    let patch = |points: i64| json!({"attributes": {"points": points}});
    for (method, body, status, revision) in [
        (Method::PUT, anna(1), 201, 1),
        (Method::GET, Value::Null, 200, 1),
        (Method::PUT, anna(1), 200, 1),
        (Method::PUT, anna(2), 200, 2),
        (Method::PATCH, patch(2), 200, 2),
        (Method::PATCH, patch(3), 200, 3),
        (Method::GET, Value::Null, 200, 3),
    ] {
        let answer = service.api(method.clone(), path, &body).await;
        let tag = format!("\"{revision}\"");
        assert_eq!((answer.status, answer.header("etag")), (status, tag.as_str()), "{method} {body}");
        assert_eq!(answer.json()["revision"], revision, "{method} {body}");
    }
    let head = service.api(Method::HEAD, path, &Value::Null).await;
    assert_eq!((head.status, head.header("etag")), (200, "\"3\""));
    service.stop().await;
}

async fn times_are_kept_as_they_were_sent_however_far_they_lie(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["attributes"].as_array_mut().unwrap().push(json!({"name": "joined", "type": "datetime"}));
    document["fields"]["auxiliary"][1]["value"] = json!("{{ joined }}");
    document["fields"]["auxiliary"][0]["value"] = json!("{{ expires_on }}");
    service.publish("bakery", &document).await;
    let never = json!({"template": "bakery", "expires_at": "9999-12-31T23:59:59Z",
        "attributes": {"expires_on": "9999-12-31", "joined": "1950-06-01T12:00:00Z"}});
    let card = service.put_card("M-1", &never).await;
    assert_eq!((&card["expires_at"], &card["state"]), (&json!("9999-12-31T23:59:59.000000Z"), &json!("active")));
    assert_eq!(card["attributes"]["expires_on"], "9999-12-31");
    assert_eq!(card["attributes"]["joined"], "1950-06-01T12:00:00.000000Z");
    let (phone, serial) = service.phone_with(&card).await;
    let pass = &phone.passes()[&serial].pass;
    assert_eq!(pass["expirationDate"], "9999-12-31T23:59:59Z");
    assert_eq!(pass["storeCard"]["auxiliaryFields"][0]["value"], "9999-12-31T00:00:00Z");
    assert_eq!(pass["storeCard"]["auxiliaryFields"][1]["value"], "1950-06-01T12:00:00Z");
    let beyond = json!({"expires_at": "9999-12-31T23:59:59-01:00", "attributes": {"joined": "0000-12-31T00:00:00Z"}});
    let answer = service.api(Method::PATCH, "/api/v1/cards/M-1", &beyond).await;
    assert_eq!(
        (answer.status, answer.pointers()),
        (422, vec!["/expires_at".to_owned(), "/attributes/joined".to_owned()])
    );
    assert!(answer.json().to_string().contains("of the years 1 to 9999"), "{}", answer.json());
    let past = service.patch_card("M-1", &json!({"expires_at": "1969-01-01T00:00:00Z"})).await;
    assert_eq!(past["state"], "expired");
    service.deliver().await;
    service.stop().await;
}

async fn while_the_database_is_away_backends_get_a_problem_and_customers_words(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    service.app.store.close().await;
    let api = service.api(Method::GET, "/api/v1/cards/M-1", &Value::Null).await;
    assert_eq!((api.status, api.json()["type"].as_str()), (503, Some("/problems/unavailable")));
    let shown = service.send(Method::GET, &page, &[("accept-language", "lv")], Vec::new()).await;
    assert_eq!((shown.status, shown.header("retry-after")), (503, "5"));
    assert!(shown.header("content-type").starts_with("text/html"));
    let text = String::from_utf8(shown.body).unwrap();
    assert!(text.contains("<html lang=\"lv\"") && !text.contains("problems"), "{text}");
}

async fn a_wrong_revision_is_refused(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let bearer = format!("Bearer {}", service.key);
    let send = async |method: &Method, tag: &str, points: i64| {
        let headers = [("authorization", bearer.as_str()), ("if-match", tag)];
        let body = if *method == Method::PUT { anna(points) } else { json!({"attributes": {"points": points}}) };
        service.send(method.clone(), "/api/v1/cards/M-1", &headers, body.to_string().into_bytes()).await
    };
    for tag in ["\"1\"", "*"] {
        assert_eq!(send(&Method::PUT, tag, 1).await.status, 412, "there is none yet");
        assert_eq!(send(&Method::PATCH, tag, 1).await.status, 404, "there is none yet");
    }
    service.put_card("M-1", &anna(1)).await;
    let mut revision = 1;
    for method in [Method::PUT, Method::PATCH] {
        let before = service.card("M-1").await;
        // A weak tag never matches.
        let weak = format!("W/\"{revision}\"");
        for wrong in ["\"70\"", "nonsense", weak.as_str(), "\"70\", \"80\""] {
            let answer = send(&method, wrong, 99).await;
            let problem = answer.json()["type"].clone();
            assert_eq!((answer.status, problem.as_str()), (412, Some("/problems/wrong-revision")), "{method} {wrong}");
        }
        assert_eq!(service.card("M-1").await, before, "{method}");
        let (alone, listed) = (format!("\"{revision}\""), format!("\"70\", \"{}\"", revision + 1));
        for right in [alone.as_str(), listed.as_str(), "*"] {
            revision += 1;
            let answer = send(&method, right, revision).await;
            let tag = format!("\"{revision}\"");
            assert_eq!((answer.status, answer.header("etag")), (200, tag.as_str()), "{method} {right}");
        }
        assert_eq!(send(&method, &alone, 99).await.status, 412, "it was right before the card changed: {method}");
    }
    let card = service.card("M-1").await;
    assert_eq!((&card["revision"], &card["attributes"]["points"]), (&json!(7), &json!(7)));
    service.stop().await;
}

async fn a_late_change_is_refused_and_changes_nothing(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &json!({"template": "bakery", "sequence": 10, "attributes": {"points": 1}})).await;
    for late in [9, 10] {
        let patch = json!({"sequence": late, "attributes": {"points": 99}});
        let answer = service.api(Method::PATCH, "/api/v1/cards/M-1", &patch).await;
        assert_eq!((answer.status, answer.json()["type"].as_str()), (409, Some("/problems/stale")));
    }
    // Stored even when nothing else changes; changes without one are taken as they come and leave it.
    assert_eq!(service.patch_card("M-1", &json!({"sequence": 20})).await["revision"], 1);
    assert_eq!(service.patch_card("M-1", &json!({"attributes": {"points": 2}})).await["sequence"], 20);
    let answer = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"sequence": 15})).await;
    assert_eq!(answer.status, 409);
    service.stop().await;
}

async fn what_changes_nothing_keeps_the_revision_and_wakes_nobody(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let document =
        json!({"template": "bakery", "locale": "lv", "attributes": {"points": 1, "balance": "12.50", "name": "Anna"}});
    let card = service.put_card("M-1", &document).await;
    let (mut phone, _) = service.phone_with(&card).await;
    service.wake(&mut phone).await;
    let (before, seen) =
        (service.card("M-1").await, service.api(Method::GET, "/api/v1/events", &Value::Null).await.json());
    // The same by another spelling is the same.
    let alike = json!({"template": "bakery", "locale": "lv", "state": "active", "expires_at": null,
        "attributes": {"balance": 12.5, "name": "Anna", "points": 1.0}});
    for document in [&document, &alike] {
        let answer = service.api(Method::PUT, "/api/v1/cards/M-1", document).await;
        assert_eq!((answer.status, answer.header("etag"), answer.json()), (200, "\"1\"", before.clone()));
    }
    for patch in [
        json!({}),
        json!({"attributes": {}}),
        json!({"attributes": {"points": 1, "note": null}}),
        json!({"locale": "lv"}),
    ] {
        assert_eq!(service.patch_card("M-1", &patch).await, before, "{patch}");
    }
    assert_eq!(service.deliver().await, 0);
    assert!(service.wake(&mut phone).await.is_empty());
    let told = service.api(Method::GET, "/api/v1/events", &Value::Null).await.json();
    assert_eq!(told, seen, "nothing happened");
    service.stop().await;
}

async fn what_a_card_shows_may_be_put_back_and_is_kept_when_a_default_changes(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let before = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let aloud = json!({"template": "bakery", "locale": before["locale"], "attributes": before["attributes"]});
    let answer = service.api(Method::PUT, "/api/v1/cards/M-1", &aloud).await;
    assert_eq!((answer.status, answer.header("etag"), answer.json()), (200, "\"1\"", before.clone()));
    // The backend's word stays its word.
    let mut document = bakery();
    assert_eq!(document["attributes"][0]["default"], 0);
    document["attributes"][0]["default"] = json!(7);
    service.publish("bakery", &document).await;
    assert_eq!(service.card("M-1").await["attributes"]["points"], 0);
    service.put_card("M-2", &json!({"template": "bakery"})).await;
    assert_eq!(service.card("M-2").await["attributes"]["points"], 7);
    service.stop().await;
}

async fn a_sequence_may_be_a_moment_in_nanoseconds(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let moment = 1_795_000_000_123_456_789_i64;
    let card = service.put_card("M-1", &json!({"template": "bakery", "sequence": moment})).await;
    assert_eq!(card["sequence"], moment);
    let late = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"sequence": moment - 1})).await;
    assert_eq!(late.status, 409);
    let beyond = service.api(Method::PATCH, "/api/v1/cards/M-1", &json!({"sequence": u64::MAX})).await;
    assert_eq!((beyond.status, beyond.pointers()), (422, vec!["/sequence".to_owned()]));
    service.stop().await;
}

async fn what_takes_get_takes_head(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &json!({"template": "bakery"})).await;
    for path in
        ["/metrics", "/api/docs", "/api/openapi.json", "/problems/invalid", "/api/v1/cards/M-1", "/api/v1/cards"]
    {
        let headers = [("authorization", &*format!("Bearer {}", service.key))];
        let get = service.send(Method::GET, path, &headers, Vec::new()).await;
        let head = service.send(Method::HEAD, path, &headers, Vec::new()).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    assert_eq!(service.send(Method::HEAD, "/api/v1/cards/M-1", &[], Vec::new()).await.status, 401);
    let refused = service.send(Method::POST, "/metrics", &[], Vec::new()).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
    service.stop().await;
}

async fn fifty_requests_for_one_new_card_issue_one_card(database: TestDatabase) {
    let service = std::sync::Arc::new(Service::shop(&database).await);
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await })
        })
        .collect();
    let mut created = 0;
    let mut serials = std::collections::BTreeSet::new();
    for request in requests {
        let answer = request.await.unwrap();
        created += i32::from(answer.status == 201);
        serials.insert(answer.json()["serial_number"].as_str().unwrap().to_owned());
    }
    assert_eq!((created, serials.len()), (1, 1));
    assert_eq!(service.card("M-1").await["revision"], 1);
}

async fn states_and_ends_reach_the_pass(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let card = service.put_card("M-1", &json!({"template": "bakery", "expires_at": "2099-12-31T22:00:00+02:00"})).await;
    assert_eq!(card["expires_at"], "2099-12-31T20:00:00.000000Z");
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(phone.passes()[&serial].pass["expirationDate"], "2099-12-31T20:00:00Z");
    service.patch_card("M-1", &json!({"state": "voided"})).await;
    service.wake(&mut phone).await;
    assert_eq!(phone.passes()[&serial].pass["voided"], true);
    service.patch_card("M-1", &json!({"state": "expired"})).await;
    service.wake(&mut phone).await;
    let pass = &phone.passes()[&serial].pass;
    assert_eq!(
        (pass.get("voided"), pass["expirationDate"].as_str()),
        (None, Some(service.now().to_rfc3339_seconds().as_str()))
    );
    service.patch_card("M-1", &json!({"state": "active", "expires_at": null})).await;
    service.wake(&mut phone).await;
    assert_eq!(phone.passes()[&serial].pass.get("expirationDate"), None);
    service.deliver().await;
    service.clock.advance(std::time::Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn a_card_needs_a_published_template(database: TestDatabase) {
    let service = Service::start(&database).await;
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    assert_eq!(put.status, 201);
    let answer = service.api(Method::PUT, "/api/v1/cards/M-1", &anna(1)).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (409, Some("/problems/template-not-published")));
    let both = service.api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery", "state": "x"})).await;
    assert_eq!(both.status, 422, "what is wrong is told before what is missing");
    service.stop().await;
}

async fn values_that_a_phone_would_refuse_are_named_at_their_attribute(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["barcode"] = json!({"format": "code128", "value": "{{ note | default('M') }}"});
    service.publish("bakery", &document).await;
    let answer = service
        .api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery", "attributes": {"note": "Ж".repeat(10)}}))
        .await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/attributes/note".to_owned()]), "{}", answer.json());
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-1", &Value::Null).await.status, 404);

    document["barcode"]["value"] = json!("{{ note }}");
    service.publish("bakery", &document).await;
    let answer = service.api(Method::PUT, "/api/v1/cards/M-1", &json!({"template": "bakery"})).await;
    assert_eq!(
        (answer.status, answer.pointers()),
        (422, vec!["/attributes/note".to_owned()]),
        "a barcode needs its value"
    );
    service.stop().await;
}

async fn a_failure_inside_answers_without_its_cause(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &anna(1)).await;
    service.app.store.close().await;
    let answer = service.api(Method::GET, "/api/v1/cards/M-1", &Value::Null).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    let text = answer.json().to_string();
    assert!(!text.contains("pool") && !text.contains("sqlx") && !text.contains("closed"), "{text}");
    assert_eq!(answer.header("x-request-id").len(), 36);
    assert_eq!(service.send(Method::GET, "/healthz", &[], Vec::new()).await.status, 200);
    assert_eq!(service.send(Method::GET, "/readyz", &[], Vec::new()).await.status, 503);
    let phone =
        service.send(Method::GET, "/apple/v1/devices/d/registrations/pass.dev.passloom.sandbox", &[], Vec::new()).await;
    assert_eq!((phone.status, phone.body.len()), (503, 0));
}
