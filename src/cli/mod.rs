//! The commands, one file each.

pub mod after_restore;
pub mod backup;
pub mod card;
pub mod certificate;
pub mod client;
pub mod doctor;
pub mod inspect;
pub mod migrate;
pub mod phone;
pub mod secrets;
pub mod serve;
pub mod template;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Issues digital wallet passes and keeps them fresh.
///
/// Without a command it serves, and without any configuration that is the sandbox: an embedded database, a development
/// certificate, starter templates and a simulated push service.
#[derive(Debug, Parser)]
#[command(name = "passloom", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Phone(phone::PhoneArgs),
    Inspect(inspect::InspectArgs),
    Certificate(certificate::CertificateArgs),
    Doctor(doctor::DoctorArgs),
    Template(template::TemplateArgs),
    Card(card::CardArgs),
    Migrate(migrate::MigrateArgs),
    Backup(backup::BackupArgs),
    AfterRestore(after_restore::AfterRestoreArgs),
    Secrets(secrets::SecretsArgs),
}

/// Runs the command in the arguments. Failures are reported on standard error in one line.
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Some(Command::Serve(args)) => serve::run(args),
        None => serve::run(serve::ServeArgs::default()),
        Some(Command::Phone(args)) => phone::run(args),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Certificate(args)) => certificate::run(args),
        Some(Command::Doctor(args)) => doctor::run(args),
        Some(Command::Template(args)) => template::run(args),
        Some(Command::Card(args)) => card::run(args),
        Some(Command::Migrate(args)) => migrate::run(args),
        Some(Command::Backup(args)) => backup::run(args),
        Some(Command::AfterRestore(args)) => after_restore::run(args),
        Some(Command::Secrets(args)) => secrets::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("passloom: {error:#}");
        ExitCode::from(2)
    })
}
