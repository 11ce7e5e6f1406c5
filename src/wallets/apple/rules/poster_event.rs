//! Event tickets, above all the poster layout of iOS 18. Conditions are those of github.com/apple/pass-builder at 63efd0f.

use serde_json::{Map, Value};

use crate::domain::checks::{Issue, Severity};

use super::report::Report;
use super::{Files, Pass, images, is_empty, text, values};

use Severity::{Error, Warning};

type Need = (&'static str, Severity, &'static str, &'static str);

const ALWAYS: [Need; 3] = [
    ("event-name-missing", Error, "eventName", "the event's name"),
    ("event-venue-missing", Error, "venueName", "the venue's name"),
    ("seats-missing", Warning, "seats", "the seats"),
];
const SPORTS: [Need; 2] = [
    ("event-away-team-missing", Error, "awayTeamAbbreviation", "the away team"),
    ("event-home-team-missing", Error, "homeTeamAbbreviation", "the home team"),
];
const LIVE: [Need; 2] = [
    ("event-performers-missing", Error, "performerNames", "who performs"),
    ("event-artist-ids-missing", Warning, "artistIDs", "the artists"),
];

pub fn check(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    let event_ticket = pass.has_style("eventTicket");
    let has = |role: &str| images::has_role(files, role);
    if event_ticket && has("strip") && (has("background") || has("thumbnail")) {
        let detail = "an event ticket shows either a strip, or a background with a thumbnail; leave one out";
        report.warning("event-strip-conflict", "/eventTicket", detail);
    }
    let empty = Map::new();
    let semantics = pass.root.get("semantics").and_then(Value::as_object).unwrap_or(&empty);
    if let (Some(start), Some(end)) = (date(semantics, "eventStartDate"), date(semantics, "eventEndDate"))
        && event_ticket
        && end < start
    {
        report.warning("event-end-before-start", "/semantics/eventEndDate", "is before eventStartDate");
    }
    if !pass.poster_event {
        return;
    }
    check_credential(pass, report);
    let mut need = |needs: &[Need]| {
        for &(rule, severity, tag, what) in needs {
            if is_empty(semantics.get(tag)) {
                let detail = format!("is absent; the poster layout shows {what}");
                report.add(Issue { rule, severity, pointer: format!("/semantics/{tag}"), detail });
            }
        }
    };
    need(&ALWAYS);
    match text(semantics, "eventType") {
        Some("PKEventTypeSports") => need(&SPORTS),
        Some("PKEventTypeLivePerformance") => need(&LIVE),
        _ => {}
    }
    if is_empty(semantics.get("eventStartDate")) && is_empty(semantics.get("eventStartDateInfo")) {
        report.warning(
            "event-start-missing",
            "/semantics/eventStartDate",
            "is absent; the poster layout shows the start",
        );
    }
    if is_empty(semantics.get("venueRegionName")) && is_empty(semantics.get("venueRoom")) {
        let detail = "neither venueRegionName nor venueRoom is there; the poster layout shows one of them";
        report.warning("event-venue-region-missing", "/semantics", detail);
    }
    if !has("artwork") && !has("background") {
        let detail = "the poster layout needs an artwork or a background image";
        report.error("event-artwork-missing", "", detail);
    }
}

fn date(semantics: &Map<String, Value>, tag: &str) -> Option<crate::domain::time::Timestamp> {
    text(semantics, tag).and_then(values::date)
}

fn check_credential(pass: &Pass<'_>, report: &mut Report) {
    let Some(nfc) = pass.root.get("nfc").and_then(Value::as_object) else {
        if is_empty(pass.root.get("barcodes")) && is_empty(pass.root.get("barcode")) {
            report.error("event-nfc-missing", "/nfc", "the ticket has neither NFC nor a barcode to get in with");
        } else {
            let detail =
                "without NFC the poster layout is shown on iOS 27 only; earlier systems show the classic ticket";
            report.warning("event-barcode-only", "/nfc", detail);
        }
        return;
    };
    if is_empty(nfc.get("requiresAuthentication")) {
        let detail = "is absent; the poster layout wants it stated, true or false";
        report.error("event-nfc-auth-missing", "/nfc/requiresAuthentication", detail);
    }
}
