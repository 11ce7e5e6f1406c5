//! Whose a pass type is: only proven certificates are taken, a pass type goes to the newer one, and certificates go away.

use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use passloom::actions::issuers::load_issuers;
use passloom::config::{AppleFiles, Config};
use passloom::domain::ids::{PassTypeId, WorkspaceId};
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::platform::secrets::MasterKey;
use passloom::sandbox::certificates;
use passloom::startup::{Contents, JobMode, Outside, prepare};
use passloom::store::issuers::{AppleCertificateKey, put_apple};
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
use reqwest::Method;
use serde_json::{Value, json};

use super::issuers::{document, mint};
use crate::support::service::{ADMIN_KEY, Answer, PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};
use crate::wallets::{FREE, add_issuer, save, shows, two_wallets};

on_both_databases![
    outside_the_sandbox_only_certificates_of_known_roots_are_taken,
    a_pass_type_goes_to_the_newer_certificate_and_its_cards_stay_behind_the_wall,
    a_certificate_that_was_removed_signs_nowhere,
    a_workspace_has_so_many_certificates_and_no_more,
    one_file_of_keys_is_opened_at_a_time_and_nobody_else_waits,
    a_card_of_another_wallet_gets_its_apple_pass_once_its_workspace_can_sign,
];

const DAY: Duration = Duration::from_secs(24 * 3600);
const SPA: &str = "pass.test.spa";
const PATH: &str = "/api/v1/issuers/apple";

/// Its own chain's root is one that the operator names.
async fn proving(database: &TestDatabase) -> Service {
    Service::start_configured(database, |config| {
        config.apple_root = Some(config.data_dir.join("certs/dev/root.pem"));
    })
    .await
}

fn fingerprint(certificate: &X509) -> String {
    hex::encode(certificate.digest(openssl::hash::MessageDigest::sha256()).unwrap())
}

fn kind(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["type"].as_str().unwrap_or_default().to_owned())
}

fn missing() -> (u16, String) {
    (409, "/problems/issuer-missing".to_owned())
}

async fn outside_the_sandbox_only_certificates_of_known_roots_are_taken(database: TestDatabase) {
    let directory = tempfile::tempdir().unwrap();
    let chain = certificates::load_or_make(&directory.path().join("chain"), SystemClock.now()).unwrap();
    let (root, file) = (directory.path().join("chain/root.pem"), directory.path().join("stranger.pem"));
    let spa = PassTypeId::parse(SPA).unwrap();
    let own = chain.pass_certificate(&spa, "TEAM000001", SystemClock.now()).unwrap();
    let stranger = DevelopmentChain::mint(&spa, "TEAM000001", SystemClock.now()).unwrap();
    let with_wwdr = |chain: &DevelopmentChain, pair: &(X509, PKey<Private>)| {
        let mut sent = document(pair);
        sent["wwdr"] = json!(String::from_utf8(chain.intermediate.to_pem().unwrap()).unwrap());
        sent
    };
    let config = || {
        let mut config = Config::load(None, |_| None).unwrap();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.internal_listen = None;
        config.data_dir = directory.path().to_owned();
        config.data_dir_given = true;
        config.database_url = database.url().to_owned();
        config.sandbox = Some(false);
        config.admin_key = Some(ADMIN_KEY.to_owned());
        config.master_key = MasterKey::parse(&"5e".repeat(32));
        config.apple_root = Some(root.clone());
        config
    };
    let start = async |config: Config| {
        let outside = Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), wallets: Vec::new() };
        prepare(config, outside, Contents::Nothing).await
    };
    let running = start(config()).await.unwrap().run(JobMode::ByHand).unwrap();
    let put = async |sent: &Value| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.put(format!("{}{PATH}", running.app.public_url)).bearer_auth(ADMIN_KEY);
        let answer = request.body(sent.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, refused) = put(&with_wwdr(&stranger, &(stranger.leaf.clone(), stranger.leaf_key.clone()))).await;
    let told = refused["errors"][0]["detail"].as_str().unwrap();
    assert_eq!((status, refused["errors"][0]["pointer"].as_str()), (422, Some("/certificate")), "{refused}");
    assert!(told.contains("leads neither to Apple's roots nor to one that PASSLOOM_APPLE_ROOT names"), "{told}");
    let (status, shown) = put(&with_wwdr(&chain, &own)).await;
    assert_eq!((status, &shown["certificates"][0]["apple"]), (200, &json!(false)), "{shown}");
    running.stop().await.unwrap();

    // What lies in the database is not used without that root, and keeps nobody from starting.
    let mut without = config();
    without.apple_root = None;
    let running = start(without).await.unwrap();
    assert!(running.app.issuers.all().is_empty());
    drop(running);
    assert_eq!(start(config()).await.unwrap().app.issuers.all().len(), 1);

    std::fs::write(&file, [stranger.leaf.to_pem().unwrap(), stranger.intermediate.to_pem().unwrap()].concat()).unwrap();
    let key = directory.path().join("stranger.key");
    std::fs::write(&key, stranger.leaf_key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let mut wrong = config();
    wrong.apple = Some(AppleFiles { certificate: file.clone(), key: Some(key.clone()), password: None, wwdr: None });
    let told = start(wrong).await.expect_err("a certificate of nobody's").to_string();
    let named =
        format!("PASSLOOM_APPLE_CERTIFICATE: found {}, but the certificate leads neither to Apple's", file.display());
    assert!(told.starts_with(&named) && !told.contains('\n'), "{told}");
    let mut wrong = config();
    wrong.apple_root = Some(key);
    let told = start(wrong).await.expect_err("no root").to_string();
    assert!(told.starts_with("PASSLOOM_APPLE_ROOT: found ") && told.contains("expected a PEM or DER file"), "{told}");
}

async fn a_pass_type_goes_to_the_newer_certificate_and_its_cards_stay_behind_the_wall(database: TestDatabase) {
    let mut service = proving(&database).await;
    let other = proving(&database).await;
    let (spa, gym) = (service.workspace("spa").await, service.workspace("gym").await);
    let put = async |key: &str, born: Timestamp| {
        service.api_as(key, Method::PUT, PATH, &document(&mint(&service, SPA, born))).await
    };
    assert_eq!(put(&spa, service.now().minus(10 * DAY)).await.status, 200);
    let older = put(&gym, service.now().minus(20 * DAY)).await;
    assert_eq!((older.status, older.pointers()), (422, vec!["/certificate".to_owned()]));
    let early = put(&gym, service.now().plus(DAY)).await;
    assert_eq!(early.status, 422, "one that isn't valid yet proves nothing: {}", early.json());

    service.key = spa.clone();
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    for points in 2..9 {
        service.patch_card("M-1", &json!({"attributes": {"points": points}})).await;
    }
    phone.update(SPA, service.now()).await.unwrap();
    let token = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
    assert_eq!(other.api_as(&spa, Method::GET, PATH, &Value::Null).await.status, 200);

    let put = async |key: &str, born: Timestamp| {
        service.api_as(key, Method::PUT, PATH, &document(&mint(&service, SPA, born))).await
    };
    let taken = put(&gym, service.now()).await;
    assert_eq!(taken.status, 200, "{}", taken.json());
    assert_eq!(taken.json()["certificates"].as_array().unwrap().len(), 1, "nothing of the former's is shown");
    let late = put(&spa, service.now().minus(5 * DAY)).await;
    assert_eq!((late.status, late.pointers()), (422, vec!["/certificate".to_owned()]));
    let text = String::from_utf8(late.body).unwrap();
    assert!(text.contains("is not free") && !text.contains("gym"), "{text}");

    // The former keeps its cards and can't sign them any more, on no node.
    assert!(load_issuers(&other.app).await.unwrap().is_none());
    for node in [&service, &other] {
        assert_eq!(node.api_as(&spa, Method::GET, PATH, &Value::Null).await.status, 404);
        assert_eq!(kind(&node.api_as(&spa, Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await), missing());
        assert_eq!(kind(&node.api_as(&spa, Method::PUT, "/api/v1/cards/M-2", &anna(1)).await), missing());
    }
    let kept = service.api_as(&spa, Method::GET, "/api/v1/cards/M-1", &Value::Null).await;
    assert_eq!((kept.status, &kept.json()["attributes"]["points"]), (200, &json!(8)));
    assert_eq!(kept.json()["wallets"]["apple"]["devices"], 0);
    let patched = json!({"attributes": {"points": 9}});
    assert_eq!(kind(&service.api_as(&spa, Method::PATCH, "/api/v1/cards/M-1", &patched).await), missing());
    assert_eq!(service.deliver().await, 0, "nobody is pushed to by another's certificate");
    let authorization = format!("ApplePass {token}");
    let address = format!("/apple/v1/passes/{SPA}/{serial}");
    let asked = service.send(Method::GET, &address, &[("authorization", &authorization)], Vec::new()).await;
    assert_eq!(asked.status, 401, "as if it had never been");
    let address = format!("/apple/v1/devices/phone/registrations/{SPA}/{serial}");
    let push_token = json!({"pushToken": "ab".repeat(32)}).to_string().into_bytes();
    let asked = service.send(Method::POST, &address, &[("authorization", &authorization)], push_token).await;
    assert_eq!(asked.status, 401);

    // The new one's own cards work, also on a phone that knows an update tag of the former's.
    service.key = gym.clone();
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let own = phone.add(card["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    service.patch_card("M-1", &json!({"attributes": {"points": 77}})).await;
    assert_eq!(service.deliver().await, 1);
    phone.update(SPA, service.now()).await.unwrap();
    assert_eq!(phone.field(&own, "points").as_deref(), Some("77"));

    // What phones complain about the former's cards is the former's to read.
    let complaint = format!(
        "[2026-12-01 08:00:00 +0200] Get pass task (pass type {SPA}, serial number {serial}) encountered error: odd"
    );
    let complaint = json!({"logs": [complaint]}).to_string().into_bytes();
    assert_eq!(service.send(Method::POST, "/apple/v1/log", &[], complaint).await.status, 200);
    let read = async |key: &str| {
        let logs = service.api_as(key, Method::GET, "/api/v1/devices/logs", &Value::Null).await;
        assert_eq!(logs.status, 200, "{}", logs.json());
        String::from_utf8(logs.body).unwrap()
    };
    assert!(read(&spa).await.contains(&serial), "{}", read(&spa).await);
    assert!(!read(&gym).await.contains(&serial), "{}", read(&gym).await);
    other.stop_with_work_left().await;
    service.stop_with_work_left().await;
}

async fn a_certificate_that_was_removed_signs_nowhere(database: TestDatabase) {
    let mut service = Service::start(&database).await;
    let configured = service.api(Method::GET, PATH, &Value::Null).await.json();
    let configured = format!("{PATH}/{}", configured["certificates"][0]["fingerprint"].as_str().unwrap());
    let refused = service.api(Method::DELETE, &configured, &Value::Null).await;
    assert_eq!(kind(&refused), (409, "/problems/certificate-configured".to_owned()));
    service.key = service.workspace("spa").await;
    let other = Service::start(&database).await;
    let minted = mint(&service, SPA, service.now());
    let address = format!("{PATH}/{}", fingerprint(&minted.0));
    assert_eq!(service.api(Method::DELETE, &address, &Value::Null).await.status, 404);
    assert_eq!(service.api(Method::PUT, PATH, &document(&minted)).await.status, 200);
    assert_eq!(service.api_as(ADMIN_KEY, Method::DELETE, &address, &Value::Null).await.status, 404, "another's");
    let reader = service.new_key(&service.key, &["cards:write", "templates:write"]).await;
    assert_eq!(service.api_as(&reader, Method::DELETE, &address, &Value::Null).await.status, 403);
    service.publish("bakery", &bakery()).await;
    service.put_card("M-1", &anna(1)).await;
    load_issuers(&other.app).await.unwrap();
    assert_eq!(other.api_as(&service.key, Method::GET, PATH, &Value::Null).await.status, 200);

    assert_eq!(service.api(Method::DELETE, &address, &Value::Null).await.status, 204);
    assert_eq!(service.api(Method::DELETE, &address, &Value::Null).await.status, 404);
    load_issuers(&other.app).await.unwrap();
    for node in [&service, &other] {
        assert_eq!(node.api_as(&service.key, Method::GET, PATH, &Value::Null).await.status, 404);
        let signed = node.api_as(&service.key, Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await;
        assert_eq!(kind(&signed), missing());
    }
    // The pass type stays the workspace's, against what proves nothing.
    let squatted = service.api_as(ADMIN_KEY, Method::PUT, PATH, &document(&mint(&service, SPA, service.now()))).await;
    assert_eq!(squatted.status, 422);
    assert_eq!(service.api(Method::PUT, PATH, &document(&minted)).await.status, 200);
    assert_eq!(service.api(Method::GET, "/api/v1/cards/M-1/apple", &Value::Null).await.status, 200);
    other.stop().await;
    service.stop().await;
}

async fn a_workspace_has_so_many_certificates_and_no_more(database: TestDatabase) {
    let mut service = Service::start(&database).await;
    service.key = service.workspace("spa").await;
    let first = mint(&service, SPA, service.now());
    assert_eq!(service.api(Method::PUT, PATH, &document(&first)).await.status, 200);
    let mut tx = service.app.store.begin().await.unwrap();
    for number in 0..48 {
        let key = AppleCertificateKey {
            workspace: passloom::domain::ids::WorkspaceId::parse("spa").unwrap(),
            pass_type: PassTypeId::parse(SPA).unwrap(),
            fingerprint: format!("{number:064}"),
            set_at: service.now(),
        };
        put_apple(&mut tx, &key, b"not to be opened").await.unwrap();
    }
    tx.commit().await.unwrap();
    let last = mint(&service, SPA, service.now());
    assert_eq!(service.api(Method::PUT, PATH, &document(&last)).await.status, 200, "the fiftieth");
    let refused = service.api(Method::PUT, PATH, &document(&mint(&service, SPA, service.now()))).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/certificate".to_owned()]));
    let told = refused.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
    assert!(told.contains("has 50 certificates, and no workspace has more; remove one"), "{told}");
    assert_eq!(service.api(Method::PUT, PATH, &document(&last)).await.status, 200, "the same once more");
    let address = format!("{PATH}/{}", fingerprint(&first.0));
    assert_eq!(service.api(Method::DELETE, &address, &Value::Null).await.status, 204);
    assert_eq!(service.api(Method::PUT, PATH, &document(&first)).await.status, 200);
    let own = service.api_as(ADMIN_KEY, Method::GET, PATH, &Value::Null).await;
    assert_eq!((own.status, own.json()["pass_type"].as_str()), (200, Some(PASS_TYPE)), "others have their own");
    service.stop().await;
}

async fn one_file_of_keys_is_opened_at_a_time_and_nobody_else_waits(database: TestDatabase) {
    let service = Service::start(&database).await;
    let minted = document(&mint(&service, SPA, service.now()));
    {
        let being_opened = service.app.opening_keys.occupy().await.unwrap();
        let mut waiting = std::pin::pin!(service.api(Method::PUT, PATH, &minted));
        let others = async {
            service.publish("bakery", &bakery()).await;
            service.put_card("M-1", &anna(1)).await;
            assert!(
                load_issuers(&service.app).await.unwrap().is_none(),
                "what was taken before is loaded all the same"
            );
        };
        tokio::select! {
            answer = &mut waiting => panic!("two are opened at once: {}", answer.json()),
            () = others => {}
        }
        drop(being_opened);
        assert_eq!(waiting.await.status, 200);
    }
    service.stop().await;
}

async fn a_card_of_another_wallet_gets_its_apple_pass_once_its_workspace_can_sign(database: TestDatabase) {
    let (mut service, wallet) = two_wallets(&database, JobMode::ByHand, FREE).await;
    service.key = service.workspace("spa").await;
    let spa = WorkspaceId::parse("spa").unwrap();
    let issuer = add_issuer(&service, &wallet, &spa, FREE).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(1)).await;
    let serial = save(&service, &spa, &issuer, &card).await;
    let page = card["urls"]["page"].as_str().unwrap().strip_prefix(&service.base).unwrap().to_owned();
    let download = format!("{page}/card.pkpass");
    assert_eq!(service.send(Method::GET, &download, &[], Vec::new()).await.status, 409, "nobody could sign it");
    let offers_apple = async |service: &Service| {
        let page = service.send(Method::GET, &page, &[], Vec::new()).await;
        assert_eq!(page.status, 200);
        String::from_utf8(page.body).unwrap().contains("card.pkpass")
    };
    assert!(!offers_apple(&service).await);

    service.api(Method::PUT, PATH, &document(&mint(&service, SPA, service.now()))).await.expect(&[200]);
    service.clock.advance(Duration::from_secs(60));
    assert!(offers_apple(&service).await);
    let (mut phone, apple) = service.phone_with(&card).await;
    assert_eq!(apple, serial, "one card has one serial number");
    service.patch_card("M-1", &json!({"attributes": {"points": 4711}})).await;
    assert_eq!(service.deliver().await, 2);
    assert_eq!(phone.update(SPA, service.now()).await.unwrap().len(), 1);
    assert_eq!(phone.field(&serial, "points").unwrap(), "4711");
    assert!(shows(&wallet, &serial, "4711"));
    service.stop().await;
}
