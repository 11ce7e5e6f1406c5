//! The catalogue: every rule that an Apple pass can break, checked the same way by `publish` and `passloom inspect`.
//!
//! Pure functions over pass.json and the packaged files. A rule's id is stable, since people search and filter by it.
//! The groups: `schema` (types and forms of single values), `identity`, `style`, `fields`, `barcodes`, `relevance`,
//! `web_service`, `poster_event`, `boarding`, `actions`, `images`, `strings`, `contrast`. Rules on the archive, the
//! manifest and the signature are beside their readers in the folder above. To add a rule, write it in its group; a new
//! group is one line in [`check_pass`].

pub mod json;
pub mod report;
pub mod strings;
pub mod values;

mod actions;
mod barcodes;
mod boarding;
mod contrast;
pub mod fields;
mod identity;
mod images;
mod names;
mod poster_event;
mod relevance;
mod schema;
mod style;
mod web_service;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::checks::{Issue, Severity};
use crate::domain::time::Timestamp;

use report::Report;

/// The packaged files by their path in the archive.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Whether the addresses of our own servers, as written in passes, are reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnAddresses {
    /// Phones can reach them.
    Public,
    /// They lead to this machine, as in the sandbox: rules about them are warnings.
    Loopback,
}

impl OwnAddresses {
    /// Decides by one of our URLs.
    pub fn of(url: &str) -> Self {
        if values::is_loopback(url) { Self::Loopback } else { Self::Public }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Public => Severity::Error,
            Self::Loopback => Severity::Warning,
        }
    }
}

/// The facts that the rules need beside the pass.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The current time, to recognise dates in the past.
    pub now: Timestamp,
    /// Whether our own addresses are public.
    pub own_addresses: OwnAddresses,
}

/// Reads pass.json and checks `pass-json-encoding`, `pass-json-parse`, `pass-json-duplicate-key`.
pub fn parse_pass(bytes: &[u8]) -> (Option<Value>, Vec<Issue>) {
    let mut report = Report::default();
    let value = parse_into(bytes, &mut report);
    (value, report.finish())
}

fn parse_into(bytes: &[u8], report: &mut Report) -> Option<Value> {
    let text = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => {
            report.error("pass-json-encoding", "pass.json", "begins with a byte order mark; write UTF-8 without one");
            rest
        }
        None => bytes,
    };
    if let Err(error) = std::str::from_utf8(text) {
        let detail = format!("is not UTF-8 at byte {}; pass.json is always UTF-8", error.valid_up_to());
        report.error("pass-json-encoding", "pass.json", detail);
        return None;
    }
    match json::parse(text) {
        Ok(parsed) => {
            for pointer in parsed.duplicates {
                report.error(
                    "pass-json-duplicate-key",
                    pointer,
                    "stands twice in its object; readers differ in which one they take",
                );
            }
            Some(parsed.value)
        }
        Err(error) => {
            report.error("pass-json-parse", "pass.json", format!("is not strict JSON: {error}"));
            None
        }
    }
}

/// Checks a pass and the files packaged with it.
///
/// Pointers of issues are JSON pointers into `pass`, or paths of files. For no input does this panic or take more time
/// than a small multiple of the input's size.
pub fn check_pass(pass: &Value, files: &Files, context: &Context) -> Vec<Issue> {
    let mut report = Report::default();
    let Some(root) = pass.as_object() else {
        report.error("pass-json-parse", "", "pass.json is not an object");
        return report.finish();
    };
    let pass = Pass::new(root);
    schema::check(root, &mut report);
    identity::check(&pass, context, &mut report);
    style::check(&pass, files, &mut report);
    fields::check(&pass, &mut report);
    fields::check_translated_messages(&pass, files, &mut report);
    contrast::check(&pass, files, &mut report);
    barcodes::check(&pass, &mut report);
    relevance::check(&pass, &mut report);
    web_service::check(&pass, context, &mut report);
    poster_event::check(&pass, files, &mut report);
    boarding::check(&pass, &mut report);
    actions::check(&pass, &mut report);
    names::check(files, &mut report);
    images::check(&pass, files, &mut report);
    strings::check(files, &mut report);
    strings::check_personalization(&pass, files, &mut report);
    report.finish()
}

/// Checks only the images of a pass that shows the given styles (`storeCard`, `posterGeneric`, …).
pub fn check_images(styles: &[&str], files: &Files) -> Vec<Issue> {
    let mut report = Report::default();
    let root = styles.iter().map(|style| ((*style).to_owned(), Value::Object(Map::new()))).collect();
    images::check(&Pass::new(&root), files, &mut report);
    report.finish()
}

/// Checks only whether the texts of a pass are readable on its colours and pictures.
pub fn check_contrast(pass: &Value, files: &Files) -> Vec<Issue> {
    let mut report = Report::default();
    if let Some(root) = pass.as_object() {
        contrast::check(&Pass::new(root), files, &mut report);
    }
    report.finish()
}

/// The styles that every iOS knows.
const CLASSIC_STYLES: [&str; 5] = ["boardingPass", "eventTicket", "coupon", "storeCard", "generic"];
const POSTER_GENERIC: &str = "posterGeneric";

/// A pass and the facts about it that several groups need.
struct Pass<'a> {
    root: &'a Map<String, Value>,
    /// The style dictionaries present, classic ones first.
    styles: Vec<(&'static str, &'a Map<String, Value>)>,
    /// Whether it has an event ticket and asks for the poster layout.
    poster_event: bool,
    /// Whether it has a boarding pass and asks for the semantic layout.
    semantic_boarding: bool,
}

impl<'a> Pass<'a> {
    fn new(root: &'a Map<String, Value>) -> Self {
        let style = |name: &'static str| root.get(name).and_then(Value::as_object).map(|style| (name, style));
        let styles: Vec<_> = CLASSIC_STYLES.into_iter().chain([POSTER_GENERIC]).filter_map(style).collect();
        let schemes = list(root, "preferredStyleSchemes");
        let wants = |scheme: &str| schemes.iter().any(|found| found.as_str() == Some(scheme));
        let has = |name: &str| styles.iter().any(|(style, _)| *style == name);
        let poster_event = has("eventTicket") && wants("posterEventTicket");
        let semantic_boarding = has("boardingPass") && wants("semanticBoardingPass");
        Self { root, styles, poster_event, semantic_boarding }
    }

    fn has_style(&self, name: &str) -> bool {
        self.styles.iter().any(|(style, _)| *style == name)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        text(self.root, key)
    }
}

/// Returns the text at a key; `None` when there is none or it is of another type, which the schema reports.
fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// Returns the list at a key, empty when there is none.
fn list<'a>(object: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a value is absent, null, a blank text or an empty list.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
