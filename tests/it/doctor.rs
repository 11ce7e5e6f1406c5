//! `passloom doctor`: it finds nothing wrong where nothing is, and names what is.

use std::process::Command;
use std::sync::Arc;

use passloom::config::Config;
use passloom::doctor::{Finding, State, examine};
use passloom::outside::clock::{Clock, ManualClock, SystemClock};
use passloom::outside::random::SystemRandom;
use passloom::sandbox::certificates;
use passloom::start::Outside;
use reqwest::Method;
use serde_json::Value;

use crate::http::issuers::{document, mint};
use crate::support::service::{Service, simulated_apns};
use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![
    a_sound_database_is_found_sound_and_left_as_it_is,
    a_schema_of_another_version_is_told_before_it_hurts,
    what_the_database_keeps_secret_is_opened_and_judged,
];

fn outside() -> Outside {
    Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
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
            let clock = ManualClock::at(now.plus(std::time::Duration::from_secs(later * 86_400)));
            let outside = Outside { clock: Arc::new(clock), random: Arc::new(SystemRandom) };
            let findings = examine(&at(apns.url()), &outside).await;
            let certificate = of(&findings, "certificate")[0];
            assert!(certificate.state == state && certificate.detail.contains(told), "{certificate:?}");
        }
    });
}
