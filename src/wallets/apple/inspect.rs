//! Reports all that can be said about a `.pkpass` from the file alone; `passloom inspect` prints it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::rules::report::Report;
use super::rules::{self, Context, Files, OwnAddresses, strings};
use crate::domain::checks::{Issue, Severity};
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::trust::Trust;
use crate::wallets::apple::inspect::verify::SignerInfo;

/// The findings about a `.pkpass`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inspection {
    /// Whether no rule of severity error is broken.
    pub valid: bool,
    /// The broken rules, errors first, else in the order of the archive, the manifest, the signature and the pass.
    pub issues: Vec<Issue>,
    /// The pass.json, when readable.
    pub pass: Option<Value>,
    /// The packaged files with their sizes in bytes.
    pub files: BTreeMap<String, u64>,
    /// The signer, when readable.
    pub signer: Option<SignerInfo>,
    /// The texts that phones show in place of keys, in English or else the first language.
    #[serde(skip)]
    pub texts: HashMap<String, String>,
}

/// Checks an archive against every rule of the catalogue.
///
/// `archive` may be hostile: at most 64 MiB and 1000 entries are unpacked, and no image that declares more than 4096
/// pixels a side is decoded. A pass whose `webServiceURL` leads to this machine is checked as a sandbox's pass.
pub fn inspect(archive: &[u8], trust: &Trust, now: Timestamp) -> Inspection {
    let mut report = Report::default();
    let unpacked = unpack::unpack(archive, &mut report);
    let mut issues = Vec::new();
    let (mut pass, mut signer) = (None, None);
    if unpacked.readable {
        let files = &unpacked.files;
        verify::check_manifest(files, &mut report);
        pass = read_pass(files, &mut issues);
        signer = verify::check_signature(files, pass.as_ref(), trust, now, &mut report);
    }
    if let Some(pass) = &pass {
        let url = pass.get("webServiceURL").and_then(Value::as_str).unwrap_or_default();
        let context = Context { now, own_addresses: OwnAddresses::of(url) };
        issues.extend(rules::check_pass(pass, &unpacked.files, &context));
    }
    let mut issues = [report.finish(), issues].concat();
    issues.sort_by_key(|issue| issue.severity);
    Inspection {
        valid: issues.iter().all(|issue| issue.severity != Severity::Error),
        issues,
        pass,
        files: unpacked.files.iter().map(|(path, content)| (path.clone(), content.len() as u64)).collect(),
        signer,
        texts: texts(&unpacked.files),
    }
}

fn texts(files: &Files) -> HashMap<String, String> {
    let first = || files.iter().find(|(path, _)| path.ends_with(".lproj/pass.strings")).map(|(_, content)| content);
    let table = files.get("en.lproj/pass.strings").or_else(first).and_then(|content| strings::decode(content));
    table.and_then(|text| strings::parse(&text).ok()).unwrap_or_default().into_iter().collect()
}

fn read_pass(files: &Files, issues: &mut Vec<Issue>) -> Option<Value> {
    let Some(content) = files.get("pass.json") else {
        issues.push(Issue::error("pass-json-missing", "pass.json", "pass.json is absent; it is the pass itself"));
        return None;
    };
    let (pass, found) = rules::parse_pass(content);
    issues.extend(found);
    pass
}

#[cfg(test)]
mod tests;
pub mod unpack;
pub mod verify;
