//! Two requests that are both allowed are never a fault, whenever they come.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use passloom::actions::cards::expire_cards::expire_step;
use passloom::actions::fan_out::fan_out_step;
use passloom::domain::ids::{SerialNumber, WorkspaceId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{PASS_TYPE, Service, anna, bakery, png};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    no_two_requests_make_a_fault_of_each_other,
    a_draft_that_is_written_while_it_is_published_is_no_fault,
];

/// Requests that write; each may come at any time.
const REQUESTS: &[&str] = &[
    "PUT card",
    "PUT card of the template that goes",
    "PATCH card",
    "PATCH card to the template that goes",
    "DELETE card",
    "bulk",
    "expire",
    "register",
    "unregister",
    "fetch",
    "list",
    "PUT template",
    "DELETE template",
    "POST template",
    "import",
    "publish",
    "restore",
    "PUT image",
    "DELETE image",
    "check",
    "DELETE key",
];

/// A shop with a template that stays and one that comes and goes.
struct Shop {
    service: Service,
    serial: String,
    token: String,
    archive: Vec<u8>,
    key: String,
    count: AtomicUsize,
}

impl Shop {
    async fn open(database: &TestDatabase) -> Self {
        let service = Service::start(database).await;
        service.publish("bakery", &bakery()).await;
        let card = service.put_card("M-0", &anna(1)).await;
        let serial = card["serial_number"].as_str().unwrap().to_owned();
        let secret = service.app.secret(&WorkspaceId::parse("default").unwrap()).await.unwrap();
        let token = secret.auth_token(&SerialNumber::parse(&serial).unwrap()).as_str().to_owned();
        service.publish("passing", &bakery()).await;
        let export = "/api/v1/templates/passing/export";
        let archive = service.api(Method::GET, export, &Value::Null).await.body;
        let made = service.api(Method::POST, "/api/v1/keys", &json!({"name": "x", "scopes": ["cards:read"]})).await;
        let key = made.json()["id"].as_str().unwrap().to_owned();
        Self { service, serial, token, archive, key, count: AtomicUsize::new(0) }
    }

    /// Does what is said; the status.
    async fn request(&self, what: &str) -> u16 {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        let api = async |method, path: &str, body: Value| self.service.api(method, path, &body).await.status;
        let bearer = format!("Bearer {}", self.service.key);
        let raw = async |method, path: &str, body: Vec<u8>| {
            self.service.send(method, path, &[("authorization", &bearer)], body).await.status
        };
        let phone = async |method, path: &str, body: Vec<u8>| {
            let token = format!("ApplePass {}", self.token);
            self.service.send(method, path, &[("authorization", &token)], body).await.status
        };
        let of = |template: &str| json!({"template": template, "attributes": {"points": n, "name": "Anna"}});
        let template = "/api/v1/templates/passing";
        let registration = format!("/apple/v1/devices/d{}/registrations/{PASS_TYPE}", n % 2);
        match what {
            "PUT card" => api(Method::PUT, "/api/v1/cards/M-1", of("bakery")).await,
            "PUT card of the template that goes" => api(Method::PUT, "/api/v1/cards/M-1", of("passing")).await,
            "PATCH card" => api(Method::PATCH, "/api/v1/cards/M-1", json!({"attributes": {"points": n}})).await,
            "PATCH card to the template that goes" => {
                api(Method::PATCH, "/api/v1/cards/M-1", json!({"template": "passing"})).await
            }
            "DELETE card" => api(Method::DELETE, "/api/v1/cards/M-1", Value::Null).await,
            "bulk" => {
                let lines = [("M-1", "bakery"), ("M-2", "passing"), ("M-1", "passing"), ("M-3", "bakery")];
                let lines = lines.map(|(id, template)| {
                    let mut line = of(template);
                    line["id"] = json!(id);
                    format!("{line}\n")
                });
                let answer = self
                    .service
                    .send(
                        Method::POST,
                        "/api/v1/cards/bulk",
                        &[("authorization", &bearer)],
                        lines.concat().into_bytes(),
                    )
                    .await;
                let text = String::from_utf8(answer.body).unwrap();
                let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["problem"]["status"].as_u64();
                text.lines().filter_map(line).max().map_or(answer.status, |status| status as u16)
            }
            "expire" => {
                let end = json!({"attributes": {"points": n}, "expires_at": self.service.now().to_string()});
                let status = api(Method::PATCH, "/api/v1/cards/M-0", end).await;
                expire_step(&self.service.app).await.unwrap();
                fan_out_step(&self.service.app).await.unwrap();
                status
            }
            "register" => {
                let body = json!({"pushToken": format!("{n:064x}")}).to_string().into_bytes();
                phone(Method::POST, &format!("{registration}/{}", self.serial), body).await
            }
            "unregister" => phone(Method::DELETE, &format!("{registration}/{}", self.serial), Vec::new()).await,
            "fetch" => phone(Method::GET, &format!("/apple/v1/passes/{PASS_TYPE}/{}", self.serial), Vec::new()).await,
            "list" => phone(Method::GET, &registration, Vec::new()).await,
            "PUT template" => {
                let mut document = bakery();
                document["logo_text"] = json!(format!("Kuzina {n}"));
                api(Method::PUT, template, document).await
            }
            "DELETE template" => api(Method::DELETE, template, Value::Null).await,
            "POST template" => {
                let mut document = bakery();
                document["id"] = json!("passing");
                api(Method::POST, "/api/v1/templates", document).await
            }
            "import" => raw(Method::POST, "/api/v1/templates/import?id=passing", self.archive.clone()).await,
            "publish" => api(Method::POST, &format!("{template}/publish"), Value::Null).await,
            "restore" => api(Method::POST, &format!("{template}/versions/1/restore"), Value::Null).await,
            "PUT image" => {
                let picture = png(114, 114 + n as u32 % 2);
                raw(Method::PUT, &format!("{template}/images/icon"), picture).await
            }
            "DELETE image" => api(Method::DELETE, &format!("{template}/images/icon"), Value::Null).await,
            "check" => api(Method::POST, &format!("{template}/check"), Value::Null).await,
            "DELETE key" => api(Method::DELETE, &format!("/api/v1/keys/{}", self.key), Value::Null).await,
            other => panic!("{other}"),
        }
    }

    /// The template that comes and goes is there and published.
    async fn renew(&self) {
        for what in ["PUT template", "PUT image", "publish"] {
            assert!(self.request(what).await < 300, "{what}");
        }
    }
}

async fn no_two_requests_make_a_fault_of_each_other(database: TestDatabase) {
    let shop = Shop::open(&database).await;
    let mut faults = Vec::new();
    for (place, one) in REQUESTS.iter().enumerate() {
        for (next, other) in REQUESTS.iter().enumerate().skip(place) {
            // SQLite has one writer, so little can come in between; a part of the pairs is enough.
            if database.kind() == Database::Sqlite && (place + next) % 3 != 0 {
                continue;
            }
            if [one, other].contains(&&"DELETE template") {
                shop.request("DELETE card").await;
                shop.renew().await;
            }
            let both = [one, other, one];
            let statuses = join_all(both.map(|what| shop.request(what))).await;
            let bad = both.iter().zip(statuses).filter(|(_, status)| *status >= 500);
            faults.extend(bad.map(|(what, status)| format!("{one} and {other}: {what} was answered {status}")));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    shop.service.stop_with_work_left().await;
}

async fn a_draft_that_is_written_while_it_is_published_is_no_fault(database: TestDatabase) {
    let shop = Shop::open(&database).await;
    let over = AtomicBool::new(false);
    let write = async {
        while !over.load(Ordering::Relaxed) {
            assert_eq!(shop.request("PUT template").await, 200);
        }
    };
    let publish = async {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(shop.request("publish").await);
        }
        over.store(true, Ordering::Relaxed);
        statuses
    };
    let ((), (), statuses) = tokio::join!(write, write_too(&shop, &over), publish);
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert_eq!(shop.request("publish").await, 200, "left alone, it is published");
    shop.service.stop_with_work_left().await;
}

async fn write_too(shop: &Shop, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        assert_eq!(shop.request("PUT image").await, 204);
    }
}
