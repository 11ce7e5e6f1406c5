//! The issuer of the pass and the pass's names.

use serde_json::Value;

use super::report::{Report, quoted};
use super::{Context, Pass, is_empty, values};

const REQUIRED: [&str; 6] =
    ["formatVersion", "serialNumber", "passTypeIdentifier", "teamIdentifier", "organizationName", "description"];

pub fn check(pass: &Pass<'_>, context: &Context, report: &mut Report) {
    for key in REQUIRED {
        if is_empty(pass.root.get(key)) {
            report.error(
                "pass-required-key",
                format!("/{key}"),
                format!("{key} is absent or empty; every pass needs it"),
            );
        }
    }
    if let Some(version) = pass.root.get("formatVersion").filter(|version| !version.is_null())
        && version.as_i64() != Some(1)
    {
        report.error(
            "format-version",
            "/formatVersion",
            format!("is {}; expected the number 1", quoted(&version.to_string())),
        );
    }
    if let Some(found) = pass.text("passTypeIdentifier").filter(|found| !found.trim().is_empty())
        && !is_pass_type(found)
    {
        let detail = format!("is {}; expected pass. followed by a reverse domain name", quoted(found));
        report.error("pass-type-identifier-format", "/passTypeIdentifier", detail);
    }
    if let Some(found) = pass.text("teamIdentifier").filter(|found| !found.trim().is_empty())
        && !(found.len() == 10 && found.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
    {
        let detail = format!("is {}; expected ten upper-case letters or digits", quoted(found));
        report.warning("team-identifier-format", "/teamIdentifier", detail);
    }
    if let Some(found) = pass.text("serialNumber").filter(|found| !found.trim().is_empty()) {
        let length = found.chars().count();
        if length < 16 {
            let detail = format!("is {length} long; use 16 characters or more, so that it can't be guessed");
            report.warning("serial-number-short", "/serialNumber", detail);
        }
    }
    if let Some(expiry) = pass.text("expirationDate").and_then(values::date)
        && expiry < context.now
    {
        let detail = format!("was {}; Wallet shows the pass as expired", expiry.to_rfc3339_seconds());
        report.warning("expired", "/expirationDate", detail);
    }
    if let Some(nfc) = pass.root.get("nfc").and_then(Value::as_object) {
        for key in ["message", "encryptionPublicKey"] {
            if nfc.get(key).is_none_or(Value::is_null) {
                report.error("pass-required-key", format!("/nfc/{key}"), format!("{key} is absent; NFC needs it"));
            }
        }
    }
}

fn is_pass_type(text: &str) -> bool {
    text.strip_prefix("pass.").is_some_and(|rest| {
        rest.split('.')
            .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
    })
}
