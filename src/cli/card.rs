//! `passloom card`: manages a running service's cards on the terminal, one by one or from a table.

mod import;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, ServiceArgs, block_on};
use crate::domain::ids::CardId;

/// Put, show and import a running service's cards.
#[derive(Debug, Args)]
pub struct CardArgs {
    #[command(subcommand)]
    command: CardCommand,
}

#[derive(Debug, Subcommand)]
enum CardCommand {
    /// Issue a card, or replace what was said of it, by a JSON document; prints the card.
    Put {
        /// Your own number for the card.
        #[arg(value_parser = id)]
        id: CardId,
        /// The document, as PUT /api/v1/cards/{id} takes it; without it, or -, standard input.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        service: ServiceArgs,
    },
    /// Show a card.
    Get {
        /// Your own number for the card.
        #[arg(value_parser = id)]
        id: CardId,
        #[command(flatten)]
        service: ServiceArgs,
    },
    Import(import::ImportArgs),
}

fn id(text: &str) -> Result<CardId, String> {
    CardId::parse(text).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// When the service reports a problem, or a file can't be read.
pub fn run(args: CardArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CardCommand::Put { id, file, service } => {
            let document = document(file)?;
            block_on(show(Client::new(&service)?, Method::PUT, id, Some(document)))
        }
        CardCommand::Get { id, service } => block_on(show(Client::new(&service)?, Method::GET, id, None)),
        CardCommand::Import(args) => import::run(args),
    }
}

fn document(file: Option<PathBuf>) -> anyhow::Result<Vec<u8>> {
    match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => std::fs::read(&file).with_context(|| format!("can't read {}", file.display())),
        None => {
            let mut document = Vec::new();
            std::io::stdin().read_to_end(&mut document).context("can't read standard input")?;
            Ok(document)
        }
    }
}

async fn show(client: Client, method: Method, id: CardId, document: Option<Vec<u8>>) -> anyhow::Result<ExitCode> {
    let path = format!("/cards/{}", utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC));
    let mut request = client.request(method, &path);
    if let Some(document) = document {
        request = request.header("content-type", "application/json").body(document);
    }
    let card: Value = client.json(request).await?;
    println!("{}", serde_json::to_string_pretty(&card)?);
    Ok(ExitCode::SUCCESS)
}
