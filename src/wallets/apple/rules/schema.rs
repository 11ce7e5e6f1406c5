//! The shape of pass.json: which keys exist and of what type their values are.
//!
//! One table per kind of object, checked by one walk. Sources: github.com/apple/pass-builder at 63efd0f (June 2026) and
//! Apple's Wallet Passes documentation, read 2026-11; where the two differ, both spellings are known. A new key is one
//! line here; rules that involve several keys are in the other files.

use serde_json::{Map, Value};

use super::json::escape;
use super::report::{Report, quoted};
use super::values;

enum Kind {
    Text,
    Url,
    Date,
    Color,
    Boolean,
    Integer,
    Number,
    /// A field's value: a text (also a date) or a number.
    Scalar,
    /// Any value that the issuer chooses.
    Any,
    OneOf(&'static [&'static str]),
    List(&'static Kind),
    Object(Members),
}

type Members = &'static [(&'static str, Kind)];

use Kind::{Any, Boolean, Color, Date, Integer, List, Number, Object, OneOf, Scalar, Text, Url};

const TRANSIT_TYPES: &[&str] =
    &["PKTransitTypeAir", "PKTransitTypeBoat", "PKTransitTypeBus", "PKTransitTypeTrain", "PKTransitTypeGeneric"];
const DATE_STYLES: &[&str] =
    &["PKDateStyleNone", "PKDateStyleShort", "PKDateStyleMedium", "PKDateStyleLong", "PKDateStyleFull"];
const NUMBER_STYLES: &[&str] =
    &["PKNumberStyleDecimal", "PKNumberStylePercent", "PKNumberStyleScientific", "PKNumberStyleSpellOut"];
const ALIGNMENTS: &[&str] =
    &["PKTextAlignmentLeft", "PKTextAlignmentCenter", "PKTextAlignmentRight", "PKTextAlignmentNatural"];
const DETECTORS: &[&str] = &[
    "PKDataDetectorTypePhoneNumber",
    "PKDataDetectorTypeLink",
    "PKDataDetectorTypeAddress",
    "PKDataDetectorTypeCalendarEvent",
];
const EVENT_TYPES: &[&str] = &[
    "PKEventTypeGeneric",
    "PKEventTypeLivePerformance",
    "PKEventTypeMovie",
    "PKEventTypeSports",
    "PKEventTypeConference",
    "PKEventTypeConvention",
    "PKEventTypeWorkshop",
    "PKEventTypeSocialGathering",
];
const BARCODE_FORMATS: &[&str] = &[
    "PKBarcodeFormatQR",
    "PKBarcodeFormatPDF417",
    "PKBarcodeFormatAztec",
    "PKBarcodeFormatCode128",
    "PKBarcodeFormatEAN13",
    "PKBarcodeFormatCodabar",
    "PKBarcodeFormatCode39",
    "PKBarcodeFormatI2of5",
];

const LOCATION: Members = &[("latitude", Number), ("longitude", Number), ("altitude", Number), ("relevantText", Text)];
const BEACON: Members = &[("proximityUUID", Text), ("major", Integer), ("minor", Integer), ("relevantText", Text)];
const RELEVANT_DATE: Members = &[("date", Date), ("relevantDate", Date), ("startDate", Date), ("endDate", Date)];
const BARCODE: Members =
    &[("format", OneOf(BARCODE_FORMATS)), ("message", Text), ("messageEncoding", Text), ("altText", Text)];
const NFC: Members = &[("encryptionPublicKey", Text), ("message", Text), ("requiresAuthentication", Boolean)];
const ACTION: Members = &[("identifier", Text), ("type", Text), ("url", Url), ("placeIdentifier", Text)];
const SEAT: Members = &[
    ("seatDescription", Text),
    ("seatIdentifier", Text),
    ("seatNumber", Scalar),
    ("seatRow", Scalar),
    ("seatSection", Scalar),
    ("seatAisle", Scalar),
    ("seatLevel", Scalar),
    ("seatType", Text),
    ("seatSectionColor", Color),
];
const PERSON_NAME: Members = &[
    ("namePrefix", Text),
    ("givenName", Text),
    ("middleName", Text),
    ("familyName", Text),
    ("nameSuffix", Text),
    ("nickname", Text),
    ("phoneticRepresentation", Text),
];
const CURRENCY_AMOUNT: Members = &[("amount", Text), ("currencyCode", Text)];
const EVENT_DATE_INFO: Members = &[
    ("date", Text),
    ("ignoreTimeComponents", Boolean),
    ("timeZone", Text),
    ("unannounced", Boolean),
    ("undetermined", Boolean),
];
const WIFI_NETWORK: Members = &[("ssid", Text), ("password", Text)];

const SEMANTICS: Members = &[
    // events
    ("admissionLevel", Text),
    ("admissionLevelAbbreviation", Text),
    ("additionalTicketAttributes", Text),
    ("airplay", Any),
    ("attendeeName", Text),
    ("entranceDescription", Text),
    ("eventType", OneOf(EVENT_TYPES)),
    ("eventName", Text),
    ("eventLiveMessage", Text),
    ("eventStartDate", Date),
    ("eventStartDateInfo", Object(EVENT_DATE_INFO)),
    ("eventEndDate", Date),
    ("seats", List(&Object(SEAT))),
    ("tailgatingAllowed", Boolean),
    ("venueBoxOfficeOpenDate", Date),
    ("venueCloseDate", Date),
    ("venueDoorsOpenDate", Date),
    ("venueEntrance", Text),
    ("venueEntranceDoor", Text),
    ("venueEntranceGate", Text),
    ("venueEntrancePortal", Text),
    ("venueFanZoneOpenDate", Date),
    ("venueGatesOpenDate", Date),
    ("venueLocation", Object(LOCATION)),
    ("venueName", Text),
    ("venueOpenDate", Date),
    ("venueParkingLotsOpenDate", Date),
    ("venuePhoneNumber", Text),
    ("venuePlaceID", Text),
    ("venueRegionName", Text),
    ("venueRoom", Text),
    // sports
    ("awayTeamAbbreviation", Text),
    ("awayTeamLocation", Text),
    ("awayTeamName", Text),
    ("homeTeamAbbreviation", Text),
    ("homeTeamLocation", Text),
    ("homeTeamName", Text),
    ("leagueAbbreviation", Text),
    ("leagueName", Text),
    ("sportName", Text),
    // live performances
    ("genre", Text),
    ("albumIDs", List(&Text)),
    ("artistIDs", List(&Text)),
    ("performerNames", List(&Text)),
    ("playlistIDs", List(&Text)),
    // journeys
    ("airlineCode", Text),
    ("airlineLoungePlaceID", Text),
    ("loungePlaceIDs", List(&Text)),
    ("passengerCapabilities", List(&Text)),
    ("boardingGroup", Text),
    ("boardingZone", Text),
    ("boardingSequenceNumber", Text),
    ("carNumber", Text),
    ("confirmationNumber", Text),
    ("currentArrivalDate", Date),
    ("currentBoardingDate", Date),
    ("currentDepartureDate", Date),
    ("departureAirportCode", Text),
    ("departureAirportName", Text),
    ("departureAirportSecurityPrograms", List(&Text)),
    ("departureLocationSecurityPrograms", List(&Text)),
    ("departureAirportTimeZone", Text),
    ("departureLocationTimeZone", Text),
    ("departureCityName", Text),
    ("departureGate", Text),
    ("departureLocation", Object(LOCATION)),
    ("departureLocationDescription", Text),
    ("departurePlatform", Text),
    ("departureStationName", Text),
    ("departureTerminal", Text),
    ("destinationAirportCode", Text),
    ("destinationAirportName", Text),
    ("destinationAirportSecurityPrograms", List(&Text)),
    ("destinationLocationSecurityPrograms", List(&Text)),
    ("destinationAirportTimeZone", Text),
    ("destinationLocationTimeZone", Text),
    ("destinationCityName", Text),
    ("destinationGate", Text),
    ("destinationLocation", Object(LOCATION)),
    ("destinationLocationDescription", Text),
    ("destinationPlatform", Text),
    ("destinationStationName", Text),
    ("destinationTerminal", Text),
    ("duration", Number),
    ("flightCode", Text),
    ("flightNumber", Integer),
    ("internationalDocumentsAreVerified", Boolean),
    ("internationalDocumentsVerifiedDeclarationName", Text),
    ("membershipProgramName", Text),
    ("membershipProgramNumber", Text),
    ("membershipProgramStatus", Text),
    ("originalBoardingDate", Date),
    ("originalDepartureDate", Date),
    ("originalArrivalDate", Date),
    ("passengerAirlineSSRs", List(&Text)),
    ("passengerInformationSSRs", List(&Text)),
    ("passengerName", Object(PERSON_NAME)),
    ("passengerServiceSSRs", List(&Text)),
    ("passengerEligibleSecurityPrograms", List(&Text)),
    ("priorityStatus", Text),
    ("securityScreening", Text),
    ("ticketFareClass", Text),
    ("transitProvider", Text),
    ("transitStatus", Text),
    ("transitStatusReason", Text),
    ("vehicleName", Text),
    ("vehicleNumber", Text),
    ("vehicleType", Text),
    // store cards and all
    ("balance", Object(CURRENCY_AMOUNT)),
    ("silenceRequested", Boolean),
    ("totalPrice", Object(CURRENCY_AMOUNT)),
    ("wifiAccess", List(&Object(WIFI_NETWORK))),
];

const FIELD: Members = &[
    ("key", Text),
    ("value", Scalar),
    ("label", Text),
    ("attributedValue", Scalar),
    ("changeMessage", Text),
    ("dataDetectorTypes", List(&OneOf(DETECTORS))),
    ("textAlignment", OneOf(ALIGNMENTS)),
    ("dateStyle", OneOf(DATE_STYLES)),
    ("timeStyle", OneOf(DATE_STYLES)),
    ("ignoresTimeZone", Boolean),
    ("isRelative", Boolean),
    ("numberStyle", OneOf(NUMBER_STYLES)),
    ("currencyCode", Text),
    ("row", Integer),
    ("semantics", Object(SEMANTICS)),
];

const FIELDS: Kind = List(&Object(FIELD));

const STYLE: Members = &[
    ("headerFields", FIELDS),
    ("primaryFields", FIELDS),
    ("secondaryFields", FIELDS),
    ("auxiliaryFields", FIELDS),
    ("backFields", FIELDS),
    ("additionalInfoFields", FIELDS),
    ("footerFields", FIELDS),
    ("transitType", OneOf(TRANSIT_TYPES)),
];

const EVENT_LINKS: Members = &[
    ("accessibilityURL", Url),
    ("addOnURL", Url),
    ("bagPolicyURL", Url),
    ("contactVenueEmail", Text),
    ("contactVenuePhoneNumber", Text),
    ("contactVenueWebsite", Url),
    ("directionsInformationURL", Url),
    ("merchandiseURL", Url),
    ("orderFoodURL", Url),
    ("parkingInformationURL", Url),
    ("purchaseParkingURL", Url),
    ("sellURL", Url),
    ("transferURL", Url),
    ("transitInformationURL", Url),
];

const UPCOMING_IMAGE_FILE: Members =
    &[("SHA256", Text), ("sha256", Text), ("URL", Url), ("url", Url), ("scale", Number), ("size", Integer)];
const UPCOMING_IMAGE: Members = &[
    ("URLs", List(&Object(UPCOMING_IMAGE_FILE))),
    ("urls", List(&Object(UPCOMING_IMAGE_FILE))),
    ("reuseExisting", Boolean),
];
const UPCOMING_DATE: Members = &[
    ("date", Date),
    ("ignoreTimeComponents", Boolean),
    ("isAllDay", Boolean),
    ("isUnannounced", Boolean),
    ("isUndetermined", Boolean),
    ("timeZone", Text),
];
const UPCOMING: Members = &[
    ("identifier", Text),
    ("name", Text),
    ("type", Text),
    ("URLs", Object(EVENT_LINKS)),
    ("urls", Object(EVENT_LINKS)),
    ("additionalInfoFields", FIELDS),
    ("auxiliaryStoreIdentifiers", List(&Integer)),
    ("backFields", FIELDS),
    ("dateInformation", Object(UPCOMING_DATE)),
    ("images", Object(&[("headerImage", Object(UPCOMING_IMAGE)), ("venueMap", Object(UPCOMING_IMAGE))])),
    ("isActive", Boolean),
    ("semantics", Object(SEMANTICS)),
];

const PASS: Members = &[
    ("boardingPass", Object(STYLE)),
    ("eventTicket", Object(STYLE)),
    ("coupon", Object(STYLE)),
    ("storeCard", Object(STYLE)),
    ("generic", Object(STYLE)),
    ("posterGeneric", Object(STYLE)),
    ("formatVersion", Integer),
    ("serialNumber", Text),
    ("webServiceURL", Url),
    ("authenticationToken", Text),
    ("passTypeIdentifier", Text),
    ("teamIdentifier", Text),
    ("organizationName", Text),
    ("description", Text),
    ("sharingProhibited", Boolean),
    ("associatedStoreIdentifiers", List(&Integer)),
    ("auxiliaryStoreIdentifiers", List(&Integer)),
    ("expirationDate", Date),
    ("voided", Boolean),
    ("barcode", Object(BARCODE)),
    ("barcodes", List(&Object(BARCODE))),
    ("maxDistance", Number),
    ("relevantDate", Date),
    ("relevantDates", List(&Object(RELEVANT_DATE))),
    ("locations", List(&Object(LOCATION))),
    ("beacons", List(&Object(BEACON))),
    ("backgroundColor", Color),
    ("foregroundColor", Color),
    ("labelColor", Color),
    ("stripColor", Color),
    ("footerBackgroundColor", Color),
    ("suppressHeaderDarkening", Boolean),
    ("suppressStripShine", Boolean),
    ("useAutomaticColors", Boolean),
    ("eventLogoText", Text),
    ("logoText", Text),
    ("logoSymbolName", Text),
    ("groupingIdentifier", Text),
    ("featuredActions", List(&Object(ACTION))),
    ("nfc", Object(NFC)),
    // The known words are checked by the rule `scheme-unknown`.
    ("preferredStyleSchemes", List(&Text)),
    ("semantics", Object(SEMANTICS)),
    ("userInfo", Any),
    ("appLaunchURL", Url),
    ("accessibilityURL", Url),
    ("addOnURL", Url),
    ("bagPolicyURL", Url),
    ("merchandiseURL", Url),
    ("orderFoodURL", Url),
    ("parkingInformationURL", Url),
    ("purchaseParkingURL", Url),
    ("sellURL", Url),
    ("transferURL", Url),
    ("transitInformationURL", Url),
    ("contactVenueEmail", Text),
    ("contactVenuePhoneNumber", Text),
    ("contactVenueWebsite", Url),
    ("directionsInformationURL", Url),
    ("upcomingPassInformation", List(&Object(UPCOMING))),
    ("changeSeatURL", Url),
    ("entertainmentURL", Url),
    ("purchaseAdditionalBaggageURL", Url),
    ("purchaseLoungeAccessURL", Url),
    ("purchaseWifiURL", Url),
    ("upgradeURL", Url),
    ("managementURL", Url),
    ("registerServiceAnimalURL", Url),
    ("reportLostBagURL", Url),
    ("requestWheelchairURL", Url),
    ("trackBagsURL", Url),
    ("transitProviderEmail", Text),
    ("transitProviderPhoneNumber", Text),
    ("transitProviderWebsiteURL", Url),
];

/// Checks `key-type`, `null-value`, `enum-value`, `unknown-key`, `designer-id-key`, `color-format`, `date-format`,
/// `url-format`.
pub fn check(pass: &Map<String, Value>, report: &mut Report) {
    object(pass, PASS, "", report);
}

fn object(found: &Map<String, Value>, members: Members, pointer: &str, report: &mut Report) {
    for (key, value) in found {
        let place = || format!("{pointer}/{}", escape(key));
        match members.iter().find(|(name, _)| name == key) {
            Some((_, kind)) => check_value(value, kind, &place(), report),
            None if key == "_id" => {
                report.warning(
                    "designer-id-key",
                    place(),
                    "_id is Pass Designer's bookkeeping; remove it when issuing",
                );
            }
            None => report.warning("unknown-key", place(), "Wallet does not define this key and ignores it"),
        }
    }
}

fn check_value(value: &Value, kind: &Kind, pointer: &str, report: &mut Report) {
    if value.is_null() && !matches!(kind, Any) {
        report.warning("null-value", pointer, "is null; leave the key out instead");
        return;
    }
    match (kind, value) {
        (Any, _)
        | (Text | Scalar, Value::String(_))
        | (Number | Scalar, Value::Number(_))
        | (Boolean, Value::Bool(_)) => {}
        (Integer, Value::Number(number)) if is_whole(number) => {}
        (Url, Value::String(text)) => {
            if !values::is_url(text) {
                let detail = format!("is {}; expected a URL with a scheme and without white space", quoted(text));
                report.error("url-format", pointer, detail);
            }
        }
        (Date, Value::String(text)) => {
            if values::date(text).is_none() {
                let detail = format!("is {}; expected a date like 2026-11-21T10:00+01:00, with a zone", quoted(text));
                report.error("date-format", pointer, detail);
            }
        }
        (Color, Value::String(text)) => {
            if !values::is_color(text) {
                let detail = format!("is {}; expected rgb(r, g, b) with 0 to 255 each, or #RRGGBB", quoted(text));
                report.error("color-format", pointer, detail);
            }
        }
        (OneOf(allowed), Value::String(text)) => {
            if !allowed.contains(&text.as_str()) {
                let detail = format!("is {}; expected one of {}", quoted(text), allowed.join(", "));
                report.error("enum-value", pointer, detail);
            }
        }
        (List(kind), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check_value(item, kind, &format!("{pointer}/{index}"), report);
            }
        }
        (Object(members), Value::Object(found)) => object(found, members, pointer, report),
        _ => report.error("key-type", pointer, format!("is {}; expected {}", type_of(value), expected(kind))),
    }
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn expected(kind: &Kind) -> &'static str {
    match kind {
        Any => "anything",
        Text | OneOf(_) => "a text",
        Url => "a URL as text",
        Date => "a date as text",
        Color => "a colour as text",
        Boolean => "true or false",
        Integer => "a whole number without quotes",
        Number => "a number without quotes",
        Scalar => "a text or a number",
        List(_) => "a list",
        Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn rules_of(pass: &Value) -> Vec<(&'static str, String)> {
        let mut report = Report::default();
        check(pass.as_object().expect("an object"), &mut report);
        report.finish().into_iter().map(|issue| (issue.rule, issue.pointer)).collect()
    }

    fn no_name_twice(members: Members) {
        let mut names = HashSet::new();
        for (name, kind) in members {
            assert!(names.insert(name), "{name} is listed twice");
            match kind {
                Object(inner) | List(Object(inner)) => no_name_twice(inner),
                _ => {}
            }
        }
    }

    #[test]
    fn every_object_lists_each_key_once() {
        no_name_twice(PASS);
    }

    #[test]
    fn each_fault_of_form_has_its_rule_and_place() {
        let pass = serde_json::json!({
            "voided": "true", "logoText": null, "labelColor": "red", "expirationDate": "tomorrow", "sellURL": "x",
            "x/y": 1, "userInfo": {"free": null},
            "storeCard": {"headerFields": [{"_id": "1", "textAlignment": "left", "value": true}]}
        });
        assert_eq!(
            rules_of(&pass),
            [
                ("key-type", "/voided".to_owned()),
                ("null-value", "/logoText".to_owned()),
                ("color-format", "/labelColor".to_owned()),
                ("date-format", "/expirationDate".to_owned()),
                ("url-format", "/sellURL".to_owned()),
                ("unknown-key", "/x~1y".to_owned()),
                ("designer-id-key", "/storeCard/headerFields/0/_id".to_owned()),
                ("enum-value", "/storeCard/headerFields/0/textAlignment".to_owned()),
                ("key-type", "/storeCard/headerFields/0/value".to_owned()),
            ]
        );
    }
}
