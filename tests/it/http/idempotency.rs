//! `Idempotency-Key`: what is sent twice is done once.

use std::sync::Arc;
use std::time::Duration;

use passloom::actions::idempotency::{Turn, prune, take_turn};
use passloom::domain::ids::WorkspaceId;
use passloom::http::idempotency::applies;
use passloom::http::routes::BACKENDS;
use passloom::store::idempotency::{Attempt, find};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{ADMIN_KEY, Answer, Service, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_repeat_gets_the_first_answer_and_nothing_is_done_twice,
    a_key_belongs_to_one_request_of_one_workspace,
    fifty_repeats_at_once_are_done_once,
    a_key_is_forgotten_after_a_day,
    an_unfit_key_is_refused,
    who_may_not_do_it_gets_no_answer_to_it,
    a_failure_inside_is_not_remembered,
    a_request_whose_node_died_is_done_when_it_is_repeated_later,
];

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn send(service: &Service, bearer: &str, path: &str, key: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = [("authorization", format!("Bearer {bearer}")), ("idempotency-key", key.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    service.send(Method::POST, path, &headers, body).await
}

async fn keys(service: &Service, bearer: &str) -> usize {
    let list = service.api_as(bearer, Method::GET, "/api/v1/keys", &Value::Null).await.json();
    list["data"].as_array().unwrap().len()
}

fn till() -> Value {
    json!({"name": "till", "scopes": ["cards:write"]})
}

async fn a_repeat_gets_the_first_answer_and_nothing_is_done_twice(database: TestDatabase) {
    let (one, other) = (Service::start(&database).await, Service::start(&database).await);
    let admin = one.workspace("bakery").await;
    let first = send(&one, &admin, "/api/v1/keys", "order-1", &till()).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    for node in [&one, &other] {
        let again = send(node, &admin, "/api/v1/keys", "order-1", &till()).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(again.header("idempotency-replayed"), "true");
        for header in ["content-type", "cache-control"] {
            assert_eq!(again.header(header), first.header(header));
        }
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(keys(&one, &admin).await, 2);
    // The answer holds a secret, and is kept encrypted.
    let secret = first.json()["secret"].as_str().unwrap().to_owned();
    let workspace = WorkspaceId::parse("bakery").unwrap();
    let kept = find(&mut one.app.store.read().await.unwrap(), &workspace, "order-1").await.unwrap().unwrap().1.unwrap();
    for part in [secret.as_bytes(), &secret.as_bytes()[..12]] {
        assert!(kept.windows(part.len()).all(|found| found != part));
    }
    // A refusal is an answer, too, and so is one without a body.
    let wrong = json!({"name": "till", "scopes": ["everything"]});
    let refused = send(&one, &admin, "/api/v1/keys", "order-2", &wrong).await;
    let again = send(&one, &admin, "/api/v1/keys", "order-2", &wrong).await;
    assert_eq!((refused.status, again.status, &refused.body), (422, 422, &again.body));
    let made = json!({"id": "spa", "name": "Spa"});
    let made = [
        send(&one, ADMIN_KEY, "/api/v1/workspaces", "order-3", &made).await,
        send(&one, ADMIN_KEY, "/api/v1/workspaces", "order-3", &made).await,
    ];
    assert_eq!(
        made.map(|answer| (answer.status, answer.body)).into_iter().collect::<std::collections::BTreeSet<_>>().len(),
        1
    );
    one.api_as(ADMIN_KEY, Method::PUT, "/api/v1/templates/bakery", &bakery()).await;
    let image = [("authorization", format!("Bearer {ADMIN_KEY}"))];
    let image = image.each_ref().map(|(name, value)| (*name, value.as_str()));
    one.send(Method::PUT, "/api/v1/templates/bakery/images/icon", &image, png(114, 114)).await;
    for _ in 0..2 {
        let published = send(&one, ADMIN_KEY, "/api/v1/templates/bakery/publish", "order-4", &Value::Null).await;
        assert_eq!((published.status, published.json()), (200, json!({"version": 1})));
    }
    one.stop().await;
    other.stop().await;
}

async fn a_key_belongs_to_one_request_of_one_workspace(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (bakery, spa) = (service.workspace("bakery").await, service.workspace("spa").await);
    assert_eq!(send(&service, &bakery, "/api/v1/keys", "order-1", &till()).await.status, 201);
    let mut other = till();
    other["name"] = json!("other");
    for (path, body) in [("/api/v1/keys", other), ("/api/v1/templates/x/publish", till())] {
        let answer = send(&service, &bakery, path, "order-1", &body).await;
        assert_eq!((answer.status, answer.json()["type"].as_str()), (422, Some("/problems/idempotency-key-reused")));
    }
    let answer = send(&service, &spa, "/api/v1/keys", "order-1", &till()).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, ""));
    assert_eq!((keys(&service, &bakery).await, keys(&service, &spa).await), (2, 2));
    service.stop().await;
}

async fn fifty_repeats_at_once_are_done_once(database: TestDatabase) {
    let service = Arc::new(Service::start(&database).await);
    let admin = service.workspace("bakery").await;
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let (service, admin) = (service.clone(), admin.clone());
            tokio::spawn(async move { send(&service, &admin, "/api/v1/keys", "order-1", &till()).await })
        })
        .collect();
    let mut made = std::collections::BTreeSet::new();
    for request in requests {
        let answer = request.await.unwrap();
        match answer.status {
            201 => _ = made.insert(answer.body),
            409 => {
                assert_eq!(answer.json()["type"], "/problems/request-under-way");
                assert_eq!(answer.header("retry-after"), "1");
            }
            other => panic!("{other}: {}", answer.json()),
        }
    }
    assert_eq!((made.len(), keys(&service, &admin).await), (1, 2));
    let later = send(&service, &admin, "/api/v1/keys", "order-1", &till()).await;
    assert!(made.contains(&later.body));
}

async fn a_key_is_forgotten_after_a_day(database: TestDatabase) {
    let service = Service::start(&database).await;
    let admin = service.workspace("bakery").await;
    let first = send(&service, &admin, "/api/v1/keys", "order-1", &till()).await;
    service.clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(prune(&service.app).await.unwrap(), 0);
    assert_eq!(send(&service, &admin, "/api/v1/keys", "order-1", &till()).await.body, first.body);
    service.clock.advance(Duration::from_secs(1));
    // Whether or not the job has been there.
    let anew = send(&service, &admin, "/api/v1/keys", "order-1", &till()).await;
    assert_eq!((anew.status, anew.body == first.body), (201, false));
    service.clock.advance(DAY);
    assert_eq!((prune(&service.app).await.unwrap(), prune(&service.app).await.unwrap()), (1, 0));
    service.stop().await;
}

async fn an_unfit_key_is_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    for key in ["", "a b", "\u{e9}", &"x".repeat(256)] {
        let answer = send(&service, ADMIN_KEY, "/api/v1/keys", key, &till()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/Idempotency-Key".to_owned()]), "{key:?}");
    }
    assert_eq!(send(&service, ADMIN_KEY, "/api/v1/keys", &"~".repeat(255), &till()).await.status, 201);
    let bearer = format!("Bearer {ADMIN_KEY}");
    let twice = [("authorization", bearer.as_str()), ("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = service.send(Method::POST, "/api/v1/keys", &twice, till().to_string().into_bytes()).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/Idempotency-Key".to_owned()]));
    service.stop().await;
}

async fn who_may_not_do_it_gets_no_answer_to_it(database: TestDatabase) {
    let service = Service::start(&database).await;
    let admin = service.workspace("bakery").await;
    let narrow = service.new_key(&admin, &["cards:write", "templates:write", "links:write"]).await;
    assert_eq!(send(&service, &narrow, "/api/v1/keys", "order-1", &till()).await.status, 403);
    // A refusal of that kind is no answer to keep: who may, does it.
    assert_eq!(send(&service, &admin, "/api/v1/keys", "order-1", &till()).await.status, 201);
    assert_eq!(send(&service, &narrow, "/api/v1/keys", "order-1", &till()).await.status, 403);
    assert_eq!(send(&service, "nobody", "/api/v1/keys", "order-1", &till()).await.status, 401);
    let spa = json!({"id": "spa", "name": "Spa"});
    assert_eq!(send(&service, ADMIN_KEY, "/api/v1/workspaces", "order-1", &spa).await.status, 201);
    assert_eq!(send(&service, &service.key, "/api/v1/workspaces", "order-1", &spa).await.status, 403);
    service.stop().await;
}

async fn a_failure_inside_is_not_remembered(database: TestDatabase) {
    let service = Service::start(&database).await;
    // The bootstrap key is known without that table.
    database.execute("ALTER TABLE api_keys RENAME TO elsewhere").await;
    assert_eq!(send(&service, ADMIN_KEY, "/api/v1/keys", "order-1", &till()).await.status, 500);
    database.execute("ALTER TABLE elsewhere RENAME TO api_keys").await;
    let answer = send(&service, ADMIN_KEY, "/api/v1/keys", "order-1", &till()).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, ""));
    service.stop().await;
}

async fn a_request_whose_node_died_is_done_when_it_is_repeated_later(database: TestDatabase) {
    use sha2::Digest;
    let service = Service::start(&database).await;
    let admin = service.workspace("bakery").await;
    let asked = format!("POST\0/api/v1/keys\0\0{}", till());
    let attempt = Attempt {
        workspace: WorkspaceId::parse("bakery").unwrap(),
        key: "order-1".to_owned(),
        fingerprint: sha2::Sha256::digest(asked).to_vec(),
        token: String::new(),
    };
    let Turn::First(_) = take_turn(&service.app, attempt).await.unwrap() else { panic!("it is the first") };
    assert_eq!(send(&service, &admin, "/api/v1/keys", "order-1", &till()).await.status, 409);
    service.clock.advance(Duration::from_secs(120));
    let answer = send(&service, &admin, "/api/v1/keys", "order-1", &till()).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, ""));
    assert_eq!(keys(&service, &admin).await, 2);
    service.stop().await;
}

/// POSTs that neither create nor send anything, or answer a stream.
const EXCEPTED: [&str; 3] = ["/api/v1/templates/{id}/check", "/api/v1/templates/{id}/preview", "/api/v1/cards/bulk"];

#[test]
fn every_post_that_creates_or_sends_something_honours_the_key() {
    for endpoint in BACKENDS {
        let operation = endpoint.operation.filter(|_| endpoint.method == "post");
        if let Some(operation) = operation {
            let expected = !EXCEPTED.contains(&endpoint.path);
            assert_eq!(
                applies(operation),
                expected,
                "POST {}: name parameters::IDEMPOTENCY_KEY in its description, or except it here",
                endpoint.path
            );
        }
    }
}
