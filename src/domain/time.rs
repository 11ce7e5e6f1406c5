//! Points in time.

use std::time::{Duration, SystemTime};

const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// The first moment of the year 1.
const FIRST: Timestamp = Timestamp::from_seconds(-62_135_596_800);
/// The last microsecond of the year 9999; backends write its last day for "never".
const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

/// A moment in UTC, counted in microseconds since 1970. Both databases store it in this form, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the moment that many microseconds after the beginning of 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the moment that many whole seconds after the beginning of 1970.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Returns the microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the moment `span` later, or the last possible one instead of overflowing.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the moment `span` earlier, or the first possible one instead of overflowing.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the time from `earlier` until this; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset, for the years 1 to 9999 in UTC. Digits beyond microseconds are cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        const SHAPE: &[u8] = b"0000-00-00T00:00:00";
        let (moment, rest) = text.split_at_checked(SHAPE.len())?;
        let fits = |(found, form): (u8, &u8)| match form {
            b'0' => found.is_ascii_digit(),
            b'T' => matches!(found, b'T' | b't' | b' '),
            other => found == *other,
        };
        if !moment.bytes().zip(SHAPE).all(fits) {
            return None;
        }
        let (fraction, zone) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
            None => ("0", rest),
        };
        let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok().filter(|_| !fraction.is_empty())?;
        let ahead = match *zone.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let number = |at: std::ops::Range<usize>| {
                    zone.get(at).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok()
                };
                let (hours, minutes) = (number(1..3).filter(|h| *h < 24)?, number(4..6).filter(|m| *m < 60)?);
                (hours * 3600 + minutes * 60) * if sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let moment = format!("{}T{}", moment.get(..10)?, moment.get(11..)?);
        let moment: jiff::civil::DateTime = moment.parse().ok()?;
        let seconds = moment.duration_since(EPOCH).as_secs() - ahead;
        let stamp = Self(seconds.checked_mul(1_000_000)?.checked_add(micros)?);
        (FIRST..=LAST).contains(&stamp).then_some(stamp)
    }

    fn to_civil(self) -> jiff::civil::DateTime {
        EPOCH.saturating_add(jiff::SignedDuration::from_micros(self.0))
    }

    /// Returns what calendars and clocks show that are `seconds` ahead of UTC; stays within the calendar's years.
    pub(super) fn civil_ahead(self, seconds: i64) -> jiff::civil::DateTime {
        self.to_civil().saturating_add(jiff::SignedDuration::from_secs(seconds))
    }

    /// Returns RFC 3339 in UTC with microseconds, as the API writes times.
    pub fn to_rfc3339(self) -> String {
        format!("{:.6}Z", self.to_civil())
    }

    /// Returns RFC 3339 in UTC with whole seconds, as pass.json writes dates (Apple, "Pass", read 2026-11).
    pub fn to_rfc3339_seconds(self) -> String {
        format!("{:.0}Z", Self::from_seconds(self.seconds()).to_civil())
    }

    /// Returns an HTTP date (RFC 9110, 5.6.7), e.g. `Sat, 21 Nov 2026 23:15:00 GMT`.
    pub fn to_http_date(self) -> String {
        // The years that such a date can name are 1970 to 9999.
        let seconds = u64::try_from(self.seconds()).unwrap_or(0).min(253_402_300_799);
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Reads an HTTP date, also in the obsolete forms.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let since = httpdate::parse_http_date(text.trim()).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(Self::from_seconds(i64::try_from(since.as_secs()).ok()?))
    }

    /// Returns year, month, day, hour, minute and second in UTC.
    pub fn civil(self) -> (i16, i8, i8, i8, i8, i8) {
        let civil = self.to_civil();
        (civil.year(), civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        let t = Timestamp::parse_rfc3339("2026-11-21T23:15:39.5+02:00").expect("valid");
        assert_eq!(t.to_rfc3339(), "2026-11-21T21:15:39.500000Z");
        assert_eq!(t.to_rfc3339_seconds(), "2026-11-21T21:15:39Z");
        assert_eq!(t.to_http_date(), "Sat, 21 Nov 2026 21:15:39 GMT");
        assert_eq!(Timestamp::parse_http_date(&t.to_http_date()), Some(Timestamp::from_seconds(t.seconds())));
    }

    #[test]
    fn all_years_that_can_be_written_are_kept_as_they_are() {
        for (text, kept) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
            ("1900-02-28T12:00:00.5Z", "1900-02-28T12:00:00.500000Z"),
            ("1969-12-31t23:59:59z", "1969-12-31T23:59:59.000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
            ("2024-02-29 23:30:00-05:30", "2024-03-01T05:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).map(Timestamp::to_rfc3339).as_deref(), Some(kept), "{text}");
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_no_time() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T23:15",
            "2026-11-21T23:15:39",
            "2026-11-21T23:15:39.Z",
            "2026-11-21T23:15:39+0200",
            "2026-11-21T23:15:39+02:60",
            "2026-11-21T23:15:39+24:00",
            "2026-11-21T23:15:39Z[Europe/Riga]",
            "2026-11-21T23:15:3āZ",
            "+002026-11-21T23:15:39Z",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "0000-12-31T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad:?} was taken");
        }
        for bad in ["", "2026-11-21T23:15:39Z", "Sat, 31 Feb 2026 10:00:00 GMT", "0"] {
            assert_eq!(Timestamp::parse_http_date(bad), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn an_http_date_may_have_an_old_form_and_no_time_is_too_far_for_one() {
        let same = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];
        assert!(same.iter().all(|text| Timestamp::parse_http_date(text) == Some(Timestamp::from_seconds(784_111_777))));
        assert_eq!(Timestamp::from_seconds(i64::MIN).to_http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(Timestamp::from_seconds(i64::MAX).to_http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
