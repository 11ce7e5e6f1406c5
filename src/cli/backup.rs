//! `passloom backup`: a copy of the embedded database, while the service runs or not.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::Config;
use crate::store::Store;

/// Copy the embedded database to a file, while the service runs or not.
///
/// The copy is one moment of the database, whole and compact, readable by its owner only: it holds members' data. The
/// master key isn't in it and must be kept elsewhere; without it the secrets in the copy can't be opened. To restore: stop the
/// service, put the copy in the database's place without the -wal and -shm files beside it, and run `passloom
/// after-restore`. A PostgreSQL is backed up by its own tools (pg_dump).
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to make; it must not be there yet.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// A TOML file with settings, as for serve.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Makes the copy.
///
/// # Errors
/// When a setting is wrong, the file is there already or can't be written, or the database isn't the embedded one.
pub fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    let Some(database) = config.database_url.strip_prefix("sqlite://") else {
        bail!(
            "PASSLOOM_DATABASE_URL: found a PostgreSQL; expected the embedded database (a PostgreSQL is backed up by pg_dump)"
        );
    };
    if !Path::new(database).exists() {
        bail!("PASSLOOM_DATABASE_URL: there is no database at {database} yet");
    }
    let file = args.file;
    let unmade = || format!("{} can't be made", file.display());
    if file.exists() {
        return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists)).with_context(unmade);
    }
    // Half a copy must not be mistaken for a whole one: the file gets its name when it is complete.
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let _ = std::fs::remove_file(&part);
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).with_context(unmade)?;
    let copied = actix_web::rt::System::new().block_on(async {
        let store = Store::connect(&config.database_url).await.context("the database can't be opened")?;
        let copied = store.copy_to(&part).await.context("the database can't be copied");
        store.close().await;
        copied
    });
    let done = copied.and_then(|()| made.sync_all().and_then(|()| std::fs::rename(&part, &file)).with_context(unmade));
    if let Err(error) = done {
        let _ = std::fs::remove_file(&part);
        return Err(error);
    }
    println!("Copied {database} to {} ({} bytes).", file.display(), std::fs::metadata(&file)?.len());
    println!("The master key is not in it: keep that elsewhere.");
    Ok(ExitCode::SUCCESS)
}
