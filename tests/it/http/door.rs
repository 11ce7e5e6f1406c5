//! What strangers may ask for, and how much it costs us.

use std::time::Duration;

use reqwest::Method;

use crate::support::service::{Answer, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    public_pages_are_limited_by_address_and_this_machine_counts,
    a_picture_that_is_decoded_holds_up_no_template,
];

async fn card_path(service: &Service) -> String {
    let path = service.api(Method::GET, "/api/v1/cards/M-1", &serde_json::Value::Null).await.json();
    let page = path["urls"]["page"].as_str().unwrap().to_owned();
    page.strip_prefix(&service.base).unwrap().to_owned()
}

async fn with_card(service: &Service) -> String {
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(120)).await;
    card_path(service).await
}

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    service.send(Method::GET, path, headers, Vec::new()).await
}

async fn public_pages_are_limited_by_address_and_this_machine_counts(database: TestDatabase) {
    let service = Service::start_configured(&database, |config| config.limits.pages = 6).await;
    let page = with_card(&service).await;
    let pass = format!("{page}/card.pkpass");
    for path in [&page, &pass, &page, &pass] {
        assert_eq!(get(&service, path, &[]).await.status, 200);
    }
    // Guesses count, too.
    assert_eq!(get(&service, "/c/nobody-knows-this-token-0123456789", &[]).await.status, 404);
    assert_eq!(service.send(Method::HEAD, &page, &[], Vec::new()).await.status, 200);
    for path in [&page, &pass, &page.replacen("/c/", "/%63/", 1)] {
        let refused = get(&service, path, &[("accept-language", "lv")]).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, "60"), "{path}");
        assert!(refused.header("content-type").starts_with("text/html"), "{path}");
        assert!(String::from_utf8(refused.body).unwrap().contains("lang=\"lv\""));
    }
    // Eight files for each page.
    for _ in 0..48 {
        assert_eq!(get(&service, &format!("{page}/card.css"), &[]).await.status, 200);
    }
    assert_eq!(get(&service, "/assets/card.css", &[]).await.status, 429);
    // Neither other addresses nor other callers are held back.
    assert_eq!(get(&service, &page, &[("x-forwarded-for", "198.51.100.7")]).await.status, 200);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-1", &serde_json::Value::Null).await.status, 200);
    assert_eq!(get(&service, "/healthz", &[]).await.status, 200);
    service.stop().await;

    let service = Service::start_configured(&database, |config| config.limits.pages = 0).await;
    for _ in 0..10 {
        assert_eq!(get(&service, &page, &[]).await.status, 200, "0 switches it off");
    }
    service.stop().await;
}

async fn a_picture_that_is_decoded_holds_up_no_template(database: TestDatabase) {
    let service = Service::start(&database).await;
    let _picture = service.app.decoding.clone().acquire_owned().await.unwrap();
    let template = bakery();
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &template);
    let put = tokio::time::timeout(Duration::from_secs(20), put).await.expect("it waits for the picture");
    assert_eq!(put.status, 201, "{}", put.json());
    service.stop().await;
}
