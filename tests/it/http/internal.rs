//! The inner address: health checks and metrics for whoever runs the service, apart from what everybody may reach.

use reqwest::Method;
use serde_json::json;

use crate::support::service::Service;
use crate::support::{Database, TestDatabase, run};

const OPERATORS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

async fn get(address: String) -> (u16, Vec<u8>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(address).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn statuses(base: &str) -> [u16; 3] {
    let mut statuses = [0; 3];
    for (status, path) in statuses.iter_mut().zip(OPERATORS) {
        *status = get(format!("{base}{path}")).await.0;
    }
    statuses
}

#[test]
fn readiness_and_metrics_are_on_the_inner_address_only() {
    run(Database::Sqlite, async |database: TestDatabase| {
        let other = "127.0.0.2:0".parse().unwrap();
        let service = Service::start_configured(&database, |config| config.internal_listen = Some(other)).await;
        let inner = format!("http://{}", service.internal.unwrap());
        assert_eq!(statuses(&service.base).await, [200, 404, 404]);
        assert_eq!(statuses(&inner).await, [200, 200, 200]);
        for path in ["/api/v1/cards", "/api/docs", "/c/x", "/apple/v1/log", "/"] {
            assert_eq!(get(format!("{inner}{path}")).await.0, 404, "{path} is for everybody, not on the inner address");
        }
        service.stop().await;
    });
}

#[test]
fn with_one_address_for_both_everything_is_there_and_without_an_inner_one_the_bare_health_check() {
    run(Database::Sqlite, async |database: TestDatabase| {
        let service = Service::start(&database).await;
        assert_eq!((statuses(&service.base).await, service.internal), ([200, 200, 200], None));
        service.stop().await;
        let service = Service::start_configured(&database, |config| config.internal_listen = None).await;
        assert_eq!((statuses(&service.base).await, service.internal), ([200, 404, 404], None));
        let alive = service.send(Method::GET, "/healthz", &[], Vec::new()).await;
        assert_eq!(alive.json(), json!({"status": "ok"}));
        service.stop().await;
    });
}

#[test]
fn a_node_that_stops_says_so_on_the_inner_address_to_the_end() {
    run(Database::Sqlite, async |database: TestDatabase| {
        let other = "127.0.0.2:0".parse().unwrap();
        let service = Service::start_configured(&database, |config| config.internal_listen = Some(other)).await;
        let inner = service.internal.unwrap();
        service.app.stopping.send_replace(true);
        let (status, body) = get(format!("http://{inner}/readyz")).await;
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, told), (503, json!({"status": "not ready", "reasons": ["the node stops"]})));
        service.stop().await;
        assert!(std::net::TcpStream::connect(inner).is_err(), "it is gone with the node");
    });
}
