//! Featured actions (iOS 27) and upcoming entries of a season ticket (iOS 26).

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::report::{Report, quoted};
use super::{Pass, is_empty, list, text};

/// The action types, as third parties transcribe Apple's documentation; none of Apple's code lists them.
const TYPES: [&str; 14] = [
    "viewSchedule",
    "watchTrailer",
    "listenToMusic",
    "call",
    "place",
    "addToBalance",
    "order",
    "shop",
    "membershipBenefits",
    "bookAppointment",
    "bookCar",
    "bookFlight",
    "bookStay",
    "viewOffersRewards",
];
const MOST_ACTIONS: usize = 2;
const LARGEST_IMAGE: f64 = 2_097_152.0;

pub fn check(pass: &Pass<'_>, report: &mut Report) {
    check_actions(pass, report);
    check_upcoming(pass, report);
}

fn check_actions(pass: &Pass<'_>, report: &mut Report) {
    let actions = list(pass.root, "featuredActions");
    if actions.len() > MOST_ACTIONS {
        let detail = format!("has {} actions; at most {MOST_ACTIONS} are allowed", actions.len());
        report.error("actions-count", "/featuredActions", detail);
    }
    if !actions.is_empty() && (pass.poster_event || pass.semantic_boarding) {
        let detail = "poster event tickets and semantic boarding passes were not seen to show featured actions";
        report.warning("action-style", "/featuredActions", detail);
    }
    let mut identifiers = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        let Some(action) = action.as_object() else { continue };
        let at = |key: &str| format!("/featuredActions/{index}/{key}");
        for key in ["identifier", "type"] {
            if is_empty(action.get(key)) {
                report.error("action-key-missing", at(key), format!("the action has no {key}"));
            }
        }
        let kind = text(action, "type").unwrap_or_default();
        let target = if kind == "place" { "placeIdentifier" } else { "url" };
        if is_empty(action.get(target)) && is_empty(action.get("url")) {
            report.error("action-key-missing", at(target), format!("the action has no {target} to lead to"));
        }
        if kind == "place" {
            report.warning(
                "action-place-unrendered",
                at("type"),
                "an action of type place was not seen on a device so far",
            );
        } else if !kind.is_empty() && !TYPES.contains(&kind) {
            let detail = format!("is {}; known are {}", quoted(kind), TYPES.join(", "));
            report.warning("action-type-unknown", at("type"), detail);
        }
        if let Some(identifier) = text(action, "identifier")
            && !identifiers.insert(identifier)
        {
            report.error("action-duplicate-identifier", at("identifier"), "another action has this identifier");
        }
    }
}

fn check_upcoming(pass: &Pass<'_>, report: &mut Report) {
    let entries = list(pass.root, "upcomingPassInformation");
    if !entries.is_empty() && !pass.poster_event {
        let detail = "is shown with the poster layout of event tickets only";
        report.warning("upcoming-style", "/upcomingPassInformation", detail);
    }
    let mut identifiers = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(entry) = entry.as_object() else { continue };
        let pointer = format!("/upcomingPassInformation/{index}");
        for key in ["identifier", "name", "type"] {
            if is_empty(entry.get(key)) {
                report.error("upcoming-key-missing", format!("{pointer}/{key}"), format!("the entry has no {key}"));
            }
        }
        if let Some(kind) = text(entry, "type").filter(|kind| !kind.is_empty() && *kind != "event") {
            let detail = format!("is {}; the only type is event", quoted(kind));
            report.error("upcoming-key-missing", format!("{pointer}/type"), detail);
        }
        if let Some(identifier) = text(entry, "identifier")
            && !identifiers.insert(identifier)
        {
            let detail = "another entry has this identifier";
            report.error("upcoming-duplicate-identifier", format!("{pointer}/identifier"), detail);
        }
        note_spelling(entry, "urls", "URLs", &pointer, report);
        for role in ["headerImage", "venueMap"] {
            if let Some(image) = entry.get("images").and_then(|images| images.get(role)).and_then(Value::as_object) {
                check_image(image, &format!("{pointer}/images/{role}"), report);
            }
        }
    }
}

fn note_spelling(object: &Map<String, Value>, found: &str, documented: &str, pointer: &str, report: &mut Report) {
    if object.contains_key(found) {
        let detail = format!("Apple's documentation spells this {documented}");
        report.warning("upcoming-key-spelling", format!("{pointer}/{found}"), detail);
    }
}

fn check_image(image: &Map<String, Value>, pointer: &str, report: &mut Report) {
    note_spelling(image, "urls", "URLs", pointer, report);
    let key = if image.contains_key("URLs") { "URLs" } else { "urls" };
    for (index, file) in list(image, key).iter().enumerate() {
        let Some(file) = file.as_object() else { continue };
        let pointer = format!("{pointer}/{key}/{index}");
        note_spelling(file, "sha256", "SHA256", &pointer, report);
        note_spelling(file, "url", "URL", &pointer, report);
        let digest = text(file, "SHA256").or_else(|| text(file, "sha256")).unwrap_or_default();
        let url = text(file, "URL").or_else(|| text(file, "url")).unwrap_or_default();
        if digest.len() != 64 || !digest.bytes().all(|c| c.is_ascii_hexdigit()) {
            report.error("upcoming-image", format!("{pointer}/SHA256"), "is absent or not 64 hexadecimal digits");
        }
        if !url.starts_with("https://") {
            report.error("upcoming-image", format!("{pointer}/URL"), "is absent or not an https address");
        }
        if file.get("size").and_then(Value::as_f64).is_some_and(|size| size > LARGEST_IMAGE) {
            report.error("upcoming-image", format!("{pointer}/size"), "is above 2,097,152 bytes");
        }
    }
}
