//! What strangers may ask for, and how much it costs us.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use passloom::actions::keys::default_workspace;
use passloom::actions::passes::holder::{held_card, holder};
use passloom::domain::ids::{PassTypeId, SerialNumber};
use passloom::http::routes::BACKENDS;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::program::{PROGRAM, Program, free_port};
use crate::support::service::{Answer, PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    who_proves_nothing_is_answered_before_the_body,
    a_wrong_token_is_judged_without_a_look_at_the_card,
    below_a_path_everything_works_whether_a_proxy_keeps_it_or_not,
    what_repeats_an_answer_names_the_path_as_well,
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
    let _picture = service.app.decoding.occupy().await.unwrap();
    let template = bakery();
    let put = service.api(Method::PUT, "/api/v1/templates/bakery", &template);
    let put = tokio::time::timeout(Duration::from_secs(20), put).await.expect("it waits for the picture");
    assert_eq!(put.status, 201, "{}", put.json());
    service.stop().await;
}

/// Sends the head of a request that announces a body and sends none; the status and how the answer ends.
async fn head_only(service: &Service, method: &str, path: &str, authorization: &str) -> u16 {
    let address = service.base.strip_prefix("http://").unwrap().replace("localhost", "127.0.0.1");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\ncontent-length: 60000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    // The body's own deadline is 10 seconds.
    let read = tokio::time::timeout(Duration::from_secs(8), stream.read_exact(&mut answer)).await;
    read.unwrap_or_else(|_| panic!("{method} {path} waits for the body")).unwrap();
    String::from_utf8_lossy(&answer[9..]).parse().unwrap()
}

async fn who_proves_nothing_is_answered_before_the_body(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(120)).await;
    for endpoint in BACKENDS.iter().filter(|endpoint| ["put", "post", "patch"].contains(&endpoint.method)) {
        let path = endpoint.path.replace(['{', '}'], "");
        let status = head_only(&service, &endpoint.method.to_uppercase(), &path, "Bearer wrong").await;
        assert_eq!(status, 401, "{} {}", endpoint.method, endpoint.path);
    }
    let serial = card["serial_number"].as_str().unwrap();
    for serial in [serial, "nobody"] {
        let path = format!("/apple/v1/devices/d1/registrations/{PASS_TYPE}/{serial}");
        for authorization in ["ApplePass wrong", "Bearer wrong", ""] {
            assert_eq!(head_only(&service, "POST", &path, authorization).await, 401, "{serial} {authorization:?}");
        }
    }
    // Phones' messages need no proof, and few are read of an address.
    for _ in 0..30 {
        assert_eq!(service.send(Method::POST, "/apple/v1/log", &[], b"{\"logs\": []}".to_vec()).await.status, 200);
    }
    assert_eq!(head_only(&service, "POST", "/apple/v1/log", "").await, 200);
    service.stop().await;
}

async fn a_wrong_token_is_judged_without_a_look_at_the_card(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(120)).await;
    let pass_type = PassTypeId::parse(PASS_TYPE).unwrap();
    let known = SerialNumber::parse(card["serial_number"].as_str().unwrap()).unwrap();
    let unknown = SerialNumber::parse("nobody").unwrap();
    let secret = service.app.secret(&default_workspace()).await.unwrap();
    // The right token of a serial number is that, also when there is no such card: existence isn't asked for.
    for serial in [&known, &unknown] {
        let right = secret.auth_token(serial);
        assert_eq!(
            holder(&service.app, &pass_type, serial, right.as_str()).await.unwrap(),
            Some(default_workspace()),
            "{serial:?}"
        );
        assert_eq!(holder(&service.app, &pass_type, serial, "wrong").await.unwrap(), None);
    }
    assert!(held_card(&service.app, &pass_type, &known, secret.auth_token(&known).as_str()).await.unwrap().is_some());
    assert!(
        held_card(&service.app, &pass_type, &unknown, secret.auth_token(&unknown).as_str()).await.unwrap().is_none()
    );
    // A card stays its holder's when the workspace no longer issues under the pass type.
    service.app.issuers.retain(|_| false);
    assert!(held_card(&service.app, &pass_type, &known, secret.auth_token(&known).as_str()).await.unwrap().is_some());
    assert!(held_card(&service.app, &pass_type, &known, "wrong").await.unwrap().is_none());
    let other = PassTypeId::parse("pass.com.example.other").unwrap();
    assert!(held_card(&service.app, &other, &known, secret.auth_token(&known).as_str()).await.unwrap().is_none());
    service.stop().await;
}

/// The program under a limit of open files, hard and soft or soft alone.
fn limited(directory: &Path, port: u16, limit: &str) -> Command {
    let mut limited = Command::new("sh");
    limited.current_dir(directory).env_clear().env("PASSLOOM_LISTEN", format!("127.0.0.1:{port}"));
    limited.env("PASSLOOM_INTERNAL_LISTEN", "off");
    limited.args(["-c", &format!("ulimit {limit} && exec \"$0\""), PROGRAM]).stdout(Stdio::piped());
    limited
}

/// Connections that say nothing, taken in or waiting to be.
fn idle(port: u16, count: usize) -> Vec<std::net::TcpStream> {
    (0..count).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect()
}

fn answers(program: &Program) -> bool {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    let asked = async { http.get(format!("{}/healthz", program.base)).send().await };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(asked).is_ok_and(|answer| answer.status() == 200)
}

#[test]
fn idle_strangers_lock_nobody_out_since_the_limit_of_files_is_raised() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let program = Program::start(limited(directory.path(), port, "-S -n 96"));
    let strangers = idle(port, 200);
    let began = std::time::Instant::now();
    assert!(answers(&program));
    // They are sent away after 10 seconds, so it must not be for that.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(strangers);
    assert!(program.terminate().success());
}

#[test]
fn a_node_that_ran_out_of_files_answers_when_they_are_free_again() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let program = Program::start(limited(directory.path(), port, "-n 96"));
    drop(idle(port, 300));
    assert!(answers(&program));
    assert!(program.terminate().success());
}

/// Every address that a page names, in attributes.
fn links(html: &str) -> Vec<&str> {
    let named = [" href=\"", " src=\""].into_iter().flat_map(|attribute| html.split(attribute).skip(1));
    let named = named.filter_map(|rest| rest.split('"').next());
    named.filter(|link| !link.starts_with('#') && !link.starts_with("https://")).collect()
}

async fn below_a_path_everything_works_whether_a_proxy_keeps_it_or_not(database: TestDatabase) {
    let port = free_port();
    let service = Service::start_configured(&database, |config| {
        config.listen = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        config.public_url = format!("http://localhost:{port}/wallet");
        config.public_url_default = false;
    })
    .await;
    assert_eq!(service.base, format!("http://localhost:{port}/wallet"));
    // The API with the path, as through a proxy that keeps it.
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(120)).await;
    let page = card["urls"]["page"].as_str().unwrap();
    let path = page.strip_prefix(&format!("http://localhost:{port}")).unwrap();
    assert!(path.starts_with("/wallet/c/"), "{page}");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answer = http.get(format!("http://localhost:{port}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    };
    for shown in [path, "/wallet/api/docs"] {
        let (status, html) = get(shown).await;
        assert_eq!((status, &html), (200, &get(shown.strip_prefix("/wallet").unwrap()).await.1), "{shown}");
        let links = links(&html);
        assert!(links.len() > 2, "{html}");
        for link in links {
            assert!(link.starts_with("/wallet/"), "{link} leads out of the path");
            // As a proxy that keeps the path asks, and one that takes it off.
            let link = link.replace("&amp;", "&");
            assert_eq!(get(&link).await.0, 200, "{link}");
            assert_eq!(get(link.strip_prefix("/wallet").unwrap()).await.0, 200, "{link}");
        }
    }
    // A phone goes by what the pass says; a reader that leaves two slashes gets there as well.
    let (mut phone, serial) = service.phone_with(&card).await;
    service.patch_card("M-1", &serde_json::json!({"attributes": {"points": 150}})).await;
    service.deliver().await;
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("150"));
    for path in ["/wallet/apple//v1/log", "/apple//v1/log", "/apple/v1/log"] {
        let sent = http.post(format!("http://localhost:{port}{path}")).body("{\"logs\": []}").send().await.unwrap();
        assert_eq!(sent.status().as_u16(), 200, "{path}");
    }
    // What answers name lies below the path, too.
    let missing = service.api(Method::GET, "/api/v1/cards/nobody", &serde_json::Value::Null).await.json();
    let kind = missing["type"].as_str().unwrap();
    assert_eq!((kind, get(kind).await.0), ("/wallet/problems/not-found", 200));
    let named = service.api(Method::PATCH, "/api/v1/cards", &serde_json::Value::Null).await;
    assert_eq!(named.json()["type"], "/wallet/problems/method-not-allowed");
    let line = serde_json::json!({"id": "M-2", "template": "nothing"});
    let bulk = service.api(Method::POST, "/api/v1/cards/bulk", &line).await.json();
    assert_eq!(bulk["problem"]["type"], "/wallet/problems/invalid");
    let made = service.api(Method::POST, "/api/v1/templates", &bakery()).await;
    assert!(made.header("location").starts_with("/wallet/api/v1/templates/tpl_"), "{}", made.header("location"));
    let document: serde_json::Value = serde_json::from_str(&get("/api/openapi.json").await.1).unwrap();
    assert_eq!(document["servers"][0]["url"], service.base);
    // What only begins like the path isn't below it.
    assert_eq!(get(&path.replacen("/wallet/", "/wallets/", 1)).await.0, 404);
    assert_eq!(get("/wallet/wallet/healthz").await.0, 404);
    service.stop_with_work_left().await;
}

async fn what_repeats_an_answer_names_the_path_as_well(database: TestDatabase) {
    let port = free_port();
    let service = Service::start_configured(&database, |config| {
        config.listen = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        config.public_url = format!("http://localhost:{port}/wallet");
        config.public_url_default = false;
    })
    .await;
    let bearer = format!("Bearer {}", service.key);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "once")];
    for _ in 0..2 {
        let wrong = service.send(Method::POST, "/api/v1/templates", &headers, b"{\"id\": 1}".to_vec()).await;
        assert_eq!((wrong.status, wrong.json()["type"].as_str()), (422, Some("/wallet/problems/invalid")));
    }
    service.stop().await;
}

/// Not for CI: how far a wrong token for a known serial number and an unknown one differ in time. Below 4.5 nobody can tell
/// them apart by some ten thousand requests.
#[test]
#[ignore = "measures time"]
fn how_far_known_and_unknown_serial_numbers_differ_in_time() {
    crate::support::run(crate::support::Database::Sqlite, async |database: TestDatabase| {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        let card = service.put_card("M-1", &anna(120)).await;
        let known = card["serial_number"].as_str().unwrap().to_owned();
        let unknown: String = known.chars().rev().collect();
        let headers = [("authorization", "ApplePass wrong-wrong-wrong-wrong-wrong-wrong-wrong-0")];
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let path = |serial: &str| match method {
                Method::GET => format!("/apple/v1/passes/{PASS_TYPE}/{serial}"),
                _ => format!("/apple/v1/devices/d1/registrations/{PASS_TYPE}/{serial}"),
            };
            let paths = [path(&known), path(&unknown)];
            let (mut count, mut sum, mut squares) = ([0.0; 2], [0.0; 2], [0.0; 2]);
            for n in 0..20_500_usize {
                // In an order that no rhythm of the machine follows.
                let which = (n.wrapping_mul(2_654_435_761) >> 7) % 2;
                let began = std::time::Instant::now();
                let answer = service.send(method.clone(), &paths[which], &headers, Vec::new()).await;
                let micros = began.elapsed().as_secs_f64() * 1e6;
                assert_eq!(answer.status, 401);
                // Outliers are the machine's.
                if n >= 500 && micros < 3000.0 {
                    count[which] += 1.0;
                    sum[which] += micros;
                    squares[which] += micros * micros;
                }
            }
            let mean = |i: usize| sum[i] / count[i];
            let error = |i: usize| (squares[i] / count[i] - mean(i) * mean(i)) / count[i];
            let t = (mean(0) - mean(1)) / (error(0) + error(1)).sqrt();
            println!("{method}: known {:.1} us, unknown {:.1} us, t = {t:.1}", mean(0), mean(1));
        }
        service.stop().await;
    });
}
