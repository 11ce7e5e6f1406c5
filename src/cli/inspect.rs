//! `passloom inspect`: what is in a pass, and every rule that it breaks.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use openssl::x509::X509;
use serde_json::Value;

use crate::domain::checks::Severity;
use crate::platform::clock::{Clock, SystemClock};
use crate::wallets::apple::certificates::trust::Trust;
use crate::wallets::apple::inspect::{Inspection, inspect};

/// Larger files are not passes, and are not read into memory.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// Show what is in an Apple Wallet pass and every rule that it breaks.
///
/// Checks the archive, the manifest, the signature with its certificates, pass.json, the images and the translations,
/// without a network. Errors are what a phone refuses or shows broken; warnings are what its author probably did not
/// mean. Exits with 1 when there is an error, and with 2 when the file can't be read.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The .pkpass file to inspect.
    #[arg(value_name = "FILE.pkpass")]
    pub file: PathBuf,

    /// Print JSON: {"valid", "issues": [{"rule", "severity", "pointer", "detail"}], "pass", "files", "signer"}.
    #[arg(long)]
    pub json: bool,

    /// Trust this root certificate (PEM or DER) instead of Apple's, for instance certs/dev/root.pem of the sandbox.
    ///
    /// Without it, a pass that does not chain to one of Apple's roots breaks the rule signature-chain.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// Runs the command; the report goes to standard output.
///
/// # Errors
/// When a file can't be read or the root is not a certificate.
pub fn run(args: InspectArgs) -> anyhow::Result<ExitCode> {
    let size = std::fs::metadata(&args.file).with_context(|| format!("can't read {}", args.file.display()))?.len();
    anyhow::ensure!(
        size <= LARGEST_FILE,
        "{} has {size} bytes; a pass of more than {LARGEST_FILE} bytes is not read",
        args.file.display()
    );
    let archive = std::fs::read(&args.file).with_context(|| format!("can't read {}", args.file.display()))?;
    let trust = match &args.root {
        None => Trust::apple(),
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("can't read --root {}", path.display()))?;
            let root = X509::from_pem(&bytes).or_else(|_| X509::from_der(&bytes));
            Trust::only(root.with_context(|| format!("--root {} is no certificate in PEM or DER", path.display()))?)
        }
    };
    let inspection = inspect(&archive, &trust, SystemClock.now());
    let text = if args.json { serde_json::to_string_pretty(&inspection)? + "\n" } else { describe(&inspection)? };
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())?;
    Ok(if inspection.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the report for people.
fn describe(inspection: &Inspection) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    if let Some(pass) = &inspection.pass {
        describe_pass(pass, &inspection.texts, &mut out)?;
    }
    if let Some(signer) = &inspection.signer {
        line(&mut out, "Signed by", &signer.name)?;
        line(&mut out, "Issued by", &signer.issuer)?;
        line(&mut out, "Valid until", &signer.not_after.to_rfc3339_seconds())?;
        if let Some(at) = signer.signed_at {
            line(&mut out, "Signed at", &at.to_rfc3339_seconds())?;
        }
    }
    if !inspection.files.is_empty() {
        out.push_str("\nFiles\n");
        for (path, size) in &inspection.files {
            writeln!(out, "  {size:>9}  {}", plain(path))?;
        }
    }
    let errors = inspection.issues.iter().filter(|issue| issue.severity == Severity::Error).count();
    let warnings = inspection.issues.len() - errors;
    if !inspection.issues.is_empty() {
        out.push_str("\nIssues\n");
        for issue in &inspection.issues {
            let severity = match issue.severity {
                Severity::Error => "error  ",
                Severity::Warning => "warning",
            };
            let place = if issue.pointer.is_empty() { String::new() } else { format!(" {}", plain(&issue.pointer)) };
            writeln!(out, "  {severity}  {}{place}: {}", issue.rule, plain(&issue.detail))?;
        }
    }
    let verdict = match (errors, warnings) {
        (0, 0) => "Valid: no rule is broken.".to_owned(),
        (0, _) => format!("Valid, with {}.", counted(warnings, "warning")),
        (_, 0) => format!("Not valid: {}.", counted(errors, "error")),
        _ => format!("Not valid: {} and {}.", counted(errors, "error"), counted(warnings, "warning")),
    };
    writeln!(out, "\n{verdict}")?;
    Ok(out)
}

fn describe_pass(pass: &Value, texts: &HashMap<String, String>, out: &mut String) -> std::fmt::Result {
    let in_words = |text: &str| texts.get(text).map_or_else(|| text.to_owned(), String::clone);
    for (label, key) in [
        ("Organization", "organizationName"),
        ("Description", "description"),
        ("Serial number", "serialNumber"),
        ("Pass type", "passTypeIdentifier"),
        ("Team", "teamIdentifier"),
        ("Updates from", "webServiceURL"),
        ("Expires", "expirationDate"),
    ] {
        if let Some(text) = pass.get(key).and_then(Value::as_str) {
            line(out, label, &in_words(text))?;
        }
    }
    for style in ["boardingPass", "eventTicket", "coupon", "storeCard", "generic", "posterGeneric"] {
        let Some(groups) = pass.get(style).and_then(Value::as_object) else { continue };
        line(out, "Style", style)?;
        for (group, fields) in groups {
            for field in fields.as_array().into_iter().flatten() {
                let text = |key: &str| match field.get(key) {
                    Some(Value::String(text)) => in_words(text),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                let group = group.trim_end_matches("Fields");
                let shown = format!("{} {}: {}", plain(&text("key")), plain(&text("label")), plain(&text("value")));
                writeln!(out, "  {:<14} {shown}", plain(group))?;
            }
        }
    }
    Ok(())
}

fn line(out: &mut String, label: &str, text: &str) -> std::fmt::Result {
    writeln!(out, "{label:<14} {}", plain(text))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns a text of the pass made fit for a terminal: shortened, and without control characters that could redraw the
/// screen.
fn plain(text: &str) -> String {
    const LONGEST: usize = 400;
    let invisible = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown: String = text.chars().take(LONGEST).map(|c| if invisible(c) { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_pass_can_not_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{202e}c"), "a [2Jb  c");
        assert_eq!(plain(&"x".repeat(500)).chars().count(), 401);
    }
}
