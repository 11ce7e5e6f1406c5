//! A stranger who knows only the OpenAPI document calls everything in it, rightly and wrongly.

use std::process::Command;

use passloom::startup::{Contents, JobMode};
use serde_json::json;

use crate::support::reader::tool;
use crate::support::service::{ADMIN_KEY, Service};
use crate::support::{Database, TestDatabase, run};

/// On one database, since it takes a minute: the stricter of the two.
#[test]
fn a_stranger_gets_no_answer_that_is_not_announced() {
    run(Database::Postgres, stranger);
}

#[test]
fn the_description_is_openapi_3_1() {
    let document =
        passloom::http::openapi::document::document("https://cards.example.com", passloom::http::routes::BACKENDS);
    assert_eq!(document["openapi"], "3.1.0");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("openapi.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let judged = Command::new(tool("openapi-spec-validator")).arg(&path).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

async fn stranger(database: TestDatabase) {
    let service = Service::start_with(&database, Contents::Starters, JobMode::ByHand).await;
    service.put_card("M-1001", &json!({"template": "bakery-points"})).await;
    let base = service.base.clone();
    let calls = tokio::task::spawn_blocking(move || {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(tool("schemathesis"));
        command.current_dir(directory.path()).env("HYPOTHESIS_STORAGE_DIRECTORY", directory.path());
        command.args(["run", &format!("{base}/api/openapi.json"), "--url", &base]);
        command.args(["-H", &format!("Authorization: Bearer {ADMIN_KEY}")]);
        // The same calls every time: a failure can be looked at again. What a schema can't say (a template that exists, a value that fits
        // its attribute) may be refused.
        command.args(["--seed", "1", "--max-examples", "15", "--phases", "examples,coverage,fuzzing"]);
        // A body of lines is none that the stranger can write; its faults are answered line by line.
        command.args(["--exclude-operation-id", "putCards"]);
        // A template may be called `import`, so that address knows the methods of both.
        let checks = "[checks]\npositive_data_acceptance.enabled = false\n\
                      [[operations]]\ninclude-operation-id = \"importTemplate\"\n\
                      checks.allow_header_conformance.enabled = false\n";
        std::fs::write(directory.path().join("schemathesis.toml"), checks).unwrap();
        command.args(["--warnings", "off", "--no-color"]);
        command.output().expect("schemathesis is missing; scripts/test-tools.sh installs it")
    });
    let calls = calls.await.unwrap();
    let said = String::from_utf8_lossy(&calls.stdout);
    assert!(calls.status.success(), "{said}\n{}", String::from_utf8_lossy(&calls.stderr));
    // Not a run that found nothing to call.
    let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).unwrap_or_default();
    let operations = passloom::http::routes::BACKENDS.len() - 1;
    assert_eq!(tested, operations.to_string(), "{said}");
    service.stop().await;
}
