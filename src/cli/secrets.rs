//! `passloom secrets`: manages the master key and what it encrypts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::actions::workspaces::rotate_secrets::rotate_secrets;
use crate::config::Config;
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::random::SystemRandom;
use crate::store::{Store, sealed};

/// Replace the master key, which encrypts the secrets in the database.
#[derive(Debug, Args)]
pub struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    Rotate(RotateArgs),
}

/// Encrypt every secret in the database anew, from PASSLOOM_MASTER_KEY_PREVIOUS to PASSLOOM_MASTER_KEY, while nodes serve.
///
/// First restart the nodes, one after the other, with the new key as PASSLOOM_MASTER_KEY and the old one as
/// PASSLOOM_MASTER_KEY_PREVIOUS: they open what either has encrypted. Then run this once, with the same variables and the same
/// --config. Then restart the nodes without PASSLOOM_MASTER_KEY_PREVIOUS. Broken off, it can be run again. Backups made before
/// need the old key.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// A TOML file with settings, as for serve.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When a setting is wrong, a secret is damaged or sealed under a third key, or the database fails.
pub fn run(args: SecretsArgs) -> anyhow::Result<ExitCode> {
    let SecretsCommand::Rotate(args) = args.command;
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    let Some(new) = &config.master_key else {
        bail!("PASSLOOM_MASTER_KEY: found nothing; expected the key to which everything is encrypted anew");
    };
    let Some(old) = &config.master_key_previous else {
        bail!(
            "PASSLOOM_MASTER_KEY_PREVIOUS: found nothing; expected the key under which the secrets are (the sandbox keeps its \
             own in {})",
            config.data_dir.join("master.key").display()
        );
    };
    if new.id() == old.id() {
        bail!("PASSLOOM_MASTER_KEY_PREVIOUS: found the same key as PASSLOOM_MASTER_KEY; expected the one before it");
    }
    actix_web::rt::System::new().block_on(async {
        let store = Store::connect(&config.database_url)
            .await
            .context("PASSLOOM_DATABASE_URL: the database can't be opened")?;
        let rotated = async {
            let count = rotate_secrets(&store, &SystemRandom, old, new, SystemClock.now()).await?;
            let left = sealed::count_under_others(&mut store.read().await?, (new.mark(), new.mark())).await?;
            anyhow::Ok((count, left))
        };
        let rotated = rotated.await;
        store.close().await;
        let (count, left) = rotated?;
        let noun = if count == 1 { "secret" } else { "secrets" };
        println!("Encrypted {count} {noun} anew under the key {}.", new.id());
        if left > 0 {
            bail!("{left} secrets are under neither key; run it again with theirs as PASSLOOM_MASTER_KEY_PREVIOUS");
        }
        println!("Nothing in the database needs the key {} any more: PASSLOOM_MASTER_KEY_PREVIOUS can go.", old.id());
        Ok(ExitCode::SUCCESS)
    })
}
