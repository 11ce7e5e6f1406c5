//! Checks designs and cards as a phone will check their passes: the rules run on a pass.json written by the production code,
//! and pointers lead into the template document.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::domain::cards::Card;
use crate::domain::checks::{Issue, Severity};
use crate::domain::ids::{AttributeName, AuthToken, PassTypeId};
use crate::domain::input::{Problems, pointer};
use crate::domain::render::budget::{MOST_PASS_JSON, MOST_STEPS};
use crate::domain::render::expression::Text;
use crate::domain::render::{Fault, RenderedCard, render_or_faults};
use crate::domain::templates::picture::{Look, PictureName};
use crate::domain::templates::{Group, Phrase, Template};
use crate::domain::time::Timestamp;
use crate::domain::values::attribute::value_pointer;
use crate::wallets::apple::certificates::identity::SigningIdentity;
use crate::wallets::apple::package::pass_json::{PassIdentity, group_key, pass_json};
use crate::wallets::apple::package::prepare::{folders, laid_out};
use crate::wallets::apple::package::strings;
use crate::wallets::apple::rules::report::without_quotes;
use crate::wallets::apple::rules::{Context, Files, OwnAddresses, check_pass};
use crate::wallets::images::VersionFile;

/// The most steps for rendering a template's samples: one card for each change message.
const MOST_FOR_CHECK: u64 = 20 * MOST_STEPS;

/// A design with everything a sample pass needs, but with no real identity.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The design.
    pub template: &'a Template,
    /// The issuer that would sign.
    pub identity: Option<&'a SigningIdentity>,
    /// The address at which phones would reach the service.
    pub public_url: &'a str,
    /// The current time.
    pub now: Timestamp,
}

impl Sample<'_> {
    /// Returns the page address that the sample's card would have.
    pub fn page_url(&self) -> String {
        format!("{}/c/sample", self.public_url)
    }

    /// Calls `use_it` with the identity of a sample card. None of its tokens is valid.
    pub fn with_identity<T>(&self, card: &Card, use_it: impl FnOnce(&PassIdentity<'_>) -> T) -> T {
        let sample = PassTypeId::trusted("pass.sample".to_owned());
        use_it(&PassIdentity {
            serial: &card.serial,
            pass_type: self.identity.map_or(&sample, |i| &i.pass_type),
            team: self.identity.map_or("TEAMSAMPLE", |i| i.team.as_str()),
            auth_token: &AuthToken::trusted("sample-that-opens-nothing".to_owned()),
            web_service_url: &format!("{}/apple", self.public_url),
        })
    }

    /// Returns every rule violation of a card with these values.
    pub fn issues(&self, files: &[VersionFile], values: &Map<String, Value>) -> Vec<Issue> {
        let Self { template, now, .. } = *self;
        let context = Context { now, own_addresses: OwnAddresses::of(self.public_url) };
        let common = laid_out(&folders(template), files, &Look::default());
        let mut packed: Files = common.into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        for file in files {
            // Files that other looks add are checked, too; but a tier's icon doesn't replace a missing one.
            if !file.path.rsplit('/').next().unwrap_or_default().starts_with("icon") {
                packed.entry(file.path.clone()).or_insert_with(|| file.bytes.to_vec());
            }
        }
        for (language, place) in strings::languages(template) {
            let path = format!("{}/pass.strings", strings::folder(&language));
            packed.insert(path, strings::fixed_entries(template, place).into_bytes());
        }
        let none = Files::new();
        let mut issues: Vec<Issue> = Vec::new();
        let mut steps = 0u64;
        // A pass carries one change message at a time, so each is checked on a pass of its own.
        let messages = template.messaged_fields().into_iter().map(|field| Some(field.key.clone()));
        for live_message in std::iter::once(None).chain(messages) {
            let first = live_message.is_none();
            let card = Card { live_message, ..Card::sample(values.clone(), now) };
            let found: Vec<Issue> = match render_or_faults(template, &card, &self.page_url()) {
                Ok(rendered) => {
                    steps = steps.saturating_add(rendered.taken.0);
                    let pass = self.with_identity(&card, |identity| pass_json(&rendered, identity)).json;
                    let found = check_pass(&pass, if first { &packed } else { &none }, &context);
                    found.into_iter().map(|issue| in_document(template, &pass, issue)).collect()
                }
                Err(faults) => faults.into_iter().map(unrendered).collect(),
            };
            if steps > MOST_FOR_CHECK {
                let detail = format!(
                    "its cards cost so much to draw that not every change message could be checked: {steps} steps so far; \
                     expected at most {MOST_FOR_CHECK} for all of them"
                );
                issues.push(Issue::error("check-too-costly", "/fields", detail));
                break;
            }
            for issue in found {
                let about_files = issue.pointer.starts_with("/images/") || issue.pointer.starts_with("/strings/");
                let about_files =
                    about_files || issue.rule.starts_with("poster-") || issue.rule == "event-artwork-missing";
                if (first || !about_files) && !issues.contains(&issue) {
                    issues.push(issue);
                }
            }
        }
        issues
    }
}

fn unrendered(fault: Fault) -> Issue {
    Issue::error("expression-failed", fault.at, format!("{} {}", fault.place, fault.error))
}

/// Returns the rules that a card's own values break: errors only, at the attributes. The design's own problems were
/// found when it was published. Pictures that values name must be among those that `has_picture` knows.
pub fn problems_of_values(
    rendered: &RenderedCard<'_>,
    pass: &Value,
    has_picture: &dyn Fn(&PictureName) -> bool,
    now: Timestamp,
) -> Problems {
    let template = rendered.template;
    let context = Context { now, own_addresses: OwnAddresses::Loopback };
    let mut problems = Problems::new();
    // A template stored since there are limits can't produce too large a card; an older one can.
    if !template.cost.fits() {
        let bytes = pass.to_string().len() as u64;
        if bytes > MOST_PASS_JSON {
            let detail = format!("make a pass.json of {bytes} bytes; expected at most {MOST_PASS_JSON}");
            problems.add("/attributes", detail);
        }
    }
    for (name, picture) in &rendered.named_pictures {
        if !has_picture(picture) {
            problems.add(value_pointer(name), format!("names the picture {picture}, which the template doesn't have"));
        }
    }
    for issue in check_pass(pass, &Files::new(), &context) {
        let about_files = ["image-", "strings-", "personalization-"].iter().any(|group| issue.rule.starts_with(group));
        if issue.severity != Severity::Error || about_files {
            continue;
        }
        let texts = texts_behind(template, pass, &issue.pointer);
        let used: BTreeSet<&AttributeName> = template
            .attributes
            .iter()
            .filter(|a| texts.iter().any(|text| text.uses(&a.name)))
            .map(|a| &a.name)
            .collect();
        // A text without attributes is the design's problem, not this card's. The value itself may be personal.
        for name in used {
            let detail = format!("breaks the rule {}: {}", issue.rule, without_quotes(&issue.detail));
            problems.add(value_pointer(name), detail);
        }
    }
    problems
}

/// Returns a pointer's steps, unescaped.
fn steps(at: &str) -> Vec<String> {
    at.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// Returns the group of fields that a key of a style dictionary stands for.
fn group_of(key: &str) -> Option<Group> {
    Group::ALL.into_iter().find(|group| group_key(*group) == key)
}

/// Returns the template's group and index of the field at a position in a style dictionary of the pass. Fields without
/// a value are not in the pass, so the field is found by its key; if two wrongly share a key, the one at the same rank
/// is meant.
fn field_place(template: &Template, pass: &Value, style: &str, key: &str, index: &str) -> Option<(Group, usize)> {
    let group = group_of(key)?;
    let index: usize = index.parse().ok()?;
    let written = pass.get(style)?.get(key)?.as_array()?;
    let name = written.get(index)?.get("key")?.as_str()?;
    let before = written.iter().take(index).filter(|f| f.get("key").and_then(Value::as_str) == Some(name)).count();
    let (_, fields) = template.fields.iter().find(|(found, _)| *found == group)?;
    let mut same = fields.iter().enumerate().filter(|(_, field)| field.key.as_str() == name);
    same.nth(before).map(|(place, _)| (group, place))
}

fn texts_behind<'t>(template: &'t Template, pass: &Value, at: &str) -> Vec<&'t Text> {
    let steps = steps(at);
    if template.apple_pass.decides(steps.iter().map(String::as_str)) {
        return template.apple_pass.texts_within(&format!("/apple/pass{at}"));
    }
    let phrases: Vec<&Phrase> = match steps.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["barcode" | "barcodes", ..] => {
            return template.barcode.iter().flat_map(|b| std::iter::once(&b.value).chain(&b.text)).collect();
        }
        [style, key, index, ..] if *style == template.style.name => {
            let Some((group, place)) = field_place(template, pass, style, key, index) else { return Vec::new() };
            let fields = template.fields.iter().find(|(found, _)| *found == group);
            return fields.and_then(|(_, fields)| fields.get(place)).map_or(Vec::new(), |f| {
                let words = f.label.iter().chain(&f.change_message).flat_map(|phrase| &phrase.texts);
                f.value.texts.iter().chain(&f.link).chain(words).collect()
            });
        }
        ["organizationName", ..] => vec![&template.organization],
        ["description", ..] => vec![&template.description],
        ["logoText", ..] => template.logo_text.iter().collect(),
        ["locations", ..] => template.locations.iter().filter_map(|l| l.text.as_ref()).collect(),
        _ => Vec::new(),
    };
    phrases.into_iter().flat_map(|phrase| &phrase.texts).collect()
}

/// Returns the issue with a pointer into the template document instead of pass.json or a file of the pass.
fn in_document(template: &Template, pass: &Value, issue: Issue) -> Issue {
    let at = issue.pointer.as_str();
    if at.is_empty() {
        return issue;
    }
    if !at.starts_with('/') {
        return about_file(issue);
    }
    let steps = steps(at);
    let own = || format!("/apple/pass{at}");
    let document = if template.apple_pass.decides(steps.iter().map(String::as_str)) {
        own()
    } else {
        match steps.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["barcode"] | ["barcodes", _] | ["barcodes"] => "/barcode".to_owned(),
            ["barcode", member] | ["barcodes", _, member] => match *member {
                "format" => "/barcode/format".to_owned(),
                "altText" => "/barcode/text".to_owned(),
                _ => "/barcode/value".to_owned(),
            },
            ["locations", ..] => at.replace("/relevantText", "/text"),
            ["backgroundColor"] => "/colors/background".to_owned(),
            ["foregroundColor"] => "/colors/foreground".to_owned(),
            ["labelColor"] => "/colors/label".to_owned(),
            ["organizationName"] => "/organization".to_owned(),
            ["description"] => "/description".to_owned(),
            ["logoText"] => "/logo_text".to_owned(),
            // Members that the service adds have no counterpart in the document.
            [
                "formatVersion"
                | "serialNumber"
                | "passTypeIdentifier"
                | "teamIdentifier"
                | "authenticationToken"
                | "webServiceURL",
            ] => String::new(),
            [style] if *style == template.style.name => "/apple/style".to_owned(),
            [style, key] if *style == template.style.name && group_of(key).is_some() => {
                format!("/fields/{}", group_of(key).map_or("", Group::name))
            }
            [style, key, index, rest @ ..] if *style == template.style.name => {
                let member = match rest.first().copied().unwrap_or_default() {
                    "changeMessage" => "/change_message",
                    "label" => "/label",
                    "key" => "/key",
                    "attributedValue" => "/link",
                    "value" | "numberStyle" | "currencyCode" | "dateStyle" | "timeStyle" => "/value",
                    _ => "",
                };
                field_place(template, pass, style, key, index)
                    .map_or_else(own, |(group, place)| format!("/fields/{}/{place}{member}", group.name()))
            }
            _ => own(),
        }
    };
    Issue { pointer: document, ..issue }
}

/// Returns the issue of a file, which is not in the document: a picture's pointer is its address below the template, a
/// table's that of its member.
fn about_file(issue: Issue) -> Issue {
    let (folder, file) = issue.pointer.rsplit_once('/').unwrap_or(("", &issue.pointer));
    let document = if file == "pass.strings" {
        pointer("/strings", folder.trim_end_matches(".lproj"))
    } else {
        pointer("/images", file.split(['@', '.']).next().unwrap_or_default())
    };
    let detail = format!("{}: {}", issue.pointer, issue.detail);
    Issue { pointer: document, detail, ..issue }
}
