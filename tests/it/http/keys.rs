//! Workspaces and the keys that open them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{ADMIN_KEY, Service};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    only_the_bootstrap_key_adds_workspaces,
    keys_are_made_listed_and_revoked_within_their_workspace,
    a_revoked_key_opens_nothing_on_any_node,
    all_faults_of_a_key_or_workspace_are_named_at_once,
    lists_of_keys_come_in_pages,
];

async fn only_the_bootstrap_key_adds_workspaces(database: TestDatabase) {
    let service = Service::start(&database).await;
    let bakery = json!({"id": "bakery", "name": "Kuzina"});
    let answer = service.api(Method::POST, "/api/v1/workspaces", &bakery).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (403, Some("/problems/forbidden")), "an admin key");
    let answer = service.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &bakery).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, "no-store"));
    let made = answer.json();
    assert_eq!((&made["id"], &made["name"]), (&json!("bakery"), &json!("Kuzina")));
    assert_eq!(made["key"]["scopes"], json!(["admin"]));
    assert_eq!(made.as_object().unwrap().len(), 3);
    assert_eq!(made["key"].as_object().unwrap().keys().collect::<Vec<_>>(), ["id", "name", "scopes", "secret"]);
    let key = made["key"]["secret"].as_str().unwrap();
    let keys = service.api_as(key, Method::GET, "/api/v1/keys", &Value::Null).await.json();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    assert_eq!(keys["data"][0]["id"], made["key"]["id"]);
    let again = service.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &bakery).await;
    assert_eq!((again.status, again.json()["type"].as_str()), (409, Some("/problems/already-exists")));
    let other = service.api_as(key, Method::POST, "/api/v1/workspaces", &json!({"id": "spa", "name": "Spa"})).await;
    assert_eq!(other.status, 403, "a workspace's own key");
    service.stop().await;
}

async fn keys_are_made_listed_and_revoked_within_their_workspace(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (bakery, spa) = (service.workspace("bakery").await, service.workspace("spa").await);
    service.clock.advance(std::time::Duration::from_secs(1));
    let wanted = json!({"name": "Till", "scopes": ["cards:write", "links:read", "cards:write"]});
    let answer = service.api_as(&bakery, Method::POST, "/api/v1/keys", &wanted).await;
    assert_eq!(answer.status, 201);
    let made = answer.json();
    assert_eq!((&made["name"], &made["scopes"]), (&json!("Till"), &json!(["cards:write", "links:read"])));
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());

    let list = service.api_as(&bakery, Method::GET, "/api/v1/keys", &Value::Null).await;
    assert!(!String::from_utf8_lossy(&list.body).contains(secret), "a secret is shown once");
    let listed = &list.json()["data"][1];
    assert_eq!(
        *listed,
        json!({"id": id, "name": "Till", "scopes": ["cards:write", "links:read"],
            "created_at": service.now(), "revoked": false, "revoked_at": null})
    );
    // The database knows its hash alone.
    let mut reader = service.app.store.read().await.unwrap();
    let hash = passloom::platform::secrets::fingerprint(secret);
    assert!(passloom::store::api_keys::find(&mut reader, &hash).await.unwrap().is_some());
    drop(reader);

    assert_eq!(service.api_as(secret, Method::GET, "/api/v1/cards/x", &Value::Null).await.status, 404);
    assert_eq!(service.api_as(secret, Method::GET, "/api/v1/keys", &Value::Null).await.status, 403);
    let path = format!("/api/v1/keys/{id}");
    let foreign = service.api_as(&spa, Method::DELETE, &path, &Value::Null).await;
    let unknown = service.api_as(&spa, Method::DELETE, "/api/v1/keys/nothing", &Value::Null).await;
    assert_eq!((foreign.status, foreign.json()), (404, unknown.json()));
    assert_eq!(service.api_as(&bakery, Method::DELETE, "/api/v1/keys/a%00b", &Value::Null).await.status, 404);
    service.clock.advance(std::time::Duration::from_secs(5));
    for _ in 0..2 {
        assert_eq!(service.api_as(&bakery, Method::DELETE, &path, &Value::Null).await.status, 204);
        service.clock.advance(std::time::Duration::from_secs(5));
    }
    assert_eq!(service.api_as(secret, Method::GET, "/api/v1/cards/x", &Value::Null).await.status, 401);
    let list = service.api_as(&bakery, Method::GET, "/api/v1/keys", &Value::Null).await.json();
    let revoked = service.now().minus(std::time::Duration::from_secs(10));
    assert_eq!((&list["data"][1]["revoked"], &list["data"][1]["revoked_at"]), (&json!(true), &json!(revoked)));
    service.stop().await;
}

async fn a_revoked_key_opens_nothing_on_any_node(database: TestDatabase) {
    let (one, other) = (Service::start(&database).await, Service::start(&database).await);
    let admin = one.workspace("bakery").await;
    let made =
        one.api_as(&admin, Method::POST, "/api/v1/keys", &json!({"name": "a", "scopes": ["admin"]})).await.json();
    let secret = made["secret"].as_str().unwrap();
    for node in [&one, &other] {
        assert_eq!(node.api_as(secret, Method::GET, "/api/v1/keys", &Value::Null).await.status, 200);
    }
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(one.api_as(secret, Method::DELETE, &path, &Value::Null).await.status, 204, "its own last act");
    for node in [&one, &other] {
        assert_eq!(node.api_as(secret, Method::GET, "/api/v1/keys", &Value::Null).await.status, 401);
    }
    one.stop().await;
    other.stop().await;
}

async fn all_faults_of_a_key_or_workspace_are_named_at_once(database: TestDatabase) {
    let service = Service::start(&database).await;
    let wrong = json!({"name": "a\nb", "scopes": ["admin", "cards:delete", 7], "secret": "mine"});
    let answer = service.api(Method::POST, "/api/v1/keys", &wrong).await;
    assert_eq!(answer.status, 422);
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!(pointers, ["/name", "/scopes/1", "/scopes/2", "/secret"]);
    for (body, expected) in [
        (json!({}), vec!["/name", "/scopes"]),
        (json!({"name": "a", "scopes": []}), vec!["/scopes"]),
        (json!({"name": " ", "scopes": "admin"}), vec!["/name", "/scopes"]),
        (json!([]), vec![""]),
    ] {
        let answer = service.api(Method::POST, "/api/v1/keys", &body).await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, expected.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    for (body, expected) in [
        (json!({"id": "a b", "name": ""}), vec!["/id", "/name"]),
        (json!({"id": "x".repeat(65), "nmae": "x"}), vec!["/id", "/name", "/nmae"]),
    ] {
        let answer = service.api_as(ADMIN_KEY, Method::POST, "/api/v1/workspaces", &body).await;
        assert_eq!(
            (answer.status, answer.pointers()),
            (422, expected.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    service.stop().await;
}

async fn lists_of_keys_come_in_pages(database: TestDatabase) {
    let service = Service::start(&database).await;
    let admin = service.workspace("bakery").await;
    for _ in 0..4 {
        service.clock.advance(std::time::Duration::from_millis(2));
        service.new_key(&admin, &["cards:read"]).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for expected in [2, 2, 1] {
        let page =
            service.api_as(&admin, Method::GET, &format!("/api/v1/keys?limit=2{cursor}"), &Value::Null).await.json();
        let data = page["data"].as_array().unwrap();
        assert_eq!(data.len(), expected);
        seen.extend(data.iter().map(|key| key["created_at"].as_str().unwrap().to_owned()));
        cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap_or_default());
    }
    assert_eq!(cursor, "&cursor=", "the last page has no next one");
    assert!(seen.is_sorted() && seen.len() == 5);
    let wrong = service.api_as(&admin, Method::GET, "/api/v1/keys?limit=0&cursor=x&page=1", &Value::Null).await;
    assert_eq!(
        (wrong.status, wrong.pointers()),
        (422, vec!["/limit".to_owned(), "/cursor".to_owned(), "/page".to_owned()])
    );
    service.stop().await;
}
