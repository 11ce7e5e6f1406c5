//! `passloom template`: manages a running service's templates on the terminal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, ServiceArgs, block_on};
use crate::domain::ids::TemplateId;

/// Check, export and import a running service's templates.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// Show every rule that a template's draft breaks; exits with 1 when one is an error.
    Check {
        /// The template.
        #[arg(value_parser = id)]
        id: TemplateId,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Write a template's draft and its pictures to a ZIP archive.
    Export {
        /// The template.
        #[arg(value_parser = id)]
        id: TemplateId,
        /// The file to make [default: <ID>.zip]; it must not be there yet.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Make a template of an exported archive, a .pkpass or a .pkpasstemplate; prints its id.
    Import {
        /// The archive.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The new template's id; without it that in the archive when it is free, else one made by the service.
        #[arg(long, value_parser = id)]
        id: Option<TemplateId>,
        #[command(flatten)]
        service: ServiceArgs,
    },
}

fn id(text: &str) -> Result<TemplateId, String> {
    TemplateId::parse(text).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// When the service reports a problem, or a file can't be read or created.
pub fn run(args: TemplateArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        TemplateCommand::Check { id, service } => block_on(check(Client::new(&service)?, id)),
        TemplateCommand::Export { id, file, service } => block_on(export(Client::new(&service)?, id, file)),
        TemplateCommand::Import { file, id, service } => block_on(import(Client::new(&service)?, file, id)),
    }
}

async fn check(client: Client, id: TemplateId) -> anyhow::Result<ExitCode> {
    let answer = client.json(client.request(Method::POST, &format!("/templates/{id}/check"))).await?;
    let issues = answer["issues"].as_array().cloned().unwrap_or_default();
    let text = |issue: &Value, member: &str| issue[member].as_str().unwrap_or_default().to_owned();
    for issue in &issues {
        let at = text(issue, "pointer");
        let at = if at.is_empty() { "the whole" } else { &at };
        println!("{:<7}  {}  {at}: {}", text(issue, "severity"), text(issue, "rule"), text(issue, "detail"));
    }
    let broken = issues.iter().any(|issue| issue["severity"] == "error");
    if issues.is_empty() {
        println!("{id} breaks no rule.");
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn export(client: Client, id: TemplateId, file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{id}.zip")));
    let answer = client.send(client.request(Method::GET, &format!("/templates/{id}/export"))).await?;
    let archive = answer.bytes().await.context("the archive broke off")?;
    let unmade = || format!("{} can't be made", file.display());
    let mut made = std::fs::File::create_new(&file).with_context(unmade)?;
    std::io::Write::write_all(&mut made, &archive).with_context(unmade)?;
    println!("Wrote {} ({} bytes).", file.display(), archive.len());
    Ok(ExitCode::SUCCESS)
}

async fn import(client: Client, file: PathBuf, id: Option<TemplateId>) -> anyhow::Result<ExitCode> {
    let archive = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let query = id.map_or_else(String::new, |id| format!("?id={id}"));
    let request = client.request(Method::POST, &format!("/templates/import{query}"));
    let answer = client.json(request.header("content-type", "application/zip").body(archive)).await?;
    println!("{}", answer["id"].as_str().unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}
