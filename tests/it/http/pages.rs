//! The card's page, over HTTP and in a real browser.

use passloom::startup::{Contents, JobMode};
use reqwest::Method;
use serde_json::json;

use crate::support::browser::{self, Seen};
use crate::support::service::{Service, anna, bakery};
use crate::support::{Database, TestDatabase, on_both_databases, run};

on_both_databases![the_page_fits_the_device_and_the_language, an_unknown_address_is_a_friendly_404];

const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";

async fn the_page_fits_the_device_and_the_language(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1234)).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    let get = async |headers: &[(&str, &str)]| service.send(Method::GET, &page, headers, Vec::new()).await;

    let phone = get(&[("user-agent", IPHONE), ("accept-language", "lv-LV,lv;q=0.9")]).await;
    assert_eq!(
        (phone.status, phone.header("cache-control"), phone.header("x-robots-tag")),
        (200, "no-store", "noindex")
    );
    let html = String::from_utf8(phone.body.clone()).unwrap();
    assert!(html.contains("lang=\"lv\"") && html.contains("Punkti") && html.contains("/card.pkpass"), "{html}");
    assert!(phone.header("content-security-policy").contains("default-src 'none'"));
    assert!(!html.contains("<script>") && !html.contains(" style=") && html.len() < 150_000);
    let desktop = String::from_utf8(get(&[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")]).await.body).unwrap();
    assert!(desktop.contains("<svg") && desktop.contains("1,234"), "{desktop}");

    let css = service.send(Method::GET, &format!("{page}/card.css"), &[], Vec::new()).await;
    assert!(String::from_utf8(css.body).unwrap().contains("#1b4d3e"));
    assert_eq!(service.send(Method::GET, "/assets/card.css", &[], Vec::new()).await.status, 200);
    assert_eq!(service.send(Method::HEAD, &page, &[], Vec::new()).await.status, 200);

    service.patch_card("M-1", &json!({"state": "voided"})).await;
    let voided = String::from_utf8(get(&[("user-agent", IPHONE)]).await.body).unwrap();
    assert!(!voided.contains("card.pkpass"), "{voided}");
    service.stop().await;
}

async fn an_unknown_address_is_a_friendly_404(database: TestDatabase) {
    let service = Service::start(&database).await;
    for path in ["/c/nothing-that-was-ever-issued", "/c/x", "/c/%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00"] {
        let answer = service.send(Method::GET, path, &[("accept-language", "ru")], Vec::new()).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
        assert!(String::from_utf8(answer.body).unwrap().contains("lang=\"ru\""));
    }
    service.stop().await;
}

#[test]
fn a_real_browser_shows_the_page_without_a_complaint() {
    run(Database::Sqlite, |database| async move {
        let service = Service::start_with(&database, Contents::Starters, JobMode::ByHand).await;
        let card = service.card("demo").await;
        let page = card["urls"]["page"].as_str().unwrap().to_owned();
        let Seen { html, picture, log } = browser::open(&page, Some(IPHONE), 390, 844).await;
        assert!(html.contains("Points") && html.contains("card.pkpass"), "{html}\n{log}");
        let background = [0x1B, 0x4D, 0x3E];
        let green = picture.pixels().filter(|p| p.0.iter().zip(background).all(|(a, b)| a.abs_diff(b) < 12)).count();
        assert!(green > 5_000, "the card stands on the page in its own colour ({green} pixels)");
        service.stop().await;
    });
}

#[test]
fn the_documentation_of_the_api_is_read_in_a_browser_without_a_network() {
    run(Database::Sqlite, |database| async move {
        let service = Service::start(&database).await;
        let document = service.send(Method::GET, "/api/openapi.json", &[], Vec::new()).await;
        assert_eq!((document.status, document.json()["openapi"].as_str()), (200, Some("3.1.0")));
        assert_eq!(document.json()["servers"][0]["url"], service.base);
        let Seen { html, picture, .. } = browser::open(&format!("{}/api/docs", service.base), None, 1280, 900).await;
        for (path, item) in document.json()["paths"].as_object().unwrap() {
            assert!(html.contains(&format!("<code>{path}</code>")), "{path} is missing");
            for operation in item.as_object().unwrap().values() {
                assert!(html.contains(operation["summary"].as_str().unwrap()), "{operation}");
            }
        }
        assert!(!html.contains("<script"), "it needs no JavaScript");
        let ink = picture.pixels().filter(|pixel| pixel.0.iter().all(|part| *part < 80)).count();
        assert!(ink > 3_000, "there is something to read ({ink} dark pixels)");
        service.stop().await;
    });
}
