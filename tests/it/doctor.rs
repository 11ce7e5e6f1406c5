//! `passloom doctor`: it finds nothing wrong where nothing is, and names what is.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use passloom::config::Config;
use passloom::doctor::{Finding, State, examine};
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, ManualClock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::sandbox::certificates;
use passloom::startup::Outside;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::http::issuers::{document, mint};
use crate::support::program::free_port;
use crate::support::service::{Service, simulated_apns};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_sound_database_is_found_sound_and_left_as_it_is,
    a_schema_of_another_version_is_told_before_it_hurts,
    what_the_database_keeps_secret_is_opened_and_judged,
    clocks_are_held_against_those_of_the_database_and_of_the_public_address,
];

fn outside() -> Outside {
    by(SystemClock)
}

fn by(clock: impl Clock + 'static) -> Outside {
    Outside { clock: Arc::new(clock), random: Arc::new(SystemRandom), wallets: Vec::new() }
}

/// The machine's clock, set wrongly.
#[derive(Debug)]
enum Wrong {
    Fast(Duration),
    Slow(Duration),
}

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        match self {
            Self::Fast(by) => SystemClock.now().plus(*by),
            Self::Slow(by) => SystemClock.now().minus(*by),
        }
    }
}

/// This machine by an address that is not a loopback one: only such are asked.
fn asked_at(port: u16) -> String {
    format!("http://0.0.0.0:{port}")
}

fn of<'f>(findings: &'f [Finding], check: &str) -> Vec<&'f Finding> {
    findings.iter().filter(|finding| finding.check == check).collect()
}

fn config(variables: &[(&str, &str)]) -> Config {
    Config::load(None, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        .unwrap()
}

async fn a_sound_database_is_found_sound_and_left_as_it_is(database: TestDatabase) {
    database.store().await.close().await;
    let findings = examine(&config(&[("PASSLOOM_DATABASE_URL", database.url())]), &outside()).await;
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    let details: Vec<&str> = of(&findings, "database").iter().map(|finding| finding.detail.as_str()).collect();
    assert!(details[0].starts_with("its schema is up to date"), "{details:?}");
    assert_eq!(details[1], "it can be read and written");
    // Two servers have two clocks, an embedded database has ours.
    assert_eq!(of(&findings, "clock").len(), usize::from(database.kind() == Database::Postgres));
    assert!(of(&findings, "self-test")[0].detail.starts_with("a card was issued, added and refreshed"));
}

async fn a_schema_of_another_version_is_told_before_it_hurts(database: TestDatabase) {
    let store = database.store().await;
    let newest = *store.migrations().last().unwrap();
    store.close().await;
    for (statement, state, told) in [
        (
            format!("UPDATE _sqlx_migrations SET version = 99999 WHERE version = {newest}"),
            State::Error,
            "a newer version",
        ),
        ("DELETE FROM _sqlx_migrations WHERE version = 99999".to_owned(), State::Warning, "1 migrations are due"),
    ] {
        database.execute(&statement).await;
        let findings = examine(&config(&[("PASSLOOM_DATABASE_URL", database.url())]), &outside()).await;
        let schema = of(&findings, "database")[0];
        assert_eq!(schema.state, state, "{schema:?}");
        assert!(schema.detail.contains(told), "{schema:?}");
    }
}

async fn what_the_database_keeps_secret_is_opened_and_judged(database: TestDatabase) {
    let service = Service::start(&database).await;
    let uploaded = document(&mint(&service, "pass.test.doctor", service.now()));
    assert_eq!(service.api(Method::PUT, "/api/v1/issuers/apple", &uploaded).await.status, 200);
    service.stop().await;
    let right = "5e".repeat(32);
    let wrong = "6f".repeat(32);
    for (key, state, told) in [(&right, State::Ok, "it opens"), (&wrong, State::Error, "another")] {
        let variables =
            [("PASSLOOM_DATABASE_URL", database.url()), ("PASSLOOM_MASTER_KEY", key), ("PASSLOOM_SANDBOX", "on")];
        let findings = examine(&config(&variables), &outside()).await;
        let master = of(&findings, "master-key")[0];
        assert!(master.state == state && master.detail.contains(told), "{master:?}");
        let stored =
            of(&findings, "certificate").iter().any(|f| f.detail.contains("pass.test.doctor of team TEAM000001"));
        assert_eq!(stored, state == State::Ok, "{findings:#?}");
        assert_eq!(of(&findings, "apns").len(), usize::from(stored), "it is tried with each certificate");
    }
}

async fn clocks_are_held_against_those_of_the_database_and_of_the_public_address(database: TestDatabase) {
    let service = Service::start(&database).await;
    let key = "5e".repeat(32);
    let variables =
        [("PASSLOOM_DATABASE_URL", database.url()), ("PASSLOOM_MASTER_KEY", &key), ("PASSLOOM_SANDBOX", "on")];
    let mut config = config(&variables);
    let url = asked_at(service.base.rsplit(':').next().unwrap().parse().unwrap());
    config.public_url_default = false;
    config.public_url.clone_from(&url);
    // Two servers have two clocks, an embedded database has ours.
    let others = match database.kind() {
        Database::Postgres => vec!["the database", url.as_str()],
        Database::Sqlite => vec![url.as_str()],
    };

    let findings = examine(&config, &by(Wrong::Fast(Duration::from_secs(20)))).await;
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    assert_eq!(
        of(&findings, "public-url")[0].detail,
        format!("{url} leads to Passloom, and its certificate is trusted")
    );
    let clocks = of(&findings, "clock");
    assert_eq!(clocks.len(), others.len(), "{clocks:#?}");
    for (clock, other) in clocks.iter().zip(&others) {
        assert!(clock.detail.starts_with(&format!("agrees with {other} (")), "{clock:?}");
    }

    let before = SystemClock.now();
    let findings = examine(&config, &by(Wrong::Slow(Duration::from_secs(60)))).await;
    let took = SystemClock.now().since(before).as_secs();
    let wrong: Vec<&Finding> = findings.iter().filter(|finding| finding.state != State::Ok).collect();
    assert_eq!(wrong.len(), others.len(), "{findings:#?}");
    for (finding, other) in wrong.iter().zip(&others) {
        assert_eq!((finding.check, finding.state), ("clock", State::Error), "{finding:?}");
        let rest = format!(" s apart from {other}; set both by NTP: phones refuse signatures from the future");
        let apart = finding.detail.strip_prefix("is ").and_then(|told| told.strip_suffix(rest.as_str()));
        let apart: u64 = apart.unwrap_or_else(|| panic!("{finding:?}")).parse().unwrap();
        // The date of an answer has whole seconds only and may be one of them old.
        assert!((58..=61 + took).contains(&apart), "{finding:?}");
    }
    service.stop().await;
}

/// Something that isn't Passloom and answers everybody alike; its port.
async fn stranger(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

#[test]
fn a_public_address_that_leads_elsewhere_or_nowhere_is_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", directory.path().join("passloom.db").display());
        let nothing = directory.path().join("nothing.pem").display().to_string();
        let found_at = async |url: &str| {
            let variables = [
                ("PASSLOOM_DATABASE_URL", &*database),
                ("PASSLOOM_SANDBOX", "on"),
                // The self-test takes its time and is not asked about here: it ends when it finds no certificate.
                ("PASSLOOM_APPLE_CERTIFICATE", &*nothing),
            ];
            let mut config = config(&variables);
            config.public_url_default = false;
            config.public_url = url.to_owned();
            let mut findings = examine(&config, &outside()).await;
            findings.retain(|finding| ["public-url", "clock"].contains(&finding.check));
            findings
        };
        for (answer, told) in [
            ("200 OK", "200 by something else"),
            ("401 Unauthorized\r\nwww-authenticate: Basic", "401 by something else"),
            ("301 Moved Permanently\r\nlocation: /elsewhere", "301 by something else"),
            ("404 Not Found\r\nx-request-id: 1", "404"),
        ] {
            let url = asked_at(stranger(answer).await);
            let detail = format!(
                "{url}/apple/v1 was answered {told}; expected 401 of Passloom. Does the proxy pass everything on, \
                 unchanged and unchallenged?"
            );
            assert_eq!(found_at(&url).await, [Finding { check: "public-url", state: State::Error, detail }]);
        }
        let nowhere = asked_at(free_port());
        let findings = found_at(&nowhere).await;
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!((findings[0].check, findings[0].state), ("public-url", State::Error));
        assert!(
            findings[0].detail.starts_with(&format!("{nowhere} can't be reached: tcp connect error")),
            "{findings:#?}"
        );
    });
}

#[test]
fn on_the_terminal_it_says_what_it_found_and_exits_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let doctor = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passloom"));
        command.arg("doctor").args(arguments).current_dir(directory.path()).env_clear();
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let sound = doctor(&[], &["--json"]);
    let answer: Value = serde_json::from_slice(&sound.stdout).unwrap();
    assert_eq!((sound.status.code(), &answer["healthy"]), (Some(0), &Value::Bool(true)), "{answer:#}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it leaves nothing behind");

    // Nobody answers at a name that can't exist (RFC 6761).
    let unreachable = [("PASSLOOM_PUBLIC_URL", "https://cards.invalid"), ("PASSLOOM_SANDBOX", "on")];
    let broken = doctor(&unreachable, &[]);
    let text = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{text}");
    assert!(text.contains("error    public-url     https://cards.invalid can't be reached"), "{text}");
    assert!(text.contains("ok       self-test"), "{text}");

    let wrong = doctor(&[("PASSLOOM_LISTEN", "nowhere")], &[]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_certificate_is_judged_by_its_days_by_apns_and_by_a_phone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let chain = certificates::load_or_make(directory.path(), now).unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let apns = simulated_apns(&chain, vec![chain.root.clone(), chain.intermediate.clone()]).await;
        let hostile = simulated_apns(&chain, vec![]).await;
        let (certificate, key, root, wwdr) = (path("pass.pem"), path("pass.key"), path("root.pem"), path("wwdr.pem"));
        let database = format!("sqlite://{}", path("passloom.db"));
        let at = |url: String| {
            config(&[
                ("PASSLOOM_APPLE_ROOT", &root),
                ("PASSLOOM_APPLE_CERTIFICATE", &certificate),
                ("PASSLOOM_APPLE_KEY", &key),
                ("PASSLOOM_APPLE_WWDR", &wwdr),
                ("PASSLOOM_APNS_URL", &url),
                ("PASSLOOM_APNS_CA", &root),
                ("PASSLOOM_DATABASE_URL", &database),
            ])
        };
        let findings = examine(&at(apns.url()), &outside()).await;
        assert_eq!(of(&findings, "certificate")[0].state, State::Ok, "{findings:#?}");
        assert_eq!(of(&findings, "apns")[0].state, State::Ok, "{findings:#?}");
        let named = of(&findings, "apple-root")[0];
        assert!(named.state == State::Warning && named.detail.contains(&root), "{named:?}");
        let mut without = at(apns.url());
        without.apple_root = None;
        let findings_without = examine(&without, &outside()).await;
        let untrusted = of(&findings_without, "certificate")[0];
        assert!(
            untrusted.state == State::Error && untrusted.detail.contains("leads neither to Apple's roots"),
            "{untrusted:?}"
        );
        // It isn't one of Apple's: a real phone would refuse what it signs, and so does the simulated one.
        let phone = of(&findings, "self-test")[0];
        assert!(phone.state == State::Error && phone.detail.contains("signature-chain"), "{phone:?}");

        let findings = examine(&at(hostile.url()), &outside()).await;
        let refused = of(&findings, "apns")[0];
        assert!(
            refused.state == State::Error
                && (refused.detail.contains("can't be used") || refused.detail.contains("refuses the certificate")),
            "{refused:?}"
        );

        let end = chain.leaf.not_after().diff(&openssl::asn1::Asn1Time::from_unix(now.seconds()).unwrap()).unwrap();
        let days = u64::from(end.days.unsigned_abs());
        for (later, state, told) in [(days - 30, State::Warning, "more days"), (days + 1, State::Error, "ended on")] {
            let clock = ManualClock::at(now.plus(Duration::from_secs(later * 86_400)));
            let findings = examine(&at(apns.url()), &by(clock)).await;
            let certificate = of(&findings, "certificate")[0];
            assert!(certificate.state == state && certificate.detail.contains(told), "{certificate:?}");
        }
        let begin = now.minus(Duration::from_secs(3600));
        let early = ManualClock::at(begin.minus(Duration::from_secs(3600)));
        let findings = examine(&at(apns.url()), &by(early)).await;
        let certificate = of(&findings, "certificate")[0];
        let (pass_type, team) = (certificates::PASS_TYPE, certificates::TEAM);
        let from = begin.to_rfc3339_seconds();
        assert_eq!(
            (certificate.state, &*certificate.detail),
            (
                State::Error,
                &*format!("{pass_type} of team {team} is not valid before {from}; is this machine's clock right?")
            )
        );
    });
}
