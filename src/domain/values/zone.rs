//! Time zones: what a clock in a shop shows at a moment.
//!
//! The rules of all zones are built in (IANA's database, through jiff), so that every node writes the same text
//! whatever is installed on it.

use std::fmt;
use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::domain::time::Timestamp;

/// A zone by its name in IANA's database, or a fixed offset from UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// Reads `Europe/Riga`, `UTC` or `+05:30`.
    ///
    /// # Errors
    /// A sentence with examples.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "is not a time zone; expected a name of the IANA database such as Europe/Riga, or an offset such as +05:30";
        if let [b'+' | b'-', _, _, b':', _, _] = text.as_bytes() {
            let number = |at: std::ops::Range<usize>| {
                text.get(at).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse::<i32>().ok()
            };
            let hours = number(1..3).filter(|hours| *hours <= 14).ok_or(EXPECTED)?;
            let minutes = number(4..6).filter(|minutes| *minutes < 60).ok_or(EXPECTED)?;
            let seconds = (hours * 3600 + minutes * 60) * if text.starts_with('-') { -1 } else { 1 };
            let offset = Offset::from_seconds(seconds).map_err(|_| EXPECTED)?;
            return Ok(Self { name: text.to_owned(), rules: TimeZone::fixed(offset) });
        }
        // A zone that depends on this machine's own settings isn't the same on every node.
        if text.is_empty() || text.len() > 64 || !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(EXPECTED);
        }
        let rules = TimeZone::get(text).map_err(|_| EXPECTED)?;
        let name = rules.iana_name().ok_or(EXPECTED)?.to_owned();
        Ok(Self { name, rules })
    }

    /// Returns UTC, the zone of a business that named none.
    pub fn utc() -> &'static Self {
        static UTC: LazyLock<Zone> = LazyLock::new(|| Zone { name: "UTC".to_owned(), rules: TimeZone::UTC });
        &UTC
    }

    /// Returns the zone's name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns how many seconds its clocks are ahead of UTC at a moment, in whole minutes as dates are written.
    fn ahead(&self, moment: Timestamp) -> i64 {
        // The calendar's last hours lie beyond the moments that the database's rules can be asked for.
        let seconds = moment.seconds().clamp(jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        i64::from(self.rules.to_offset(moment).seconds()) / 60 * 60
    }

    /// Returns what its calendars and clocks show at a moment.
    pub fn civil(&self, moment: Timestamp) -> DateTime {
        moment.civil_ahead(self.ahead(moment))
    }

    /// Returns RFC 3339 with whole seconds and the zone's offset: `2026-12-24T18:30:00+04:00`; in UTC with `Z`.
    pub fn to_rfc3339(&self, moment: Timestamp) -> String {
        if *self == *Self::utc() {
            return moment.to_rfc3339_seconds();
        }
        let ahead = self.ahead(moment);
        let (sign, minutes) = (if ahead < 0 { '-' } else { '+' }, ahead.abs() / 60);
        format!("{:.0}{sign}{:02}:{:02}", moment.civil_ahead(ahead), minutes / 60, minutes % 60)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl serde::Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(zone: &str, moment: &str) -> String {
        let moment = Timestamp::parse_rfc3339(moment).expect("a moment");
        Zone::parse(zone).expect("a zone").to_rfc3339(moment)
    }

    #[test]
    fn a_moment_is_written_as_the_clocks_of_the_zone_show_it() {
        for (zone, moment, expected) in [
            ("UTC", "2026-12-24T14:30:00Z", "2026-12-24T14:30:00Z"),
            ("Europe/Riga", "2026-12-24T14:30:00.5Z", "2026-12-24T16:30:00+02:00"),
            ("Europe/Riga", "2026-06-24T22:30:00Z", "2026-06-25T01:30:00+03:00"),
            ("Asia/Dubai", "2026-12-24T14:30:00Z", "2026-12-24T18:30:00+04:00"),
            ("America/St_Johns", "2026-01-01T00:00:00Z", "2025-12-31T20:30:00-03:30"),
            ("+05:30", "2026-12-24T14:30:00Z", "2026-12-24T20:00:00+05:30"),
            ("-00:30", "2026-12-24T14:30:00Z", "2026-12-24T14:00:00-00:30"),
            // Before there were zones: clocks in Riga were ahead by 1:36:34.
            ("Europe/Riga", "1850-01-01T00:00:00Z", "1850-01-01T01:36:00+01:36"),
            ("Asia/Tokyo", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59+09:00"),
        ] {
            assert_eq!(written(zone, moment), expected, "{zone} {moment}");
        }
    }

    #[test]
    fn only_names_of_the_database_and_offsets_are_taken() {
        assert_eq!(Zone::parse("europe/riga").map(|zone| zone.to_string()), Ok("Europe/Riga".to_owned()));
        for bad in
            ["", "Riga", "Europe/Rigaa", "../etc/passwd", "EET-2EEST", "+5:30", "+15:00", "+05:60", "GMT+2", "local"]
        {
            assert!(Zone::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
