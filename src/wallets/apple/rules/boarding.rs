//! The semantic boarding pass of iOS 26. Conditions are those of github.com/apple/pass-builder at 63efd0f.

use serde_json::{Map, Value};

use crate::domain::checks::{Issue, Severity};

use super::report::Report;
use super::{Pass, is_empty};

use Severity::{Error, Warning};

/// The rule, its severity, and the tags of which one is enough (Apple's documentation and its package spell some
/// differently).
const NEEDS: [(&str, Severity, &[&str]); 12] = [
    ("boarding-airline-code-missing", Error, &["airlineCode"]),
    ("boarding-flight-number-missing", Error, &["flightNumber"]),
    ("boarding-departure-date-missing", Error, &["originalDepartureDate"]),
    ("boarding-boarding-date-missing", Error, &["originalBoardingDate"]),
    ("boarding-arrival-date-missing", Error, &["originalArrivalDate"]),
    ("boarding-departure-time-zone-missing", Error, &["departureLocationTimeZone", "departureAirportTimeZone"]),
    ("boarding-departure-airport-missing", Error, &["departureAirportCode"]),
    ("boarding-departure-city-missing", Warning, &["departureCityName"]),
    ("boarding-destination-time-zone-missing", Warning, &["destinationLocationTimeZone", "destinationAirportTimeZone"]),
    ("boarding-destination-airport-missing", Error, &["destinationAirportCode"]),
    ("boarding-destination-city-missing", Warning, &["destinationCityName"]),
    ("seats-missing", Warning, &["seats"]),
];

/// The parts of which one makes a name; the pronunciation is not one of them.
const NAME_PARTS: [&str; 6] = ["namePrefix", "givenName", "middleName", "familyName", "nameSuffix", "nickname"];

pub fn check(pass: &Pass<'_>, report: &mut Report) {
    if !pass.semantic_boarding {
        return;
    }
    let empty = Map::new();
    let semantics = pass.root.get("semantics").and_then(Value::as_object).unwrap_or(&empty);
    for (rule, severity, tags) in NEEDS {
        if tags.iter().all(|tag| is_empty(semantics.get(*tag))) {
            let first = tags.first().copied().unwrap_or_default();
            let detail = "is absent; the semantic boarding pass needs it, else the classic layout is shown".to_owned();
            report.add(Issue { rule, severity, pointer: format!("/semantics/{first}"), detail });
        }
    }
    let name = semantics.get("passengerName").and_then(Value::as_object);
    if !name.is_some_and(|name| NAME_PARTS.iter().any(|part| name.get(*part).is_some_and(Value::is_string))) {
        let detail = "is absent or has no part of a name";
        report.error("boarding-passenger-missing", "/semantics/passengerName", detail);
    }
}
