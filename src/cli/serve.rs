//! `passloom serve`: runs the service.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, unknown_variables};
use crate::http::connections;
use crate::platform::clock::SystemClock;
use crate::platform::files;
use crate::platform::random::SystemRandom;
use crate::startup::{Contents, JobMode, Outside, SandboxFacts, lock_database, prepare};
use crate::telemetry::start_logs;

/// Serve passes, the web service for phones, and the API.
///
/// Health checks and metrics (/healthz, /readyz, /metrics) are on an address of their own, PASSLOOM_INTERNAL_LISTEN
/// (127.0.0.1:9090 by default, "off" for none); the public address has /healthz only, unless both are the same.
///
/// Settings come from PASSLOOM_… variables and the file given with --config; the environment wins. Without an issuer
/// and on a loopback address it is the sandbox. SIGTERM stops it in order: requests under way finish (up to 30
/// seconds), and unfinished deliveries are handed back.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// A TOML file with settings, e.g. listen = "127.0.0.1:8080".
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Serves until the process is asked to stop.
///
/// # Errors
/// When a setting is wrong, or something that the service needs is missing.
pub fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    start_logs(&config.log, config.log_format).map_err(anyhow::Error::msg)?;
    let (before, files) = files::raise_limit();
    if files != before {
        tracing::info!(before, files, "the limit of open files was raised");
    }
    for name in unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!(name, "this variable is no setting of this version");
    }
    actix_web::rt::System::new().block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outside = Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), wallets: Vec::new() };
    let _alone = lock_database(&config).await?;
    let prepared = prepare(config, outside, Contents::Starters).await?;
    let (address, public_url) = (prepared.listener.local_addr()?, prepared.app.public_url.clone());
    let facts = prepared.sandbox.clone();
    let running = prepared.run(JobMode::Running).context("the server can't be started")?;
    let connections = connections::room(files::limit());
    let internal = running.internal.map(|address| address.to_string());
    tracing::info!(%address, internal, public_url, sandbox = facts.is_some(), connections, "passloom serves");
    if let Some(facts) = facts {
        print_sandbox(&public_url, &facts)?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    running.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Prints lines for scripts on standard output; logs go to standard error.
fn print_sandbox(public_url: &str, facts: &SandboxFacts) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Studio: {public_url}/studio (not there yet)")?;
    writeln!(out, "API key: {}", facts.api_key)?;
    if let Some(card) = &facts.demo_card {
        writeln!(out, "Demo card: {card}")?;
    }
    out.flush()
}
