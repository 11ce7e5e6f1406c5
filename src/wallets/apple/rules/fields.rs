//! The fields of every style: identity, value, format, and what their position on the card can show.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::report::{Report, quoted};
use super::{Files, POSTER_GENERIC, Pass, is_empty, list, strings, text, values};
use crate::domain::checks::{Issue, Severity};

const GROUPS: [&str; 7] = [
    "headerFields",
    "primaryFields",
    "secondaryFields",
    "auxiliaryFields",
    "footerFields",
    "additionalInfoFields",
    "backFields",
];

/// The position of a field.
struct Place<'a> {
    style: &'a str,
    group: &'a str,
    pointer: &'a str,
}

pub(super) fn check(pass: &Pass<'_>, report: &mut Report) {
    for (style, dictionary) in &pass.styles {
        let mut keys = HashSet::new();
        for group in GROUPS {
            for (index, field) in list(dictionary, group).iter().enumerate() {
                let Some(field) = field.as_object() else { continue };
                let pointer = format!("/{style}/{group}/{index}");
                let place = Place { style, group, pointer: &pointer };
                check_key(field, &place, &mut keys, report);
                check_field(field, &place, report);
            }
        }
        check_groups(pass, style, dictionary, report);
        check_counts(pass, style, dictionary, report);
    }
}

fn check_key<'a>(field: &'a Map<String, Value>, place: &Place<'_>, keys: &mut HashSet<&'a str>, report: &mut Report) {
    match field.get("key") {
        None | Some(Value::Null) => {
            report.error(
                "field-key-missing",
                format!("{}/key", place.pointer),
                "the field has no key, its identity between two versions",
            );
        }
        Some(Value::String(key)) if key.is_empty() => {
            report.error("field-key-missing", format!("{}/key", place.pointer), "the field's key is empty");
        }
        Some(Value::String(key)) => {
            if !keys.insert(key) {
                let detail =
                    format!("the key {} occurs twice in {}; each field needs its own", quoted(key), place.style);
                report.error("field-key-duplicate", format!("{}/key", place.pointer), detail);
            }
        }
        Some(_) => {}
    }
}

fn check_field(field: &Map<String, Value>, place: &Place<'_>, report: &mut Report) {
    let at = |key: &str| format!("{}/{key}", place.pointer);
    let value = field.get("value").filter(|value| !value.is_null());
    if value.is_none() {
        report.error("field-value-missing", at("value"), "the field has no value; an empty text is allowed");
    }
    check_dates(field, value, place, report);
    check_numbers(field, value, place, report);
    if let Some(message) = text(field, "changeMessage") {
        check_change_message(message, &at("changeMessage"), report);
    }
    if let Some(markup) = text(field, "attributedValue")
        && let Some(fault) = markup_fault(markup)
    {
        report.warning("field-attributed-html", at("attributedValue"), fault);
    }
    if field.contains_key("textAlignment") && matches!(place.group, "primaryFields" | "backFields") {
        let detail = format!("is ignored on {}; leave it out", place.group);
        report.warning("field-text-alignment", at("textAlignment"), detail);
    }
    if field.contains_key("dataDetectorTypes") && !matches!(place.group, "backFields" | "additionalInfoFields") {
        report.warning("field-data-detectors", at("dataDetectorTypes"), "works on back fields only");
    }
    if let Some(row) = field.get("row").filter(|row| row.is_number()) {
        if !matches!(row.as_f64(), Some(0.0 | 1.0)) {
            report.error("field-row", at("row"), format!("is {row}; expected 0 or 1"));
        }
        if (place.style, place.group) != ("eventTicket", "auxiliaryFields") {
            report.warning("field-row-misplaced", at("row"), "works on the auxiliary fields of event tickets only");
        }
    }
}

fn check_dates(field: &Map<String, Value>, value: Option<&Value>, place: &Place<'_>, report: &mut Report) {
    let is_date = value.and_then(Value::as_str).is_some_and(|text| values::date(text).is_some());
    if is_date || value.is_none() {
        return;
    }
    let styles: Vec<&str> = ["dateStyle", "timeStyle"].into_iter().filter(|key| field.contains_key(*key)).collect();
    if !styles.is_empty() {
        let detail = format!("{} needs a date like 2026-11-21T10:00+01:00 as value", styles.join(" and "));
        report.error("field-date-value", format!("{}/value", place.pointer), detail);
    }
    for option in ["isRelative", "ignoresTimeZone"] {
        if field.contains_key(option) {
            let detail = format!("{option} means nothing on a value that is not a date");
            report.warning("field-date-option", format!("{}/{option}", place.pointer), detail);
        }
    }
}

fn check_numbers(field: &Map<String, Value>, value: Option<&Value>, place: &Place<'_>, report: &mut Report) {
    let at = |key: &str| format!("{}/{key}", place.pointer);
    let (currency, style) = (field.get("currencyCode"), field.get("numberStyle"));
    if currency.is_some() && style.is_some() {
        // Wallet refuses front fields that have both, so this is stricter than Apple's own tool, which only warns.
        report.error(
            "field-currency-and-number-style",
            at("numberStyle"),
            "currencyCode and numberStyle stand together, and Wallet refuses such a field; keep one",
        );
    }
    if value.is_some_and(|value| !value.is_number()) {
        if style.is_some() {
            report.error("field-number-format", at("value"), "numberStyle needs a number without quotes as value");
        }
        if currency.is_some() {
            report.warning("field-number-format", at("value"), "currencyCode needs a number without quotes as value");
        }
    }
    if let Some(code) = currency.and_then(Value::as_str)
        && !(code.len() == 3 && code.bytes().all(|c| c.is_ascii_alphabetic()))
    {
        let detail = format!("is {}; expected the three letters of ISO 4217, e.g. EUR", quoted(code));
        report.error("field-currency-code", at("currencyCode"), detail);
    }
}

/// Returns the fault of a change message, if any. A change message is a format: `%@` once for the new value, `%%` for a
/// percent sign, and nothing else, because Wallet rejects any other code (Apple, "PassFieldContent", read 2026-11, and
/// device logs).
pub fn fault_of_message(message: &str) -> Option<(Severity, String)> {
    let mut values = 0;
    let mut characters = message.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        match characters.next() {
            Some('@') => values += 1,
            Some('%') => {}
            other => {
                let code = other.map_or_else(|| "%".to_owned(), |other| format!("%{other}"));
                let detail =
                    format!("contains {}; only %@ is allowed, and a percent sign is written %%", quoted(&code));
                return Some((Severity::Error, detail));
            }
        }
    }
    match values {
        0 => Some((Severity::Warning, "has no %@, so a change is not announced with the new value".to_owned())),
        1 => None,
        _ => Some((Severity::Error, format!("has %@ {values} times; exactly one is allowed"))),
    }
}

fn check_change_message(message: &str, pointer: &str, report: &mut Report) {
    if let Some((severity, detail)) = fault_of_message(message) {
        report.add(Issue { rule: "field-change-message", severity, pointer: pointer.to_owned(), detail });
    }
}

/// Checks `field-change-message` in every language: the translations that the string tables have of the pass's
/// messages.
pub(super) fn check_translated_messages(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    let fields = pass.styles.iter().flat_map(|(_, style)| GROUPS.iter().flat_map(|group| list(style, group)));
    let keys: HashSet<&str> = fields.filter_map(|field| field.get("changeMessage")?.as_str()).collect();
    if keys.is_empty() {
        return;
    }
    for (path, content) in files.iter().filter(|(path, _)| path.ends_with(".lproj/pass.strings")) {
        let entries = strings::decode(content).and_then(|text| strings::parse(&text).ok()).unwrap_or_default();
        for (key, message) in entries.iter().filter(|(key, _)| keys.contains(key.as_str())) {
            if let Some((severity, fault)) = fault_of_message(message) {
                let detail = format!("the message {} for {} {fault}", quoted(message), quoted(key));
                report.add(Issue { rule: "field-change-message", severity, pointer: path.clone(), detail });
            }
        }
    }
}

/// Describes the first markup that Wallet doesn't draw: anything but `<a href="…">text</a>`, not nested.
fn markup_fault(markup: &str) -> Option<&'static str> {
    let mut inside = false;
    let mut rest = markup;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else { return Some("has a < that is never closed; write &lt;") };
        let name = tag.trim_start_matches('/').split(|c: char| c.is_whitespace()).next().unwrap_or_default();
        if !name.eq_ignore_ascii_case("a") {
            return Some("has markup other than <a href=\"…\">, which Wallet does not draw");
        }
        if tag.starts_with('/') {
            if !inside {
                return Some("closes a link that was not opened");
            }
            inside = false;
        } else {
            if inside {
                return Some("has a link inside a link");
            }
            if !tag.to_ascii_lowercase().contains("href") {
                return Some("has an <a> without href");
            }
            inside = true;
        }
        rest = after;
    }
    inside.then_some("has a link that is never closed")
}

fn check_groups(pass: &Pass<'_>, style: &str, dictionary: &Map<String, Value>, report: &mut Report) {
    let shown = |group: &str| match group {
        "secondaryFields" | "auxiliaryFields" => style != POSTER_GENERIC,
        "footerFields" => style == POSTER_GENERIC,
        "additionalInfoFields" => style == POSTER_GENERIC || (style == "eventTicket" && pass.poster_event),
        _ => true,
    };
    for group in GROUPS {
        if !shown(group) && !list(dictionary, group).is_empty() {
            report.warning("field-group-style", format!("/{style}/{group}"), format!("{style} does not show {group}"));
        }
    }
}

fn check_counts(pass: &Pass<'_>, style: &str, dictionary: &Map<String, Value>, report: &mut Report) {
    let mut limit = |group: &str, found: usize, most: usize, what: &str| {
        if found > most {
            let detail = format!("has {found} {what}, and {style} shows {most}; the rest stays in the details");
            report.warning("field-count", format!("/{style}/{group}"), detail);
        }
    };
    let count = |group: &str| list(dictionary, group).len();
    let poster = style == POSTER_GENERIC;
    limit("headerFields", count("headerFields"), if poster { 1 } else { 3 }, "header fields");
    let primary = match style {
        POSTER_GENERIC => 4,
        "boardingPass" => 2,
        _ => 1,
    };
    limit("primaryFields", count("primaryFields"), primary, "primary fields");
    if poster {
        limit("footerFields", count("footerFields"), 1, "footer fields");
        return;
    }
    limit("secondaryFields", count("secondaryFields"), 4, "secondary fields");
    match style {
        "eventTicket" => {
            let rows = list(dictionary, "auxiliaryFields");
            let second = rows.iter().filter(|field| field.get("row").and_then(Value::as_f64) == Some(1.0)).count();
            limit("auxiliaryFields", rows.len() - second, 4, "auxiliary fields in the first row");
            limit("auxiliaryFields", second, 4, "auxiliary fields in the second row");
        }
        "boardingPass" => limit("auxiliaryFields", count("auxiliaryFields"), 5, "auxiliary fields"),
        _ => limit("auxiliaryFields", count("auxiliaryFields"), 4, "auxiliary fields"),
    }
    let one_row = matches!(style, "coupon" | "storeCard") || (style == "generic" && has_square_code(pass));
    let (secondary, auxiliary) = (count("secondaryFields"), count("auxiliaryFields"));
    if one_row && secondary <= 4 && auxiliary <= 4 {
        limit("auxiliaryFields", secondary + auxiliary, 4, "secondary and auxiliary fields together");
    }
}

fn has_square_code(pass: &Pass<'_>) -> bool {
    let first = list(pass.root, "barcodes").first().or(pass.root.get("barcode"));
    let format = first.and_then(|barcode| barcode.get("format"));
    !is_empty(format) && matches!(format.and_then(Value::as_str), Some("PKBarcodeFormatQR" | "PKBarcodeFormatAztec"))
}
