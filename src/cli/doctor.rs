//! `passloom doctor`: reports what is wrong with this installation.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::config::Config;
use crate::doctor::{State, examine};
use crate::platform::clock::SystemClock;
use crate::platform::random::SystemRandom;
use crate::startup::Outside;

/// Examine this installation and say what is wrong with it.
///
/// Looks at the configuration, the database (without changing it), the certificate and its days, APNs (it must accept
/// the certificate), the public address (it must lead here), the clock, and does the whole main job once with a
/// simulated phone, on a database and a port of its own. Run it with the same variables and the same --config as the
/// service, while that runs or not. Exits with 1 when something doesn't work, with 2 when the settings can't be read.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A TOML file with settings, as for serve.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print JSON: {"healthy", "findings": [{"check", "state": "ok|warning|error", "detail"}]}.
    #[arg(long)]
    pub json: bool,
}

/// Examines the installation; the report goes to standard output.
///
/// # Errors
/// When a setting is wrong.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), |name| std::env::var(name).ok())?;
    let outside = Outside { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), wallets: Vec::new() };
    let findings = actix_web::rt::System::new().block_on(examine(&config, &outside));
    let healthy = findings.iter().all(|finding| finding.state != State::Error);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({"healthy": healthy, "findings": findings}))?);
    } else {
        for finding in &findings {
            let state = match finding.state {
                State::Ok => "ok     ",
                State::Warning => "warning",
                State::Error => "error  ",
            };
            println!("{state}  {:<13}  {}", finding.check, finding.detail);
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
