//! A job that fails is started again, and whoever asks whether the node is ready learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openssl::error::ErrorStack;
use passloom::platform::clock::ManualClock;
use passloom::platform::random::{Random, SystemRandom};
use passloom::startup::{Contents, JobMode, Outside};
use reqwest::Method;
use serde_json::json;

use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    readyz_names_a_job_that_is_down_until_it_runs_again,
    a_delivery_worker_that_panics_starts_again_and_phones_are_told_of_everything,
];

async fn readyz_names_a_job_that_is_down_until_it_runs_again(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ready = async || {
        let answer = service.send(Method::GET, "/readyz", &[], Vec::new()).await;
        (answer.status, answer.json())
    };
    assert_eq!(ready().await, (200, json!({"status": "ready", "warnings": []})));
    service.app.job_states.is_down("record", "the job record panicked; it starts again after 2 s".to_owned());
    let reasons = ["the job record panicked; it starts again after 2 s"];
    assert_eq!(ready().await, (503, json!({"status": "not ready", "reasons": reasons})));
    service.app.job_states.is_well("record");
    assert_eq!(ready().await.0, 200);
    service.stop().await;
}

/// Panics once, when a job asks for the random name of a lease.
#[derive(Debug, Default)]
struct PanicsOnce(AtomicBool);

impl Random for PanicsOnce {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), ErrorStack> {
        // Jobs run on tokio's threads, requests on those of the server.
        let on_a_thread_of_jobs = std::thread::current().name().is_some_and(|name| name.starts_with("tokio"));
        if buffer.len() == 32 && on_a_thread_of_jobs && self.0.swap(false, Ordering::SeqCst) {
            panic!("on purpose");
        }
        SystemRandom.fill(buffer)
    }
}

async fn a_delivery_worker_that_panics_starts_again_and_phones_are_told_of_everything(database: TestDatabase) {
    let random = Arc::new(PanicsOnce::default());
    let outside = |clock: Arc<ManualClock>| Outside { clock, random: random.clone(), wallets: Vec::new() };
    let service = Service::start_in(&database, Contents::Nothing, JobMode::Running, |_| {}, outside).await;
    service.publish("bakery", &bakery()).await;
    let card = service.put_card("M-1", &anna(0)).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let mut line = phone.listen(&serial).await.unwrap();
    let mut down = service.app.job_states.watch();
    random.0.store(true, Ordering::SeqCst);

    service.patch_card("M-1", &json!({"attributes": {"points": 7}})).await;
    let told = down.wait_for(|down| down.contains_key("deliver")).await.unwrap()["deliver"].clone();
    assert_eq!(told, "the job deliver panicked; it starts again after 1 s");
    down.wait_for(|down| down.is_empty()).await.unwrap();
    assert_eq!(line.next().await.unwrap().as_deref(), Some(PASS_TYPE), "the push that the panic held up");
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("7"));
    let metrics = service.send(Method::GET, "/metrics", &[], Vec::new()).await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    for (job, failures) in [("deliver", 1), ("record", 0), ("expire", 0), ("prune", 0), ("listen", 0), ("issuers", 0)] {
        let line = format!("passloom_job_failures_total{{job=\"{job}\"}} {failures}");
        assert!(metrics.lines().any(|one| one == line), "{line} is missing in {metrics}");
    }
    drop(line);
    service.stop_with_work_left().await;
}
