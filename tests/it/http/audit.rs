//! Who changed what: the actor of each event, and the audit list.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::issuers::{document, mint};
use crate::support::service::{ADMIN_KEY, Service, anna, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    an_event_names_the_key_that_asked_and_the_system_for_what_phones_do,
    the_audit_list_tells_which_key_did_what_and_no_secret,
    the_audit_list_comes_in_pages_in_the_order_of_commits,
    the_audit_list_is_filtered_by_actor_kind_and_card,
    of_an_erased_card_the_audit_list_keeps_the_erasure_only,
    what_changes_nothing_is_no_entry,
    a_query_of_the_audit_list_that_breaks_rules_is_refused_with_its_pointers,
    many_actors_at_once_are_listed_without_a_gap,
];

async fn read(service: &Service, key: &str, path: &str) -> Vec<Value> {
    let answer = service.api_as(key, Method::GET, path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["data"].as_array().unwrap().clone()
}

async fn audit(service: &Service, query: &str) -> Vec<Value> {
    read(service, &service.key, &format!("/api/v1/audit?limit=1000{query}")).await
}

/// The kind, and the subject's id.
fn told(entries: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(&entry["type"]), text(&entry["subject"]["id"]))).collect()
}

/// The ids of keys are told in events, so that a list of keys says whose name stands behind them.
async fn id_of_the_only_key(service: &Service, key: &str) -> String {
    let keys = read(service, key, "/api/v1/keys").await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0]["id"].as_str().unwrap().to_owned()
}

async fn an_event_names_the_key_that_asked_and_the_system_for_what_phones_do(database: TestDatabase) {
    let service = Service::start(&database).await;
    let key = json!({"kind": "api_key", "id": id_of_the_only_key(&service, &service.key).await});
    let bootstrap = json!({"kind": "api_key", "id": "bootstrap"});
    let system = json!({"kind": "system", "id": null});
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let patch = json!({"attributes": {"points": 2}});
    assert_eq!(service.api_as(ADMIN_KEY, Method::PATCH, "/api/v1/cards/M-1", &patch).await.status, 200);
    let line = json!({"id": "M-2", "template": "bakery"}).to_string().into_bytes();
    let headers = [("authorization", format!("Bearer {ADMIN_KEY}"))];
    let headers = [("authorization", headers[0].1.as_str()), ("content-type", "application/x-ndjson")];
    assert_eq!(service.send(Method::POST, "/api/v1/cards/bulk", &headers, line).await.status, 200);
    phone.remove(&serial).await.unwrap();
    service.deliver().await;

    let events = read(&service, &service.key, "/api/v1/events").await;
    for event in &events {
        let expected = match (event["type"].as_str().unwrap(), event["data"]["card"].as_str()) {
            ("template.published", _) | ("card.created", Some("M-1")) => &key,
            ("card.updated", _) | ("card.created", _) => &bootstrap,
            _ => &system,
        };
        assert_eq!(&event["actor"], expected, "{event}");
    }
    let kinds: BTreeSet<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for kind in ["card.installed", "card.removed", "card.fetched", "card.updated"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    let timeline = read(&service, &service.key, "/api/v1/cards/M-1/events").await;
    assert_eq!(timeline[0]["actor"], key, "a card's timeline shows the same");
    service.stop().await;
}

async fn the_audit_list_tells_which_key_did_what_and_no_secret(database: TestDatabase) {
    let mut service = Service::start(&database).await;
    let first = service.workspace("spa").await;
    let owner = id_of_the_only_key(&service, &first).await;
    let body = json!({"name": "Till of Anna", "scopes": ["cards:write", "templates:write"]});
    let made = service.api_as(&first, Method::POST, "/api/v1/keys", &body).await.json();
    let (till, till_id) = (made["secret"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned());
    let certificate = document(&mint(&service, "pass.test.spa", service.now()));
    assert_eq!(service.api_as(&first, Method::PUT, "/api/v1/issuers/apple", &certificate).await.status, 200);
    let other = document(&mint(&service, "pass.test.spa.other", service.now()));
    let other = service.api_as(&first, Method::PUT, "/api/v1/issuers/apple", &other).await.json();
    let all = other["certificates"].as_array().unwrap();
    let other = all.iter().find(|one| one["pass_type"] == "pass.test.spa.other").unwrap()["fingerprint"].clone();
    let other = other.as_str().unwrap();
    let path = format!("/api/v1/issuers/apple/{other}");
    assert_eq!(service.api_as(&first, Method::DELETE, &path, &Value::Null).await.status, 204);
    service.key = till.clone();
    service.publish("bakery", &bakery()).await;
    service.put_image("bakery", "strip?tier=gold", &png(750, 288)).await;
    let picture = "/api/v1/templates/bakery/images/strip?tier=gold";
    assert_eq!(service.api(Method::DELETE, picture, &Value::Null).await.status, 204);
    let restore = "/api/v1/templates/bakery/versions/1/restore";
    assert!(service.api(Method::POST, restore, &Value::Null).await.status < 300);
    let archive = service.api(Method::GET, "/api/v1/templates/bakery/export", &Value::Null).await.body;
    let bearer = format!("Bearer {till}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/zip")];
    let imported = service.send(Method::POST, "/api/v1/templates/import?id=copy", &headers, archive).await;
    assert_eq!(imported.status, 201, "{}", imported.json());
    assert_eq!(service.api(Method::DELETE, "/api/v1/templates/copy", &Value::Null).await.status, 204);
    service.put_card("M-1", &anna(1)).await;
    service.patch_card("M-1", &json!({"attributes": {"name": "Berta"}})).await;
    let path = format!("/api/v1/keys/{till_id}");
    assert_eq!(service.api_as(&first, Method::DELETE, &path, &Value::Null).await.status, 204);

    let entries = read(&service, &first, "/api/v1/audit").await;
    let actors: Vec<&str> = entries.iter().map(|entry| entry["actor"]["id"].as_str().unwrap()).collect();
    let (o, t) = (owner.as_str(), till_id.as_str());
    let expected = [
        ("bootstrap", "workspace.created", "spa"),
        ("bootstrap", "key.created", o),
        (o, "key.created", t),
        (o, "issuer.put", "pass.test.spa"),
        (o, "issuer.put", "pass.test.spa.other"),
        (o, "certificate.removed", other),
        (t, "template.put", "bakery"),
        (t, "template.image_put", "bakery"),
        (t, "template.published", "bakery"),
        (t, "template.image_put", "bakery"),
        (t, "template.image_deleted", "bakery"),
        (t, "template.restored", "bakery"),
        (t, "template.imported", "copy"),
        (t, "template.deleted", "copy"),
        (t, "card.created", "M-1"),
        (t, "card.updated", "M-1"),
        (o, "key.revoked", t),
    ];
    let listed: Vec<_> = told(&entries);
    let listed: Vec<_> = actors.iter().zip(&listed).map(|(actor, (kind, id))| (*actor, &**kind, &**id)).collect();
    assert_eq!(listed, expected);
    assert_eq!(entries[10]["data"], json!({"role": "strip", "locale": null, "tier": "gold"}));
    assert_eq!(entries[11]["data"], json!({"version": 1}));
    assert_eq!(entries[2]["data"], json!({"scopes": ["cards:write", "templates:write"]}));
    let text = json!(entries).to_string();
    for secret in [&first, &till, "Berta", "Anna", "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret} is told");
    }
    service.stop_with_work_left().await;
}

async fn the_audit_list_comes_in_pages_in_the_order_of_commits(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    service.phone_with(&card).await;
    for points in 2..5 {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
        service.new_key(ADMIN_KEY, &["cards:read"]).await;
    }
    let whole = audit(&service, "").await;
    let kinds: Vec<String> = told(&whole).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        kinds.iter().skip(2).map(String::as_str).collect::<Vec<_>>(),
        [
            "template.put",
            "template.image_put",
            "template.published",
            "card.created",
            "card.updated",
            "key.created",
            "card.updated",
            "key.created",
            "card.updated",
            "key.created"
        ]
    );
    for limit in [1, 3, 7] {
        let (mut read, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/audit?limit={limit}{cursor}");
            let page = service.api(Method::GET, &path, &Value::Null).await.json();
            assert!(page["data"].as_array().unwrap().len() <= limit);
            read.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(read, whole, "{limit} at a time");
    }
    service.deliver().await;
    service.stop().await;
}

async fn the_audit_list_is_filtered_by_actor_kind_and_card(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    service.put_card("M-2", &anna(1)).await;
    let patch = json!({"attributes": {"points": 2}});
    assert_eq!(service.api_as(ADMIN_KEY, Method::PATCH, "/api/v1/cards/M-2", &patch).await.status, 200);
    let own = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    assert_eq!(told(&audit(&service, "&actor=api_key:bootstrap").await), [own("card.updated", "M-2")]);
    assert_eq!(told(&audit(&service, "&type=card.created&card=M-2").await), [own("card.created", "M-2")]);
    assert_eq!(told(&audit(&service, "&type=template.published").await), [own("template.published", "bakery")]);
    assert_eq!(audit(&service, "&card=nobody").await, Vec::<Value>::new());
    assert_eq!(audit(&service, "&actor=user:nobody").await, Vec::<Value>::new());
    let by_system = told(&audit(&service, "&actor=system").await);
    assert_eq!(by_system[0], own("workspace.created", "default"), "what the start makes comes from the system");
    assert_eq!(by_system.len(), 2, "{by_system:?}");
    service.deliver().await;
    service.stop().await;
}

async fn of_an_erased_card_the_audit_list_keeps_the_erasure_only(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    assert_eq!(service.api_as(ADMIN_KEY, Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    let entries = audit(&service, "").await;
    let of_cards: Vec<&Value> = entries.iter().filter(|entry| entry["subject"]["kind"] == "card").collect();
    assert_eq!(of_cards.len(), 1, "{of_cards:?}");
    assert_eq!((&of_cards[0]["type"], &of_cards[0]["actor"]["id"]), (&json!("card.erased"), &json!("bootstrap")));
    assert_eq!(of_cards[0]["data"]["serial_number"], card["serial_number"]);
    assert!(!json!(entries).to_string().contains("M-1"), "the card's number may be personal");
    service.stop().await;
}

async fn what_changes_nothing_is_no_entry(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    let made = service.api(Method::POST, "/api/v1/keys", &json!({"name": "x", "scopes": ["admin"]})).await.json();
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(service.api(Method::DELETE, &path, &Value::Null).await.status, 204);
    let before = audit(&service, "").await;
    assert_eq!(service.api(Method::DELETE, &path, &Value::Null).await.status, 204, "revoked again");
    service.put_card("M-1", &anna(1)).await;
    assert_eq!(service.api(Method::POST, "/api/v1/templates/bakery/publish", &Value::Null).await.status, 200);
    let wrong = json!({"name": "", "scopes": []});
    assert_eq!(service.api(Method::POST, "/api/v1/keys", &wrong).await.status, 422);
    assert_eq!(service.api(Method::DELETE, "/api/v1/templates/bakery", &Value::Null).await.status, 409);
    let nobody = "/api/v1/keys/01a216c2-4868-75a6-8a33-6857f4940ba5";
    assert_eq!(service.api(Method::DELETE, nobody, &Value::Null).await.status, 404);
    assert_eq!(audit(&service, "").await, before);
    service.stop().await;
}

async fn a_query_of_the_audit_list_that_breaks_rules_is_refused_with_its_pointers(database: TestDatabase) {
    let service = Service::start(&database).await;
    for (query, pointers) in [
        ("actor=anna&type=card.pushed&card=.", vec!["/actor", "/type", "/card"]),
        ("limit=0&cursor=x&colour=red", vec!["/limit", "/cursor", "/colour"]),
        ("actor=api_key:", vec!["/actor"]),
    ] {
        let answer = service.api(Method::GET, &format!("/api/v1/audit?{query}"), &Value::Null).await;
        let pointers: Vec<String> = pointers.into_iter().map(str::to_owned).collect();
        assert_eq!((answer.status, answer.pointers()), (422, pointers), "{query}");
    }
    service.stop().await;
}

async fn many_actors_at_once_are_listed_without_a_gap(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let before = audit(&service, "").await.len();
    let writers = async {
        let puts = (0..30).map(|n| {
            let service = &service;
            async move {
                service.put_card(&format!("M-{n}"), &anna(n)).await;
                service.new_key(ADMIN_KEY, &["cards:read"]).await;
            }
        });
        futures_util::future::join_all(puts).await;
    };
    let reader = async {
        let (mut read, mut cursor) = (Vec::new(), String::new());
        while read.len() < before + 60 {
            let path = format!("/api/v1/audit?limit=7{cursor}");
            let page = service.api(Method::GET, &path, &Value::Null).await.json();
            // Without a cursor there was nothing more: the last page is asked for again.
            match page["next_cursor"].as_str() {
                Some(next) => {
                    read.extend(page["data"].as_array().unwrap().clone());
                    cursor = format!("&cursor={next}");
                }
                None if read.len() + page["data"].as_array().unwrap().len() == before + 60 => {
                    read.extend(page["data"].as_array().unwrap().clone());
                }
                None => {}
            }
        }
        read
    };
    let ((), read) = futures_util::future::join(writers, reader).await;
    assert_eq!(read, audit(&service, "").await, "nothing came before what had been read");
    service.stop().await;
}
