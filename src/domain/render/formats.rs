//! Formats numbers, amounts and dates for a language (Unicode CLDR, by ICU4X), for texts in which they stand among
//! words. A value that stands alone is left to the phone, which knows its owner's preferences better.

use icu_datetime::fieldsets::{T, YMD};
use icu_datetime::input::{Date, DateTime, Time};
use icu_datetime::{DateTimeFormatter, NoCalendarFormatter};
use icu_decimal::DecimalFormatter;
use icu_decimal::input::Decimal;
use icu_experimental::dimension::currency::CurrencyType;
use icu_experimental::dimension::currency::formatter::CurrencyFormatter;
use icu_locale_core::Locale;

use crate::domain::values::locale::Language;
use crate::domain::values::money::Currency;

/// The length in which a date is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DateLength {
    Short,
    Medium,
    Long,
}

impl DateLength {
    /// Reads the name of a length.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "short" => Self::Short,
            "medium" => Self::Medium,
            "long" => Self::Long,
            _ => return None,
        })
    }
}

/// The precision with which a time of day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLength {
    /// Hours and minutes.
    Short,
    /// With seconds.
    Medium,
}

impl TimeLength {
    /// Reads the name of a length.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "short" => Some(Self::Short),
            "medium" => Some(Self::Medium),
            _ => None,
        }
    }
}

fn locale(language: &Language) -> Locale {
    // A well-formed tag of an unknown language is formatted like English.
    language.as_str().parse().unwrap_or(Locale::UNKNOWN)
}

/// Formats a decimal number with its digits grouped: `1,234.5`, `1 234,5`. `None` if it is no plain decimal number.
pub fn number(written: &str, language: &Language) -> Option<String> {
    let number: Decimal = written.parse().ok()?;
    let formatter = DecimalFormatter::try_new((&locale(language)).into(), Default::default()).ok()?;
    Some(formatter.format(&number).to_string())
}

/// Formats an amount with its currency's sign: `€1,234.50`, `1 234,50 €`. `None` if it is no plain decimal number.
pub fn money(written: &str, currency: Currency, language: &Language) -> Option<String> {
    let number: Decimal = written.parse().ok()?;
    let code: CurrencyType = currency.as_str().parse().ok()?;
    let formatter = CurrencyFormatter::try_new_symbol((&locale(language)).into(), code, Default::default()).ok()?;
    Some(formatter.format_fixed_decimal(&number).to_string())
}

/// Formats a calendar day: `Dec 31, 2026`, `2026. g. 31. dec.`.
pub fn date(day: jiff::civil::Date, length: DateLength, language: &Language) -> Option<String> {
    let formatter = DateTimeFormatter::try_new((&locale(language)).into(), fields(length)).ok()?;
    let (year, month, day) = parts(day)?;
    Some(formatter.format(&Date::try_new_iso(year, month, day).ok()?).to_string())
}

/// Formats a time of day: `6:30 PM`, `18:30`.
pub fn time(time: jiff::civil::Time, length: TimeLength, language: &Language) -> Option<String> {
    let fields = match length {
        TimeLength::Short => T::hm(),
        TimeLength::Medium => T::hms(),
    };
    let formatter = NoCalendarFormatter::try_new((&locale(language)).into(), fields).ok()?;
    Some(formatter.format(&clock(time)?).to_string())
}

/// Formats a day with a time of day: `Dec 24, 2026, 6:30 PM`, `24.12.2026, 18:30`.
pub fn date_time(
    moment: jiff::civil::DateTime,
    (day, exactness): (DateLength, TimeLength),
    language: &Language,
) -> Option<String> {
    let fields = match exactness {
        TimeLength::Short => fields(day).with_time_hm(),
        TimeLength::Medium => fields(day).with_time_hms(),
    };
    let formatter = DateTimeFormatter::try_new((&locale(language)).into(), fields).ok()?;
    let (year, month, day) = parts(moment.date())?;
    let moment = DateTime { date: Date::try_new_iso(year, month, day).ok()?, time: clock(moment.time())? };
    Some(formatter.format(&moment).to_string())
}

fn fields(length: DateLength) -> YMD {
    match length {
        DateLength::Short => YMD::short(),
        DateLength::Medium => YMD::medium(),
        DateLength::Long => YMD::long(),
    }
}

fn parts(day: jiff::civil::Date) -> Option<(i32, u8, u8)> {
    Some((i32::from(day.year()), u8::try_from(day.month()).ok()?, u8::try_from(day.day()).ok()?))
}

fn clock(time: jiff::civil::Time) -> Option<Time> {
    let part = |part: i8| u8::try_from(part).ok();
    Time::try_new(part(time.hour())?, part(time.minute())?, part(time.second())?, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(tag: &str) -> Language {
        Language::parse(tag).expect("a language")
    }

    #[test]
    fn each_language_writes_in_its_own_way() {
        let day = jiff::civil::date(2026, 12, 31);
        let euro = Currency::parse("EUR").expect("a currency");
        for (tag, n, m, d) in [
            ("en", "12,345.5", "€12,345.50", "Dec 31, 2026"),
            ("lv", "12\u{a0}345,5", "12\u{a0}345,50\u{a0}€", "2026. g. 31. dec."),
            ("de", "12.345,5", "12.345,50\u{a0}€", "31.12.2026"),
            ("zh-Hans-CN", "12,345.5", "€12,345.50", "2026年12月31日"),
        ] {
            let language = language(tag);
            assert_eq!(number("12345.5", &language).as_deref(), Some(n), "{tag}");
            assert_eq!(money("12345.5", euro, &language).as_deref(), Some(m), "{tag}");
            assert_eq!(date(day, DateLength::Medium, &language).as_deref(), Some(d), "{tag}");
        }
        let yen = Currency::parse("JPY").expect("a currency");
        assert_eq!(money("1500", yen, &language("en")).as_deref(), Some("¥1,500"));
        assert_eq!(date(day, DateLength::Long, &language("en")).as_deref(), Some("December 31, 2026"));
    }

    /// Checks languages of many scripts and conventions against what their readers write.
    #[test]
    fn every_language_of_cldr_writes_numbers_amounts_days_and_times() {
        let euro = Currency::parse("EUR").expect("a currency");
        let moment = jiff::civil::date(2026, 12, 24).at(18, 30, 0, 0);
        let mut wrong = Vec::new();
        for (tag, n, m, d) in EXAMPLES {
            let language = language(tag);
            let found = [
                number("1234567.5", &language).unwrap_or_default(),
                money("12.50", euro, &language).unwrap_or_default(),
                date_time(moment, (DateLength::Medium, TimeLength::Short), &language).unwrap_or_default(),
            ];
            // Languages differ in which invisible spaces they use; this test ignores that.
            let plain =
                found.map(|text| text.replace(['\u{a0}', '\u{202f}'], " ").replace(['\u{200e}', '\u{200f}'], ""));
            if plain != [n, m, d] {
                wrong.push((tag, plain));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    const EXAMPLES: [(&str, &str, &str, &str); 21] = [
        ("en", "1,234,567.5", "€12.50", "Dec 24, 2026, 6:30 PM"),
        ("en-GB", "1,234,567.5", "€12.50", "24 Dec 2026, 18:30"),
        ("de", "1.234.567,5", "12,50 €", "24.12.2026, 18:30"),
        ("de-AT", "1 234 567,5", "€ 12,50", "24.12.2026, 18:30"),
        ("de-CH", "1'234'567.5", "€ 12.50", "24.12.2026, 18:30"),
        ("fr", "1 234 567,5", "12,50 €", "24 déc. 2026, 18:30"),
        ("es", "1.234.567,5", "12,50 €", "24 dic 2026, 18:30"),
        ("it", "1.234.567,5", "12,50 €", "24 dic 2026, 18:30"),
        ("pt-BR", "1.234.567,5", "€ 12,50", "24 de dez. de 2026, 18:30"),
        ("nl", "1.234.567,5", "€ 12,50", "24 dec 2026, 18:30"),
        ("pl", "1 234 567,5", "12,50 €", "24 gru 2026, 18:30"),
        ("lv", "1 234 567,5", "12,50 €", "2026. g. 24. dec. 18:30"),
        ("ru", "1 234 567,5", "12,50 €", "24 дек. 2026 г., 18:30"),
        ("uk", "1 234 567,5", "12,50 €", "24 груд. 2026 р., 18:30"),
        ("tr", "1.234.567,5", "€12,50", "24 Ara 2026 18:30"),
        ("el", "1.234.567,5", "12,50 €", "24 Δεκ 2026, 6:30 μ.μ."),
        ("sv", "1 234 567,5", "12,50 €", "24 dec. 2026 18:30"),
        ("fi", "1 234 567,5", "12,50 €", "24.12.2026 klo 18.30"),
        ("ar-EG", "١٬٢٣٤٬٥٦٧٫٥", "١٢٫٥٠ €", "٢٤/١٢/٢٠٢٦، ٦:٣٠ م"),
        ("he", "1,234,567.5", "12.50 €", "24 בדצמ׳ 2026, 18:30"),
        ("hi", "12,34,567.5", "€12.50", "24 दिस॰ 2026, 6:30 pm"),
    ];

    #[test]
    fn an_unknown_language_and_an_odd_number_do_no_harm() {
        assert!(number("1234.5", &language("qq-9")).is_some());
        assert!(date(jiff::civil::date(1, 1, 1), DateLength::Short, &language("qq")).is_some());
        for odd in ["", "1e", "x", "1,5", "NaN"] {
            assert_eq!(number(odd, &language("en")), None, "{odd:?}");
        }
    }
}
