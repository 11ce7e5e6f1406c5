//! The master key is replaced while nodes serve, and a rotation that broke off is run again.

use std::process::{Command, Output};
use std::sync::Arc;

use passloom::actions::workspaces::rotate_secrets::rotate_secrets;
use passloom::config::Config;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::platform::secrets::MasterKey;
use passloom::startup::{Contents, Outside, prepare};
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::issuers::{document, mint};
use crate::support::program::{Program, command, free_port};
use crate::support::service::{Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![nodes_serve_while_the_master_key_is_replaced];

const ISSUER: &str = "/api/v1/issuers/apple";
const SPA: &str = "pass.test.spa";

fn old() -> MasterKey {
    MasterKey::parse(&"5e".repeat(32)).unwrap()
}

fn new() -> MasterKey {
    MasterKey::parse(&"6f".repeat(32)).unwrap()
}

async fn node(database: &TestDatabase, current: MasterKey, previous: Option<MasterKey>) -> Service {
    Service::start_configured(database, |config| {
        config.master_key = Some(current);
        config.master_key_previous = previous;
    })
    .await
}

/// A key that is made once, however often it is asked for.
async fn make_key(node: &Service, by: &str) -> Value {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "once")];
    let body = json!({"name": "made once", "scopes": ["cards:read"]}).to_string().into_bytes();
    let answer = node.send(Method::POST, "/api/v1/keys", &headers, body).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    answer.json()
}

async fn nodes_serve_while_the_master_key_is_replaced(database: TestDatabase) {
    let mut before = node(&database, old(), None).await;
    let spa = before.workspace("spa").await;
    before.key = spa.clone();
    assert_eq!(before.api(Method::PUT, ISSUER, &document(&mint(&before, SPA, before.now()))).await.status, 200);
    before.publish("bakery", &bakery()).await;
    let card = before.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = before.phone_with(&card).await;
    let made = make_key(&before, &spa).await;
    before.stop().await;

    let [one, other] = [node(&database, new(), Some(old())).await, node(&database, new(), Some(old())).await];
    let store = database.store().await;
    let rotated = async { rotate_secrets(&store, &SystemRandom, &old(), &new(), SystemClock.now()).await.unwrap() };
    let served = async {
        for number in 0..10 {
            for (node, id) in [(&one, "one"), (&other, "other")] {
                let path = format!("/api/v1/cards/{id}-{number}");
                assert_eq!(node.api_as(&spa, Method::PUT, &path, &anna(number)).await.status, 201);
                let pass = node.api_as(&spa, Method::GET, &format!("{path}/apple"), &Value::Null).await;
                assert_eq!(pass.status, 200, "{}", pass.json());
            }
        }
        let minted = document(&mint(&one, "pass.test.spa.second", one.now()));
        assert_eq!(one.api_as(&spa, Method::PUT, ISSUER, &minted).await.status, 200);
        one.workspace("gym").await;
    };
    // The secrets of two workspaces, a certificate, and an answer.
    let (rotated, ()) = tokio::join!(rotated, served);
    assert_eq!(rotated, 4);
    assert_eq!(
        rotate_secrets(&store, &SystemRandom, &old(), &new(), SystemClock.now()).await.unwrap(),
        0,
        "nothing was added under it"
    );
    for node in [&one, &other] {
        assert_eq!(make_key(node, &spa).await, made, "the answer is kept");
        assert_eq!(node.api_as(&spa, Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await.status, 200);
    }
    one.stop().await;
    other.stop().await;
    store.close().await;

    let after = node(&database, new(), None).await;
    assert_eq!(after.app.issuers.of_workspace(&passloom::domain::ids::WorkspaceId::parse("spa").unwrap()).len(), 2);
    assert_eq!(make_key(&after, &spa).await, made);
    let authorization = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
    let headers = [("authorization", format!("ApplePass {authorization}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fetched = after.send(Method::GET, &format!("/apple/v1/passes/{SPA}/{serial}"), &headers, Vec::new()).await;
    assert_eq!(fetched.status, 200, "phones keep their tokens");
    let page = after.api_as(&spa, Method::GET, "/api/v1/cards/M-1", &Value::Null).await.json()["urls"]["page"].clone();
    let path = |page: &Value| page.as_str().unwrap().split_once("/c/").unwrap().1.to_owned();
    assert_eq!(path(&page), path(&card["urls"]["page"]), "cards keep their addresses");
    phone.add(page.as_str().unwrap(), after.now()).await.unwrap();
    after.stop_with_work_left().await;

    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, |_| None).unwrap();
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.internal_listen = None;
    config.data_dir = directory.path().to_owned();
    config.data_dir_given = true;
    config.database_url = database.url().to_owned();
    config.sandbox = Some(true);
    config.master_key = Some(old());
    let outside = Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), wallets: Vec::new() };
    let refused = prepare(config, outside, Contents::Nothing).await.expect_err("the old key").to_string();
    assert!(refused.starts_with("PASSLOOM_MASTER_KEY: does not open the secrets in the database"), "{refused}");
}

fn says(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_rotation_that_broke_off_is_run_again() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let [old, new] = ["5e".repeat(32), "6f".repeat(32)];
    let with = |variables: &[(&str, &str)]| -> Command {
        let mut command = command(directory.path(), port);
        // A certificate in the database would else end the sandbox.
        command.env("PASSLOOM_SANDBOX", "on").envs(variables.iter().copied());
        command
    };
    let program = Program::start(with(&[("PASSLOOM_MASTER_KEY", &old)]));
    let certificate = |name: &str| std::fs::read_to_string(directory.path().join("certs/dev").join(name)).unwrap();
    let document = json!({"certificate": certificate("pass.pem"), "key": certificate("pass.key")});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(program.api(Method::PUT, ISSUER, &document)).unwrap();
    assert!(program.terminate().success());

    let both = [("PASSLOOM_MASTER_KEY", new.as_str()), ("PASSLOOM_MASTER_KEY_PREVIOUS", old.as_str())];
    let rotate = |variables: &[(&str, &str)]| with(variables).args(["secrets", "rotate"]).output().unwrap();
    let refused = rotate(&both[..1]);
    assert_eq!(refused.status.code(), Some(2));
    let told = says(&refused);
    assert!(told.starts_with("passloom: PASSLOOM_MASTER_KEY_PREVIOUS: found nothing; expected"), "{told}");
    let program = Program::start(with(&both));
    assert!(!rotate(&[both[0], both[1], ("PASSLOOM_CRASH_POINT", "after-rotated-batch")]).status.success());
    assert_eq!(runtime.block_on(program.card())["id"], "demo", "the service goes on");
    assert!(program.terminate().success());
    // Some secrets are under either key now: neither alone is enough to start.
    for key in [&old, &new] {
        let refused = with(&[("PASSLOOM_MASTER_KEY", key)]).output().unwrap();
        let told = says(&refused);
        assert!(!refused.status.success() && told.contains("PASSLOOM_MASTER_KEY: does not open"), "{told}");
        assert!(told.contains("PASSLOOM_MASTER_KEY_PREVIOUS") && !told.contains(key.as_str()), "{told}");
    }
    let program = Program::start(with(&both));
    let done = rotate(&both);
    assert!(done.status.success() && says(&done).contains("Encrypted 1 secret anew"), "{}", says(&done));
    assert!(says(&done).contains("PASSLOOM_MASTER_KEY_PREVIOUS can go"), "{}", says(&done));
    assert_eq!(runtime.block_on(program.card())["id"], "demo");
    assert!(program.terminate().success());
    assert!(Program::start(with(&both[..1])).terminate().success());

    let third = "7a".repeat(32);
    let unknown = rotate(&[("PASSLOOM_MASTER_KEY", &third), ("PASSLOOM_MASTER_KEY_PREVIOUS", &old)]);
    assert_eq!(unknown.status.code(), Some(2), "{}", says(&unknown));
    assert!(says(&unknown).contains("2 secrets are under neither key"), "{}", says(&unknown));
    let help = with(&[]).args(["secrets", "rotate", "--help"]).output().unwrap();
    assert!(
        says(&help).contains("PASSLOOM_MASTER_KEY_PREVIOUS") && says(&help).contains("run again"),
        "{}",
        says(&help)
    );
}
