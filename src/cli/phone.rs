//! `passloom phone`: a simulated iPhone on the terminal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use openssl::x509::X509;

use crate::platform::clock::{Clock, SystemClock};
use crate::platform::random::SystemRandom;
use crate::sandbox::phone::{Phone, PhoneOptions};

/// The pause before a lost connection is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Add a card to a simulated iPhone and watch it refresh.
///
/// Adds the card from its address, registers for updates, stays, and prints the pass's front whenever it refreshes. It
/// checks passes like a real phone and speaks Apple's protocol; pushes reach it through the sandbox's simulated APNs.
#[derive(Debug, Args)]
pub struct PhoneArgs {
    /// The card's address, as the sandbox prints it or the API answers it (urls.page).
    #[arg(value_name = "URL")]
    pub url: String,

    /// The owner's language, e.g. en, lv or ru.
    #[arg(long, default_value = "en")]
    pub language: String,

    /// The root certificate that signatures must lead to. Without it: certs/dev/root.pem when it is there, else Apple's.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// Runs until the server ends the connection.
///
/// # Errors
/// When the card can't be added.
pub fn run(args: PhoneArgs) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(watch(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn watch(args: PhoneArgs) -> anyhow::Result<()> {
    let known = Path::new("certs/dev/root.pem");
    let root = args.root.or_else(|| known.exists().then(|| known.to_owned()));
    let root = match root {
        Some(path) => {
            let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            Some(X509::from_pem(&bytes).with_context(|| format!("{} is no certificate in PEM", path.display()))?)
        }
        None => None,
    };
    let mut phone = Phone::new(&SystemRandom, PhoneOptions { language: args.language, root })?;
    let serial = phone.add(&args.url, SystemClock.now()).await?;
    // Opened before anything is printed, so that a reader of "added" can rely on the next change to arrive.
    let mut line = phone.listen(&serial).await?;
    println!("Added to the wallet.");
    show(&phone, &serial, None);
    loop {
        match line.next().await {
            Ok(Some(topic)) => refresh(&mut phone, &topic).await,
            Ok(None) => {
                println!("The server has ended.");
                return Ok(());
            }
            // The connection broke. A real phone's connection is Apple's and outlives the service.
            Err(error) => {
                eprintln!("passloom: {error}; trying again");
                line = loop {
                    tokio::time::sleep(AGAIN).await;
                    if let Ok(line) = phone.listen(&serial).await {
                        break line;
                    }
                };
                // Changes pushed meanwhile are found by polling.
                let topics: BTreeSet<String> = phone
                    .passes()
                    .values()
                    .filter_map(|held| Some(held.pass["passTypeIdentifier"].as_str()?.to_owned()))
                    .collect();
                for topic in topics {
                    refresh(&mut phone, &topic).await;
                }
            }
        }
    }
}

async fn refresh(phone: &mut Phone, topic: &str) {
    match phone.update(topic, SystemClock.now()).await {
        Ok(refreshed) => refreshed.iter().for_each(|r| show(phone, &r.serial, r.notice.as_deref())),
        Err(error) => eprintln!("passloom: {error}"),
    }
}

fn show(phone: &Phone, serial: &str, notice: Option<&str>) {
    let Some(pass) = phone.passes().get(serial) else { return };
    println!();
    if let Some(notice) = notice {
        println!("({}) {notice}", pass.organization());
    }
    println!("{}", pass.description());
    let fields = phone.front(serial);
    let width = fields.iter().map(|f| f.label.chars().count()).max().unwrap_or(0);
    for field in fields {
        let pad = width - field.label.chars().count();
        println!("  {}{}  {}", field.label, " ".repeat(pad), field.value);
    }
}
