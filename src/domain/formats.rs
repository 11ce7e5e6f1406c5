//! Numbers, amounts and dates as a language writes them (Unicode CLDR, by ICU4X), for texts in which they stand among
//! words. A value that stands alone is left to the phone, which knows its owner's habits better.

use icu_datetime::DateTimeFormatter;
use icu_datetime::fieldsets::YMD;
use icu_datetime::input::Date;
use icu_decimal::DecimalFormatter;
use icu_decimal::input::Decimal;
use icu_experimental::dimension::currency::CurrencyType;
use icu_experimental::dimension::currency::formatter::CurrencyFormatter;
use icu_locale_core::Locale;

use super::locale::Language;
use super::money::Currency;

/// How long a date is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DateLength {
    Short,
    Medium,
    Long,
}

impl DateLength {
    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "short" => Self::Short,
            "medium" => Self::Medium,
            "long" => Self::Long,
            _ => return None,
        })
    }
}

fn locale(language: &Language) -> Locale {
    // A tag whose form is right but which no one knows is written like English.
    language.as_str().parse().unwrap_or(Locale::UNKNOWN)
}

/// A decimal number with digits grouped: `1,234.5`, `1 234,5`. `None` for what is no plain decimal number.
pub fn number(written: &str, language: &Language) -> Option<String> {
    let number: Decimal = written.parse().ok()?;
    let formatter = DecimalFormatter::try_new((&locale(language)).into(), Default::default()).ok()?;
    Some(formatter.format(&number).to_string())
}

/// An amount with its currency's sign: `€1,234.50`, `1 234,50 €`. `None` for what is no plain decimal number.
pub fn money(written: &str, currency: Currency, language: &Language) -> Option<String> {
    let number: Decimal = written.parse().ok()?;
    let code: CurrencyType = currency.as_str().parse().ok()?;
    let formatter = CurrencyFormatter::try_new_symbol((&locale(language)).into(), code, Default::default()).ok()?;
    Some(formatter.format_fixed_decimal(&number).to_string())
}

/// A calendar day: `Dec 31, 2026`, `2026. g. 31. dec.`.
pub fn date(day: jiff::civil::Date, length: DateLength, language: &Language) -> Option<String> {
    let (month, number) = (u8::try_from(day.month()).ok()?, u8::try_from(day.day()).ok()?);
    let date = Date::try_new_iso(i32::from(day.year()), month, number).ok()?;
    let fields = match length {
        DateLength::Short => YMD::short(),
        DateLength::Medium => YMD::medium(),
        DateLength::Long => YMD::long(),
    };
    let formatter = DateTimeFormatter::try_new((&locale(language)).into(), fields).ok()?;
    Some(formatter.format(&date).to_string())
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

    #[test]
    fn an_unknown_language_and_an_odd_number_do_no_harm() {
        assert!(number("1234.5", &language("qq-9")).is_some());
        assert!(date(jiff::civil::date(1, 1, 1), DateLength::Short, &language("qq")).is_some());
        for odd in ["", "1e", "x", "1,5", "NaN"] {
            assert_eq!(number(odd, &language("en")), None, "{odd:?}");
        }
    }
}
