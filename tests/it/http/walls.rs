//! The wall between workspaces: every route of the list is walked with another workspace's key, with a key of too narrow
//! scope, and without any.

use std::collections::BTreeMap;

use passloom::actions::keys::Scope;
use passloom::http::endpoint::Endpoint;
use passloom::http::openapi::Needs;
use passloom::http::routes::BACKENDS;
use passloom::store::issuers::{self, AppleCertificateKey};
use reqwest::Method;
use serde_json::{Value, json};

use super::issuers::{document, mint};
use super::template_archives::zip_of;
use crate::support::service::{ADMIN_KEY, Answer, PASS_TYPE, Service, bakery, png};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![another_workspaces_key_finds_nothing_and_changes_nothing, every_route_asks_for_a_key_of_its_scope,];

const NOBODYS_KEY: &str = "01a216c2-4868-75a6-8a33-6857f4940ba5";

const CERTIFICATE: &str = "5ea1edc0de5ea1edc0de5ea1edc0de5ea1edc0de5ea1edc0de5ea1edc0de5ea1";
const NOBODYS_CERTIFICATE: &str = "0b0d1e50b0d1e50b0d1e50b0d1e50b0d1e50b0d1e50b0d1e50b0d1e50b0d1e50";

/// What every route is asked with, and how it answers a workspace that has nothing yet: alike for what another workspace
/// has and for what nobody has. Where that isn't 404, the address names what the asker makes or has for himself.
fn case(method: &str, path: &str) -> Option<(Vec<u8>, u16)> {
    let card = json!({"template": "walled", "attributes": {"points": 1}});
    let json = |value: Value, status: u16| Some((value.to_string().into_bytes(), status));
    let nothing = |status: u16| Some((Vec::new(), status));
    match (method, path) {
        // Another's template is not one of this workspace.
        ("put", "/api/v1/cards/{id}") => json(card, 422),
        ("patch", "/api/v1/cards/{id}") => json(json!({"attributes": {"points": 2}}), 404),
        ("get", "/api/v1/cards/{id}") => nothing(404),
        ("get", "/api/v1/cards/{id}/apple") => nothing(404),
        ("get", "/api/v1/cards/{id}/events" | "/api/v1/cards/{id}/delivery") => nothing(404),
        ("delete", "/api/v1/cards/{id}") => nothing(404),
        ("get", "/api/v1/cards" | "/api/v1/events" | "/api/v1/audit") => nothing(200),
        ("post", "/api/v1/cards/bulk") => json(json!({"id": "B-1", "template": "walled"}), 200),
        // One of his own, of the same name.
        ("put", "/api/v1/templates/{id}") => json(bakery(), 201),
        ("get" | "delete", "/api/v1/templates/{id}") => nothing(404),
        ("get", "/api/v1/templates") => nothing(200),
        ("post", "/api/v1/templates") => json(bakery(), 201),
        ("get", "/api/v1/templates/{id}/images" | "/api/v1/templates/{id}/versions") => nothing(404),
        ("post", "/api/v1/templates/{id}/check" | "/api/v1/templates/{id}/versions/{version}/restore") => nothing(404),
        ("post", "/api/v1/templates/{id}/preview") => json(json!({"attributes": {}}), 404),
        ("put", "/api/v1/templates/{id}/images/{role}") => Some((png(10, 10), 404)),
        ("get" | "delete", "/api/v1/templates/{id}/images/{role}") => nothing(404),
        ("post", "/api/v1/templates/{id}/publish") => nothing(404),
        ("get", "/api/v1/templates/{id}/export") => nothing(404),
        ("post", "/api/v1/templates/import") => {
            Some((zip_of(&[("template.json", bakery().to_string().as_bytes())]), 201))
        }
        ("post", "/api/v1/workspaces") => json(json!({"id": "more", "name": "More"}), 403),
        ("get", "/api/v1/devices/logs") => nothing(200),
        ("get", "/api/v1/keys") => nothing(200),
        ("post", "/api/v1/keys") => json(json!({"name": "mine", "scopes": ["cards:read"]}), 201),
        ("delete", "/api/v1/keys/{id}") => nothing(404),
        ("get", "/api/v1/issuers/apple") => nothing(200),
        // A certificate of his own stands there already; this one can't be read.
        ("put", "/api/v1/issuers/apple") => json(json!({"certificate": "?", "key": "?"}), 422),
        ("delete", "/api/v1/issuers/apple/{fingerprint}") => nothing(404),
        _ => None,
    }
}

/// What stands in the place of a name in an address: something of the first workspace, and something of nobody.
fn named(path: &str, name: &str, key: &str) -> (String, String) {
    let pair = |theirs: &str, nobodys: &str| (theirs.to_owned(), nobodys.to_owned());
    match (path.split('/').nth(3).unwrap_or_default(), name) {
        ("cards", "id") => pair("W-1", "N-1"),
        ("templates", "id") => pair("walled", "nobodys"),
        ("keys", "id") => pair(key, NOBODYS_KEY),
        ("issuers", "fingerprint") => pair(CERTIFICATE, NOBODYS_CERTIFICATE),
        (_, "role") => pair("icon", "icon"),
        (_, "version") => pair("1", "1"),
        (noun, name) => panic!("say in tests/it/http/walls.rs what {{{name}}} of {noun} is named"),
    }
}

fn filled(endpoint: &Endpoint, key: &str) -> (String, String) {
    let (mut theirs, mut nobodys) = (endpoint.path.to_owned(), endpoint.path.to_owned());
    for name in endpoint.path.split(['{', '}']).skip(1).step_by(2) {
        let (one, other) = named(endpoint.path, name, key);
        theirs = theirs.replace(&format!("{{{name}}}"), &one);
        nobodys = nobodys.replace(&format!("{{{name}}}"), &other);
    }
    (theirs, nobodys)
}

fn method(endpoint: &Endpoint) -> Method {
    endpoint.method.to_uppercase().parse().unwrap()
}

fn place(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.method, endpoint.path)
}

async fn ask(service: &Service, bearer: Option<&str>, endpoint: &Endpoint, path: &str, body: Vec<u8>) -> Answer {
    let bearer = bearer.map(|key| format!("Bearer {key}"));
    let mut headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
    if endpoint.path == "/api/v1/cards/bulk" {
        headers.push(("content-type", "application/x-ndjson"));
    }
    service.send(method(endpoint), path, &headers, body).await
}

/// Everything that the first workspace can read of itself.
async fn seen(service: &Service, key: &str) -> BTreeMap<String, Vec<u8>> {
    let mut seen = BTreeMap::new();
    for endpoint in BACKENDS.iter().filter(|endpoint| endpoint.method == "get") {
        let path = filled(endpoint, key).0;
        let answer = ask(service, Some(&service.key), endpoint, &path, Vec::new()).await;
        assert_eq!(answer.status, 200, "{}: {}", place(endpoint), answer.json());
        seen.insert(path, answer.body);
    }
    seen
}

/// A service with one of everything in the workspace of its key; the id of a further key there.
async fn furnished(database: &TestDatabase) -> (Service, String) {
    let service = Service::start(database).await;
    let mut template = bakery();
    template["organization"] = json!("Walled garden");
    service.publish("walled", &template).await;
    service.put_card("W-1", &json!({"template": "walled", "attributes": {"points": 1, "name": "Walda"}})).await;
    let key = service.api(Method::POST, "/api/v1/keys", &json!({"name": "Walled", "scopes": ["cards:read"]})).await;
    let key = key.json()["id"].as_str().unwrap().to_owned();
    let mut tx = service.app.store.begin().await.unwrap();
    let certificate = AppleCertificateKey {
        workspace: passloom::actions::keys::default_workspace(),
        pass_type: passloom::domain::ids::PassTypeId::parse(PASS_TYPE).unwrap(),
        fingerprint: CERTIFICATE.to_owned(),
        set_at: service.now(),
    };
    issuers::put_apple(&mut tx, &certificate, b"not to be opened").await.unwrap();
    tx.commit().await.unwrap();
    (service, key)
}

async fn another_workspaces_key_finds_nothing_and_changes_nothing(database: TestDatabase) {
    let (service, key) = furnished(&database).await;
    let stranger = service.workspace("stranger").await;
    let own = document(&mint(&service, "pass.test.stranger", service.now()));
    assert_eq!(service.api_as(&stranger, Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    let before = seen(&service, &key).await;
    let mut walk: Vec<(&Endpoint, Vec<u8>, u16)> = Vec::new();
    for endpoint in BACKENDS {
        let Some((body, expected)) = case(endpoint.method, endpoint.path) else {
            panic!("{} is new: say in tests/it/http/walls.rs how it answers another workspace's key", place(endpoint))
        };
        walk.push((endpoint, body, expected));
    }
    // What makes something of the stranger's own comes last.
    walk.sort_by_key(|(_, _, expected)| *expected == 201);
    for (endpoint, body, expected) in walk {
        let (theirs, nobodys) = filled(endpoint, &key);
        let answer = ask(&service, Some(&stranger), endpoint, &theirs, body.clone()).await;
        assert_eq!(answer.status, expected, "{}: {}", place(endpoint), answer.json());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if theirs == nobodys {
            // A list, or the workspace's own: nothing of the other's stands in it.
            for mark in ["Wal", "W-1", "walled", &key, "pass.dev.passloom"] {
                assert!(!text.contains(mark), "{} shows {mark}: {text}", place(endpoint));
            }
        } else {
            let unknown = ask(&service, Some(&stranger), endpoint, &nobodys, body).await;
            assert_eq!(unknown.status, expected, "{}: {}", place(endpoint), unknown.json());
            let unknown = String::from_utf8_lossy(&unknown.body).replace("nobodys", "walled");
            let unknown = unknown.replace("N-1", "W-1").replace(NOBODYS_KEY, &key);
            assert_eq!(text, unknown, "{} tells what exists elsewhere", place(endpoint));
        }
    }
    let stored = issuers::list_apple(&mut service.app.store.read().await.unwrap()).await.unwrap();
    assert!(
        stored.iter().any(|stored| stored.fingerprint == CERTIFICATE),
        "its certificate is not another's to remove"
    );
    assert_eq!(seen(&service, &key).await, before, "nothing of the first workspace has changed");
    service.stop().await;
}

async fn every_route_asks_for_a_key_of_its_scope(database: TestDatabase) {
    let (service, key) = furnished(&database).await;
    let mut narrow: BTreeMap<&'static str, String> = BTreeMap::new();
    for wanted in Scope::ALL {
        // Everything but what grants it: writing includes reading.
        let noun = wanted.name().split(':').next().unwrap();
        let grants = |scope: &str| match wanted {
            Scope::Admin => scope == "admin",
            _ => scope == "admin" || scope == wanted.name() || scope == format!("{noun}:write"),
        };
        let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).filter(|scope| !grants(scope)).collect();
        narrow.insert(wanted.name(), service.new_key(ADMIN_KEY, &scopes).await);
    }
    for endpoint in BACKENDS {
        // HEAD needs what GET needs.
        let described = BACKENDS.iter().find(|other| other.path == endpoint.path && other.operation.is_some());
        let needs = endpoint.operation.or(described.and_then(|other| other.operation)).unwrap().needs;
        let (path, _) = filled(endpoint, &key);
        let bearer = match needs {
            Needs::Scope(scope) => &narrow[scope.name()],
            Needs::BootstrapKey => &service.key,
        };
        let (body, _) = case(endpoint.method, endpoint.path).unwrap_or_default();
        for (bearer, expected) in [(None, 401), (Some("pl_nobodys"), 401), (Some(bearer.as_str()), 403)] {
            let answer = ask(&service, bearer, endpoint, &path, body.clone()).await;
            assert_eq!(answer.status, expected, "{}: {}", place(endpoint), answer.json());
        }
    }
    service.stop().await;
}
