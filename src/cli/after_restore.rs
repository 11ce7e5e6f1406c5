//! `passloom after-restore`: makes phones discard what they learned after the backup.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::actions::workspaces::after_restore::after_restore;
use crate::config::Config;
use crate::platform::clock::{Clock, SystemClock};
use crate::store::Store;

/// Run once after the database was restored from a backup, before or while the service runs again.
///
/// Phones may hold passes, and know update tags, of changes that the restored database has never heard of. This raises the
/// epoch in the tags and gives every card a new face, so that each phone is told and fetches what the database now holds.
/// Use the same variables and the same --config as the service. Doing it without need, or twice, only makes every phone
/// fetch its cards once more.
#[derive(Debug, Args)]
pub struct AfterRestoreArgs {
    /// A TOML file with settings, as for serve.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Raises the epochs.
///
/// # Errors
/// When a setting is wrong or the database fails.
pub fn run(args: AfterRestoreArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    actix_web::rt::System::new().block_on(async {
        let store =
            Store::open(&config.database_url).await.context("PASSLOOM_DATABASE_URL: the database can't be opened")?;
        let workspaces = after_restore(&store, SystemClock.now()).await?;
        store.close().await;
        let noun = if workspaces == 1 { "workspace" } else { "workspaces" };
        println!("Raised the epoch in {workspaces} {noun}: every card is told to its phones anew.");
        Ok(ExitCode::SUCCESS)
    })
}
