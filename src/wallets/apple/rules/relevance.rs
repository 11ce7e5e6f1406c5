//! When and where the phone shows the pass by itself.

use std::time::Duration;

use serde_json::{Map, Value};

use super::report::{Report, quoted};
use super::{Pass, list, text, values};

const MOST_PLACES: usize = 10;
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);

pub fn check(pass: &Pass<'_>, report: &mut Report) {
    check_locations(pass, report);
    check_beacons(pass, report);
    if let Some(distance) = pass.root.get("maxDistance")
        && !distance.is_null()
        && distance.as_f64().is_none_or(|metres| metres <= 0.0)
    {
        let detail = format!("is {}; expected metres as a number above 0", quoted(&distance.to_string()));
        report.error("max-distance", "/maxDistance", detail);
    }
    for (index, entry) in list(pass.root, "relevantDates").iter().enumerate() {
        if let Some(entry) = entry.as_object() {
            check_date(entry, &format!("/relevantDates/{index}"), report);
        }
    }
    if pass.root.contains_key("relevantDate") && !pass.root.contains_key("relevantDates") {
        let detail = "is deprecated since iOS 18; add relevantDates beside it";
        report.warning("relevant-date-deprecated", "/relevantDate", detail);
    }
}

fn check_locations(pass: &Pass<'_>, report: &mut Report) {
    let locations = list(pass.root, "locations");
    if locations.len() > MOST_PLACES {
        let detail = format!("has {} locations; at most {MOST_PLACES} are allowed", locations.len());
        report.error("locations-count", "/locations", detail);
    }
    for (index, location) in locations.iter().enumerate() {
        let Some(location) = location.as_object() else { continue };
        for (key, range) in [("latitude", 90.0), ("longitude", 180.0)] {
            let pointer = format!("/locations/{index}/{key}");
            match location.get(key) {
                None | Some(Value::Null) => report.error("location-coordinates", pointer, format!("{key} is absent")),
                Some(Value::Number(degrees)) if degrees.as_f64().is_none_or(|degrees| degrees.abs() > range) => {
                    let detail = format!("is {degrees}; expected -{range} to {range}");
                    report.error("location-coordinates", pointer, detail);
                }
                Some(_) => {}
            }
        }
    }
}

fn check_beacons(pass: &Pass<'_>, report: &mut Report) {
    let beacons = list(pass.root, "beacons");
    if beacons.len() > MOST_PLACES {
        let detail = format!("has {} beacons; at most {MOST_PLACES} are allowed", beacons.len());
        report.error("beacons-count", "/beacons", detail);
    }
    for (index, beacon) in beacons.iter().enumerate() {
        let Some(beacon) = beacon.as_object() else { continue };
        let uuid = text(beacon, "proximityUUID").unwrap_or_default();
        if uuid.len() != 36 || uuid::Uuid::try_parse(uuid).is_err() {
            let detail = format!("is {}; expected a UUID like 01234567-89ab-cdef-0123-456789abcdef", quoted(uuid));
            report.error("beacon-uuid", format!("/beacons/{index}/proximityUUID"), detail);
        }
        for key in ["major", "minor"] {
            if let Some(Value::Number(number)) = beacon.get(key)
                && number.as_f64().is_none_or(|number| !(0.0..=65535.0).contains(&number))
            {
                let detail = format!("is {number}; expected 0 to 65535");
                report.error("beacon-number", format!("/beacons/{index}/{key}"), detail);
            }
        }
    }
}

fn check_date(entry: &Map<String, Value>, pointer: &str, report: &mut Report) {
    let has = |key: &str| entry.get(key).is_some_and(|value| !value.is_null());
    let is_moment = has("date") || has("relevantDate");
    let is_interval = has("startDate") && has("endDate");
    if !is_moment && !is_interval {
        report.error("relevant-date-entry", pointer, "is neither a date nor a startDate with an endDate");
    }
    let read = |key: &str| text(entry, key).and_then(values::date);
    if let (Some(start), Some(end)) = (read("startDate"), read("endDate")) {
        if end < start {
            report.error("relevant-date-order", format!("{pointer}/endDate"), "is before startDate");
        } else if end.since(start) > LONGEST_INTERVAL {
            report.warning(
                "relevant-date-span",
                pointer,
                "the interval is longer than 24 hours, which Wallet may ignore",
            );
        }
    }
}
