//! `passloom migrate`: brings the database's schema up to date without serving.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::config::Config;
use crate::startup::lock_database;
use crate::store::{Store, health};

/// Bring the database's schema up to date.
///
/// Each start of the service does this by itself; this is for those who want it done before. Stop the service and make a
/// backup first: there is no way back. Use the same variables and the same --config as the service.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// A TOML file with settings, as for serve.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Applies the migrations that are due.
///
/// # Errors
/// When a setting is wrong or the database fails.
pub fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    const PLACE: &str = "PASSLOOM_DATABASE_URL: the database can't be opened";
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    actix_web::rt::System::new().block_on(async {
        let _alone = lock_database(&config).await?;
        let store = Store::connect(&config.database_url).await.context(PLACE)?;
        // A new database has no table of migrations.
        let before = health::applied_migrations(&mut store.read().await?).await.unwrap_or_default();
        store.close().await;
        let store = Store::open(&config.database_url).await.context(PLACE)?;
        let all = store.migrations();
        store.close().await;
        let due = all.iter().filter(|version| !before.contains(version)).count();
        let migrations = |count: usize| format!("{count} {}", if count == 1 { "migration" } else { "migrations" });
        match due {
            0 => println!("The schema is up to date ({}).", migrations(all.len())),
            due => println!("Applied {}; the schema is up to date.", migrations(due)),
        }
        Ok(ExitCode::SUCCESS)
    })
}
