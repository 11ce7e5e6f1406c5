//! What the service counts: every line follows Prometheus' conventions, and none tells of a card or a person.

use std::collections::BTreeSet;
use std::time::Duration;

use passloom::actions::issuers::watch::CertificateWatch;
use passloom::http::routes::{BACKENDS, CUSTOMERS, INTERNAL, PHONE_BASES, PHONES, PUBLIC, SANDBOX};
use passloom::sandbox::apns::Answer;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    every_metric_keeps_to_the_conventions_and_tells_of_nobody,
    the_queue_the_cards_behind_and_the_database_are_measured_at_most_every_ten_seconds,
];

/// All of them. What is new here is brought about in the test below: one that has no value yet isn't shown.
const METRICS: [(&str, &str); 18] = [
    ("passloom_build_info", "gauge"),
    ("passloom_cards_behind", "gauge"),
    ("passloom_certificate_remaining_seconds", "gauge"),
    ("passloom_database_size_bytes", "gauge"),
    ("passloom_files_hashed", "counter"),
    ("passloom_http_request_duration_seconds", "histogram"),
    ("passloom_http_requests", "counter"),
    ("passloom_job_failures", "counter"),
    ("passloom_open_files", "gauge"),
    ("passloom_passes_served", "counter"),
    ("passloom_push_delay_seconds", "histogram"),
    ("passloom_pushes", "counter"),
    ("passloom_pushes_paused", "gauge"),
    ("passloom_queue_age_seconds", "gauge"),
    ("passloom_renders", "counter"),
    ("passloom_resident_memory_bytes", "gauge"),
    ("passloom_signatures", "counter"),
    ("passloom_uptime_seconds", "gauge"),
];

/// Words of names by which spans and sizes are known, and units that Prometheus doesn't want.
const SPANS: [&str; 7] = ["age", "delay", "duration", "latency", "remaining", "time", "uptime"];
const SIZES: [&str; 4] = ["length", "memory", "rss", "size"];
const OTHER_UNITS: [&str; 10] =
    ["ms", "millis", "milliseconds", "micros", "us", "minutes", "hours", "days", "kb", "mb"];

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Whether a label may have that value: one of few that are known before anybody asks.
fn is_known(label: &str, value: &str) -> bool {
    let plain = [INTERNAL, PUBLIC, BACKENDS, CUSTOMERS, SANDBOX].into_iter().flatten().map(|one| one.path.to_owned());
    let phones = PHONE_BASES.into_iter().flat_map(|base| PHONES.iter().map(move |one| format!("{base}{}", one.path)));
    match label {
        "method" => ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"].contains(&value),
        "route" => value == "(none)" || plain.chain(phones).any(|route| route == value),
        "status" => value.parse::<u16>().is_ok_and(|status| (200..600).contains(&status)),
        "outcome" | "cause" | "reader" => is_name(value),
        "pass_type" => value == PASS_TYPE,
        "wallet" => value == "apple",
        "job" => value == "deliver",
        "version" => value == env!("CARGO_PKG_VERSION"),
        "le" => value == "+Inf" || value.parse::<f64>().is_ok_and(|bound| bound > 0.0),
        _ => false,
    }
}

/// Checks every line; the metrics with their kinds.
fn checked(text: &str) -> BTreeSet<(String, String)> {
    let body = text.strip_suffix("# EOF\n").expect("the last line");
    let mut metrics = body.split("# HELP ");
    assert_eq!(metrics.next(), Some(""), "nothing stands before the first metric");
    let (mut names, mut kinds, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for metric in metrics {
        let mut lines = metric.lines();
        let (name, help) = lines.next().unwrap().split_once(' ').unwrap();
        assert!(help.split(' ').count() > 1 && help.ends_with('.'), "{name}: {help}");
        assert!(is_name(name) && name.starts_with("passloom_") && !name.ends_with("_total"), "{name}");
        assert!(names.insert(name), "{name} stands there twice");
        let words: Vec<&str> = name.split('_').collect();
        let says = |known: &[&str]| words.iter().any(|word| known.contains(word));
        assert!(!says(&SPANS) || name.ends_with("_seconds"), "{name} is a span");
        assert!(!says(&SIZES) || name.ends_with("_bytes"), "{name} is a size");
        assert!(!says(&OTHER_UNITS), "{name} is counted in seconds or bytes");

        let kind = lines.next().unwrap().strip_prefix(format!("# TYPE {name} ").as_str()).unwrap();
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit {
            assert_eq!(lines.next(), Some(format!("# UNIT {name} {unit}").as_str()));
        }
        let samples: Vec<&str> = lines.collect();
        assert!(!samples.is_empty(), "{name} has no value");
        for sample in samples {
            let (place, value) = sample.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok_and(|value| value.is_finite() && value >= 0.0), "{sample}");
            assert!(series.insert(place), "{sample} stands there twice");
            let (full, labels) = match place.split_once('{') {
                Some((full, labels)) => (full, labels.strip_suffix("\"}").unwrap()),
                None => (place, ""),
            };
            let labels: Vec<(&str, &str)> = labels
                .split("\",")
                .filter(|label| !label.is_empty())
                .map(|label| label.split_once("=\"").unwrap())
                .collect();
            for (label, value) in &labels {
                assert!(is_name(label) && is_known(label, value), "{sample}: {label}");
            }
            let fits = match (kind, full.strip_prefix(name).unwrap()) {
                ("counter", suffix) => suffix == "_total",
                ("gauge", suffix) => suffix.is_empty(),
                ("histogram", "_bucket") => unit.is_some() && labels.iter().any(|(label, _)| *label == "le"),
                ("histogram", suffix) => unit.is_some() && ["_sum", "_count"].contains(&suffix),
                _ => false,
            };
            assert!(fits, "{sample} is no {kind}");
        }
        kinds.insert((name.to_owned(), kind.to_owned()));
    }
    kinds
}

async fn metrics(service: &Service) -> String {
    let answer = service.send(Method::GET, "/metrics", &[], Vec::new()).await;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, media_type));
    String::from_utf8(answer.body).unwrap()
}

async fn every_metric_keeps_to_the_conventions_and_tells_of_nobody(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("zebra", &bakery()).await;
    let document = json!({"template": "zebra", "attributes": {"points": 1, "name": "Zenta Zvirbule"}});
    let card = service.put_card("M-Zebra-1", &document).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap();
    assert_eq!(service.send(Method::GET, page, &[], Vec::new()).await.status, 200);
    // What goes wrong, with words of the asker's in every place that a request has.
    let wrong = json!({"template": "zebra", "attributes": {"points": "Zvirbule"}});
    assert_eq!(service.api(Method::PUT, "/api/v1/cards/M-Zebra-2", &wrong).await.status, 422);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-Zebra-3", &Value::Null).await.status, 404);
    assert_eq!(service.api_as("Zvirbule", Method::GET, "/api/v1/cards", &Value::Null).await.status, 401);
    assert_eq!(service.send(Method::GET, "/zebra/Zvirbule", &[], Vec::new()).await.status, 404);
    let word = Method::from_bytes(b"ZVIRBULE").unwrap();
    assert_eq!(service.send(word, "/metrics", &[], Vec::new()).await.status, 405);
    // A push that is refused, a pause, and a push that is taken.
    service.apns().answer_next(None, Answer::new(403, "BadCertificate"), 1);
    service.patch_card("M-Zebra-1", &json!({"attributes": {"points": 2}})).await;
    assert_eq!(service.deliver().await, 1);
    service.clock.advance(Duration::from_secs(299));
    assert_eq!(service.deliver().await, 0);
    let paused = metrics(&service).await;
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(service.deliver().await, 1);
    assert_eq!(service.wake(&mut phone).await.len(), 1);
    CertificateWatch::default().look(&service.app);
    service.app.metrics.job_failures("deliver").inc();
    let last = metrics(&service).await;

    let expected = METRICS.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(&checked(&paused) | &checked(&last), BTreeSet::from(expected));
    let pause = format!("passloom_pushes_paused{{pass_type=\"{PASS_TYPE}\",cause=\"refused\"}} 1");
    assert!(paused.lines().any(|line| line == pause), "{pause} is missing in {paused}");
    for (request, count) in [
        ("method=\"PUT\",route=\"/api/v1/cards/{id}\",status=\"201\"", 1),
        ("method=\"PUT\",route=\"/api/v1/cards/{id}\",status=\"422\"", 1),
        ("method=\"GET\",route=\"/api/v1/cards/{id}\",status=\"404\"", 1),
        ("method=\"GET\",route=\"/api/v1/cards\",status=\"401\"", 1),
        ("method=\"GET\",route=\"/c/{token}\",status=\"200\"", 1),
        ("method=\"GET\",route=\"(none)\",status=\"404\"", 1),
        ("method=\"other\",route=\"/metrics\",status=\"405\"", 1),
        ("method=\"GET\",route=\"/metrics\",status=\"200\"", 1),
        ("method=\"GET\",route=\"/apple/v1/passes/{pass_type}/{serial}\",status=\"200\"", 1),
    ] {
        let line = format!("passloom_http_requests_total{{{request}}} {count}");
        assert!(last.lines().any(|one| one == line), "{line} is missing in {last}");
    }
    for line in [
        "passloom_pushes_total{outcome=\"delivered\"} 1",
        "passloom_pushes_total{outcome=\"issuer_refused\"} 1",
        "passloom_push_delay_seconds_count 1",
        "passloom_http_request_duration_seconds_count{method=\"PUT\",route=\"/api/v1/cards/{id}\"} 2",
        concat!("passloom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(last.lines().any(|one| one == line), "{line} is missing in {last}");
    }
    let token = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap();
    let page = page.trim_start_matches("/c/");
    for text in [&paused, &last] {
        let text = text.to_lowercase();
        for part in ["zebra", "zvirbule", "zenta", serial.as_str(), token, page, phone.push_token(), &*service.key] {
            assert!(!text.contains(&part.to_lowercase()), "{part} in {text}");
        }
    }
    service.stop().await;
}

/// The value of a metric that has one.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
}

async fn the_queue_the_cards_behind_and_the_database_are_measured_at_most_every_ten_seconds(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let mut cards = Vec::new();
    for id in ["M-1", "M-2", "M-3"] {
        cards.push(service.put_card(id, &anna(0)).await);
    }
    let (mut phone, _) = service.phone_with(&cards[0]).await;
    phone.add(cards[1]["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    let _other = service.phone_with(&cards[0]).await;
    const BEHIND: &str = "passloom_cards_behind{wallet=\"apple\"}";
    let measured = async || {
        let text = metrics(&service).await;
        (value(&text, "passloom_queue_age_seconds"), value(&text, BEHIND))
    };
    assert_eq!(measured().await, (0.0, 0.0), "every phone has what it should show");
    let text = metrics(&service).await;
    assert!(value(&text, "passloom_database_size_bytes") > 100_000.0, "{text}");
    assert!(value(&text, "passloom_resident_memory_bytes") > 1_000_000.0, "{text}");
    assert!(value(&text, "passloom_open_files") > 3.0, "{text}");

    // A card on two phones counts once; one that nobody holds doesn't count.
    service.patch_card("M-1", &json!({"attributes": {"points": 1}})).await;
    service.patch_card("M-3", &json!({"attributes": {"points": 1}})).await;
    service.clock.advance(Duration::from_secs(9));
    assert_eq!(measured().await, (0.0, 0.0), "what was read ten seconds ago is shown");
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(measured().await, (10.0, 1.0));
    service.patch_card("M-2", &json!({"attributes": {"points": 1}})).await;
    service.clock.advance(Duration::from_secs(20));
    assert_eq!(measured().await, (30.0, 2.0));

    // Told is not fetched: the cards are behind until the phones follow.
    assert_eq!(service.deliver().await, 2);
    service.clock.advance(Duration::from_secs(10));
    assert_eq!(measured().await, (0.0, 2.0));
    assert_eq!(service.wake(&mut phone).await.len(), 2);
    service.clock.advance(Duration::from_secs(10));
    assert_eq!(measured().await, (0.0, 1.0), "the other phone has not asked yet");
    service.stop().await;
}
