//! Apple's web service, as a phone meets it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::issuers::{document, mint};
use crate::support::service::{Answer, PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_phone_meets_exactly_the_statuses_that_apple_names,
    a_wrong_token_and_an_unknown_serial_are_answered_alike,
    a_token_of_another_workspaces_pass_opens_nothing,
    two_changes_in_the_same_second_are_both_fetched,
    last_modified_grows_even_when_the_clock_goes_back,
    an_unreadable_or_future_tag_counts_as_absent,
    an_old_file_that_registers_late_is_brought_up_to_date,
    a_phone_that_asks_twice_is_not_told_twice,
    a_device_without_registrations_is_forgotten,
    oversized_bodies_are_refused,
    the_download_has_the_headers_of_the_contract,
];

struct Holder {
    device: String,
    serial: String,
    token: String,
}

impl Holder {
    fn of(card: &Value, pass: &Value, device: &str) -> Self {
        Self {
            device: device.to_owned(),
            serial: card["serial_number"].as_str().unwrap().to_owned(),
            token: pass["authenticationToken"].as_str().unwrap().to_owned(),
        }
    }

    fn registration(&self) -> String {
        format!("/apple/v1/devices/{}/registrations/{PASS_TYPE}/{}", self.device, self.serial)
    }

    async fn register(&self, service: &Service) -> Answer {
        let body = json!({"pushToken": "ab".repeat(32)}).to_string().into_bytes();
        let authorization = format!("ApplePass {}", self.token);
        service.send(Method::POST, &self.registration(), &[("authorization", &authorization)], body).await
    }

    async fn list(&self, service: &Service, tag: Option<&str>) -> Answer {
        let query = tag.map(|t| format!("?passesUpdatedSince={t}")).unwrap_or_default();
        let path = format!("/apple/v1/devices/{}/registrations/{PASS_TYPE}{query}", self.device);
        service.send(Method::GET, &path, &[], Vec::new()).await
    }

    async fn latest(&self, service: &Service, method: Method, since: Option<&str>) -> Answer {
        let authorization = format!("ApplePass {}", self.token);
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(since.map(|s| ("if-modified-since", s)));
        service.send(method, &format!("/apple/v1/passes/{PASS_TYPE}/{}", self.serial), &headers, Vec::new()).await
    }
}

async fn shop_with_holder(database: &TestDatabase) -> (Service, Value, Holder) {
    let (service, card) = Service::shop_with_card(database, 120).await;
    let (phone, serial) = service.phone_with(&card).await;
    let pass = phone.passes()[&serial].pass.clone();
    let holder = Holder::of(&card, &pass, "device-of-the-test");
    (service, card, holder)
}

async fn a_phone_meets_exactly_the_statuses_that_apple_names(database: TestDatabase) {
    let (service, _, holder) = shop_with_holder(&database).await;
    assert_eq!(holder.register(&service).await.status, 201);
    assert_eq!(holder.register(&service).await.status, 200);

    let list = holder.list(&service, None).await;
    assert_eq!(list.status, 200);
    assert_eq!(list.json()["serialNumbers"], json!([holder.serial]));
    let tag = list.json()["lastUpdated"].as_str().expect("a text").to_owned();
    assert_eq!(holder.list(&service, Some(&tag)).await.status, 204);

    let latest = holder.latest(&service, Method::GET, None).await;
    assert_eq!((latest.status, latest.header("content-type")), (200, "application/vnd.apple.pkpass"));
    let modified = latest.header("last-modified").to_owned();
    let same = holder.latest(&service, Method::GET, Some(&modified)).await;
    assert_eq!((same.status, same.body.len(), same.header("last-modified")), (304, 0, modified.as_str()));
    let head = holder.latest(&service, Method::HEAD, None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), latest.body.len().to_string());

    // The base with a slash at its end makes two.
    let doubled = format!("/apple//v1/devices/{}/registrations/{PASS_TYPE}", holder.device);
    assert_eq!(service.send(Method::GET, &doubled, &[], Vec::new()).await.status, 200);
    let log = service.send(Method::POST, "/apple/v1/log", &[], br#"{"logs": ["x\u001b[31m"]}"#.to_vec()).await;
    assert_eq!((log.status, log.body.len()), (200, 0));
    assert_eq!(service.send(Method::POST, "/apple/v1/log", &[], b"no json".to_vec()).await.status, 200);

    let authorization = format!("ApplePass {}", holder.token);
    let headers = [("authorization", authorization.as_str())];
    let unregistered = service.send(Method::DELETE, &holder.registration(), &headers, Vec::new()).await;
    assert_eq!(unregistered.status, 200);
    let again = service.send(Method::DELETE, &holder.registration(), &headers, Vec::new()).await;
    assert_eq!(again.status, 200, "a registration that isn't there is as good as ended");
    assert_eq!(holder.list(&service, None).await.status, 204);
    service.stop().await;
}

async fn a_token_of_another_workspaces_pass_opens_nothing(database: TestDatabase) {
    let (mut service, card, _) = shop_with_holder(&database).await;
    let spa = service.workspace("spa").await;
    let own = document(&mint(&service, "pass.test.spa", service.now()));
    assert_eq!(service.api_as(&spa, Method::PUT, "/api/v1/issuers/apple", &own).await.status, 200);
    service.key = spa;
    service.publish("bakery", &bakery()).await;
    let theirs = service.put_card("M-1", &anna(1)).await;
    let (phone, serial) = service.phone_with(&theirs).await;
    let token = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
    let bakers = card["serial_number"].as_str().unwrap();
    let bearer = format!("ApplePass {token}");
    let headers = [("authorization", bearer.as_str())];
    for (pass_type, serial, status) in [
        ("pass.test.spa", serial.as_str(), 200),
        (PASS_TYPE, bakers, 401),
        (PASS_TYPE, &serial, 401),
        ("pass.test.spa", bakers, 401),
    ] {
        let pass = format!("/apple/v1/passes/{pass_type}/{serial}");
        let registration = format!("/apple/v1/devices/stranger/registrations/{pass_type}/{serial}");
        let body = json!({"pushToken": "ab".repeat(32)}).to_string().into_bytes();
        let registered = if status == 200 { 201 } else { status };
        for (method, path, body, expected) in [
            (Method::GET, &pass, Vec::new(), status),
            (Method::HEAD, &pass, Vec::new(), status),
            (Method::POST, &registration, body, registered),
            (Method::DELETE, &registration, Vec::new(), status),
        ] {
            let answer = service.send(method.clone(), path, &headers, body).await;
            assert_eq!(answer.status, expected, "{method} {path}");
        }
    }
    // A device's list is of one pass type, whoever asks.
    let list = format!("/apple/v1/devices/stranger/registrations/{PASS_TYPE}");
    assert_eq!(service.send(Method::GET, &list, &[], Vec::new()).await.status, 204);
    service.stop().await;
}

async fn a_wrong_token_and_an_unknown_serial_are_answered_alike(database: TestDatabase) {
    let (service, card, holder) = shop_with_holder(&database).await;
    let wrong = Holder { token: "x".repeat(43), ..Holder::of(&card, &json!({"authenticationToken": ""}), "d") };
    let unknown = Holder {
        serial: "01a200ae-bc99-737f-a9aa-000000000000".to_owned(),
        ..Holder::of(&card, &json!({"authenticationToken": holder.token}), "d")
    };
    let odd = Holder { serial: "..%2f..".to_owned(), device: "d".to_owned(), token: holder.token.clone() };
    for stranger in [&wrong, &unknown, &odd] {
        for answer in [
            stranger.register(&service).await,
            stranger.latest(&service, Method::GET, None).await,
            stranger.latest(&service, Method::HEAD, None).await,
            service
                .send(
                    Method::DELETE,
                    &stranger.registration(),
                    &[("authorization", &format!("ApplePass {}", stranger.token))],
                    Vec::new(),
                )
                .await,
        ] {
            assert_eq!((answer.status, answer.body.len()), (401, 0));
        }
    }
    let bare = service.send(Method::POST, &holder.registration(), &[], b"{}".to_vec()).await;
    assert_eq!(bare.status, 401, "without credentials");
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 1, "only the phone that proved itself");
    service.stop().await;
}

async fn two_changes_in_the_same_second_are_both_fetched(database: TestDatabase) {
    let (service, card, _) = shop_with_holder(&database).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    for points in [130, 140, 150] {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
        service.wake(&mut phone).await;
        assert_eq!(phone.field(&serial, "points").unwrap(), points.to_string());
    }
    assert_eq!(phone.complaints(), [] as [String; 0]);
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.clock.advance(Duration::from_secs(2));
    service.deliver().await;
    service.stop().await;
}

async fn last_modified_grows_even_when_the_clock_goes_back(database: TestDatabase) {
    let (service, card, _) = shop_with_holder(&database).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // Not further than the certificate is valid: phones refuse a signature from before.
    service.clock.set(service.now().minus(Duration::from_secs(1800)));
    service.patch_card("M-1", &json!({"attributes": {"points": 7}})).await;
    assert_eq!(service.deliver().await, 2, "both phones are told although the clock went back");
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").unwrap(), "7");
    service.stop().await;
}

async fn an_unreadable_or_future_tag_counts_as_absent(database: TestDatabase) {
    let (service, _, holder) = shop_with_holder(&database).await;
    holder.register(&service).await;
    for tag in ["", "x", "-1", "2026-11-21T10:00:00Z", "1.5", "999999999999999999", "99999999999999999999999", "%00"] {
        let list = holder.list(&service, Some(tag)).await;
        assert_eq!(list.status, 200, "{tag:?}");
        assert_eq!(list.json()["serialNumbers"], json!([holder.serial]), "{tag:?}");
    }
    service.stop().await;
}

async fn an_old_file_that_registers_late_is_brought_up_to_date(database: TestDatabase) {
    let (service, card, holder) = shop_with_holder(&database).await;
    // The phone knows a tag from another card, newer than the file that it adds late.
    service.put_card("M-2", &anna(1)).await;
    let other = service.card("M-2").await;
    let (phone, serial) = service.phone_with(&other).await;
    let second = Holder::of(&other, &phone.passes()[&serial].pass, &holder.device);
    assert_eq!(second.register(&service).await.status, 201);
    service.patch_card("M-1", &json!({"attributes": {"points": 500}})).await;
    service.patch_card("M-2", &json!({"attributes": {"points": 2}})).await;
    let tag = holder.list(&service, None).await.json()["lastUpdated"].as_str().unwrap().to_owned();

    assert_eq!(holder.register(&service).await.status, 201);
    let list = holder.list(&service, Some(&tag)).await;
    assert_eq!(list.json()["serialNumbers"], json!([card["serial_number"]]));
    service.deliver().await;
    service.clock.advance(Duration::from_secs(3));
    service.deliver().await;
    service.stop().await;
}

async fn a_phone_that_asks_twice_is_not_told_twice(database: TestDatabase) {
    let (service, card, _) = shop_with_holder(&database).await;
    let (mut phone, _) = service.phone_with(&card).await;
    service.patch_card("M-1", &json!({"attributes": {"points": 130}})).await;
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    assert_eq!(service.wake(&mut phone).await.len(), 0);
    assert_eq!(phone.complaints(), [] as [String; 0]);
    service.deliver().await;
    service.stop().await;
}

async fn a_device_without_registrations_is_forgotten(database: TestDatabase) {
    let (service, card, _) = shop_with_holder(&database).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 2);
    phone.remove(&serial).await.unwrap();
    assert_eq!(service.card("M-1").await["wallets"]["apple"]["devices"], 1);
    service.patch_card("M-1", &json!({"attributes": {"points": 9}})).await;
    assert_eq!(service.deliver().await, 1);
    service.stop().await;
}

async fn oversized_bodies_are_refused(database: TestDatabase) {
    let (service, _, holder) = shop_with_holder(&database).await;
    let log = service.send(Method::POST, "/apple/v1/log", &[], vec![b' '; 256 * 1024 + 1]).await;
    assert_eq!(log.status, 413);
    let authorization = format!("ApplePass {}", holder.token);
    let headers = [("authorization", authorization.as_str())];
    let registration = service.send(Method::POST, &holder.registration(), &headers, vec![b' '; 64 * 1024 + 1]).await;
    assert_eq!(registration.status, 413);
    for body in [&b"{}"[..], b"", br#"{"pushToken": 7}"#, br#"{"pushToken": "a b"}"#] {
        let answer = service.send(Method::POST, &holder.registration(), &headers, body.to_vec()).await;
        assert_eq!(answer.status, 400);
    }
    service.stop().await;
}

async fn the_download_has_the_headers_of_the_contract(database: TestDatabase) {
    let (service, card, _) = shop_with_holder(&database).await;
    let path = card["urls"]["apple"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let answer = service.send(method.clone(), &path, &[("accept-encoding", "gzip, br")], Vec::new()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/vnd.apple.pkpass");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-robots-tag"), "noindex");
        let length: usize = answer.header("content-length").parse().unwrap();
        assert_eq!(answer.body.len(), if method == Method::HEAD { 0 } else { length });
    }
    let api = "/api/v1/cards/M-1/apple";
    assert_eq!(
        service.api(Method::GET, api, &Value::Null).await.header("content-type"),
        "application/vnd.apple.pkpass"
    );
    service.stop().await;
}
