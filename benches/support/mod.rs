//! The service that a benchmark measures: a sandbox in this process, with a directory and a database of its own.

#![allow(dead_code)] // no benchmark needs all of it

use std::sync::Arc;

use actix_web::web;
use passloom::app::App;
use passloom::config::Config;
use passloom::platform::clock::SystemClock;
use passloom::platform::random::SystemRandom;
use passloom::startup::{Contents, JobMode, Outside, Running, SandboxFacts, prepare};
use tempfile::TempDir;

/// Where the database is when it shall be a PostgreSQL; an empty one for each run.
pub const DATABASE: &str = "PASSLOOM_BENCH_DATABASE_URL";

/// A running sandbox.
pub struct Service {
    pub app: web::Data<App>,
    pub facts: SandboxFacts,
    pub database_url: String,
    pub http: reqwest::Client,
    running: Running,
    _directory: TempDir,
}

impl Service {
    /// Starts it with the settings that `change` makes.
    pub async fn start(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut config = Config::load(None, |_| None)?;
        config.listen = "127.0.0.1:0".parse()?;
        config.internal_listen = None;
        config.data_dir = directory.path().to_owned();
        config.data_dir_given = true;
        config.database_url = std::env::var(DATABASE)
            .unwrap_or_else(|_| format!("sqlite://{}", directory.path().join("passloom.db").display()));
        config.sandbox = Some(true);
        change(&mut config);
        let database_url = config.database_url.clone();
        let outside = Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), wallets: Vec::new() };
        let prepared = prepare(config, outside, Contents::Starters).await?;
        let facts = prepared.sandbox.clone().expect("a sandbox");
        let running = prepared.run(JobMode::Running)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { app: running.app.clone(), facts, database_url, http, running, _directory: directory })
    }

    /// The database's name for the reports.
    pub fn database(&self) -> &'static str {
        if self.app.store.is_embedded() { "SQLite" } else { "PostgreSQL" }
    }

    /// Stops in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.running.stop().await?)
    }
}
