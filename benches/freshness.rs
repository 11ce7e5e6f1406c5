//! From the PATCH that changes a balance to the fresh pass on the simulated phone.
//!
//! Beside it, in the same run, what the phone and the simulated push service cost by themselves: a push straight to
//! the simulator and its way to the phone, one list and one fetch. The difference is ours.
//! `cargo bench --bench freshness` (set PASSLOOM_BENCH_DATABASE_URL for PostgreSQL)

mod support;

use std::time::{Duration, Instant};

use passloom::domain::ids::{PassTypeId, PushToken};
use passloom::platform::clock::{Clock, SystemClock};
use passloom::platform::random::SystemRandom;
use passloom::sandbox::certificates::PASS_TYPE;
use passloom::sandbox::phone::{Phone, PhoneOptions};
use serde_json::json;
use support::Service;

const CHANGES: usize = 100;

fn summary(name: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let ms = |place: usize| times[place].as_secs_f64() * 1000.0;
    let (median, p99) = (ms(times.len() / 2), ms(times.len() * 99 / 100));
    println!("{name:<52} median {median:7.2} ms   p99 {p99:7.2} ms");
    (median, p99)
}

async fn run() -> anyhow::Result<()> {
    let service = Service::start(|_| ()).await?;
    let (app, facts, http) = (&service.app, &service.facts, &service.http);
    let root = openssl::x509::X509::from_pem(&std::fs::read(&facts.root)?)?;
    let mut phone = Phone::new(&SystemRandom, PhoneOptions { language: "en".to_owned(), root: Some(root) })?;
    let serial = phone.add(facts.demo_card.as_deref().expect("a demo card"), SystemClock.now()).await?;
    let mut line = phone.listen(&serial).await?;
    let url = format!("{}/api/v1/cards/demo", app.public_url);
    let issuer = app.apple_issuer(&passloom::actions::keys::default_workspace()).expect("an issuer");
    let (topic, token) = (PassTypeId::parse(PASS_TYPE)?, PushToken::parse(phone.push_token())?);

    let (mut whole, mut simulator, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for points in 0..CHANGES {
        // The window between two pushes to one device is 2 seconds by contract: it is let pass, not measured.
        tokio::time::sleep(Duration::from_millis(2_050)).await;
        let started = Instant::now();
        issuer.apns.push(&topic, &token, SystemClock.now()).await;
        let push = line.next().await?.expect("a push");
        phone.update(&push, SystemClock.now()).await?;
        phone.fetch(&serial, SystemClock.now()).await?;
        simulator.push(started.elapsed());

        let started = Instant::now();
        let patch =
            http.patch(&url).bearer_auth(&facts.api_key).json(&json!({"attributes": {"points": points + 1000}}));
        patch.send().await?.error_for_status()?;
        answered.push(started.elapsed());
        let push = line.next().await?.expect("a push");
        phone.update(&push, SystemClock.now()).await?;
        assert_eq!(phone.field(&serial, "points"), Some((points + 1000).to_string()));
        whole.push(started.elapsed());
    }
    println!("{CHANGES} changes of one card, {}", service.database());
    summary("PATCH answered", answered);
    let (whole_median, whole_p99) = summary("PATCH to fresh pass on the phone", whole);
    let (own_median, _) = summary("simulator and phone by themselves (nothing changed)", simulator);
    println!(
        "beyond the simulator: median {:.2} ms, p99 {:.2} ms  (aim 15 and 50)",
        whole_median - own_median,
        whole_p99 - own_median
    );
    service.stop().await
}

fn main() -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(run())
}
