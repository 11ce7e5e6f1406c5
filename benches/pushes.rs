//! Pushes per second through a service that takes 50 ms for each, against what its streams allow: streams divided by
//! latency. The bookkeeping is included: the clock runs from the change until every outcome stands in the database.
//!
//! The streams are 100 and 200, since client, simulated APNs and database share two cores here; Apple's thousand would
//! measure the machine.
//! `cargo bench --bench pushes` (set PASSLOOM_BENCH_DATABASE_URL for PostgreSQL, an empty database for each run)

mod support;

use std::time::{Duration, Instant};

use passloom::actions::keys::default_workspace;
use passloom::domain::ids::{CardId, IssuerId, TargetAddress, TargetId};
use passloom::platform::clock::{Clock, SystemClock};
use passloom::sandbox::certificates::PASS_TYPE;
use passloom::store::deliveries;
use passloom::store::targets::{self, TargetKey, TargetKind};
use serde_json::json;
use support::{DATABASE, Service};

const LATENCY: Duration = Duration::from_millis(50);
/// So many seconds of pushes at the rate that the streams allow.
const SECONDS: usize = 10;

async fn run(streams: usize) -> anyhow::Result<()> {
    let service = Service::start(|config| config.apns_in_flight = streams).await?;
    let app = &service.app;
    let apns = app.sandbox.as_ref().expect("a simulated APNs");

    let allowed = streams as f64 / LATENCY.as_secs_f64();
    let count = allowed as usize * SECONDS;
    let (workspace, issuer_id) = (default_workspace(), IssuerId::parse(PASS_TYPE)?);
    let mut tx = app.store.begin().await?;
    for number in 0..count {
        let id = TargetId::parse(&format!("device-{number}"))?;
        let key = TargetKey { workspace: workspace.clone(), issuer: issuer_id.clone(), id };
        let token = TargetAddress::parse(&format!("{number:064x}"))?;
        targets::put(&mut tx, &key, &token, TargetKind::Apns, SystemClock.now()).await?;
        targets::register(&mut tx, &key, &CardId::parse("demo")?, 0, SystemClock.now()).await?;
    }
    tx.commit().await?;

    apns.set_latency(LATENCY);
    let url = format!("{}/api/v1/cards/demo", app.public_url);
    let patch = service.http.patch(url).bearer_auth(&service.facts.api_key);
    patch.json(&json!({"attributes": {"points": 4711}})).send().await?.error_for_status()?;
    let started = Instant::now();
    while deliveries::unfinished(&mut app.store.read().await?).await? > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(apns.counts().borrow().pushes as usize, count, "each device was pushed to once");
    assert_eq!(apns.connections(), 1);
    let rate = count as f64 / seconds;
    println!(
        "{streams} streams, {}: {count} pushes in {seconds:.2} s, {rate:.0} per second of {allowed:.0}: {:.2}  (aim 0.80)",
        service.database(),
        rate / allowed
    );
    service.stop().await
}

fn main() -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(async {
        run(100).await?;
        if std::env::var(DATABASE).is_err() {
            run(200).await?;
        }
        Ok(())
    })
}
