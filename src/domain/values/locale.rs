//! Languages, as BCP 47 tags.

use std::fmt;

use icu_locale::{LanguageIdentifier, LocaleDirectionality, LocaleExpander, TransformResult};

/// A language tag such as `lv`, `en-GB` or `zh-Hans`, written in the customary case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Language(String);

impl Language {
    /// Reads a tag: checks its form (not whether the language exists) and normalises its case.
    ///
    /// # Errors
    /// A sentence with an example.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let word =
            |part: &str, min, max| (min..=max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let first = parts.first().copied().unwrap_or_default();
        let fine = text.len() <= 35
            && word(first, 2, 3)
            && first.bytes().all(|b| b.is_ascii_alphabetic())
            && parts.iter().skip(1).all(|part| word(part, 1, 8));
        if !fine {
            return Err("is not a language tag; expected for example en, lv, ru or pt-BR".to_owned());
        }
        let cased: Vec<String> = parts
            .iter()
            .enumerate()
            .map(|(i, part)| match part.len() {
                2 if i > 0 => part.to_ascii_uppercase(),
                4 if i > 0 => {
                    let (head, tail) = part.split_at(1);
                    head.to_ascii_uppercase() + &tail.to_ascii_lowercase()
                }
                _ => part.to_ascii_lowercase(),
            })
            .collect();
        Ok(Self(cased.join("-")))
    }

    /// Reads a tag as [`Self::parse`] does, but only of a language that Unicode's data (CLDR) knows; for languages that
    /// backends give for people.
    ///
    /// # Errors
    /// A sentence with examples.
    pub fn parse_known(text: &str) -> Result<Self, String> {
        let language = Self::parse(text)?;
        if language.is_known() {
            return Ok(language);
        }
        Err(format!(
            "has the language {}, which there isn't; expected for example en, lv, de-AT or pt-BR",
            language.base()
        ))
    }

    /// Whether the language exists, as far as Unicode's data (CLDR) knows.
    pub fn is_known(&self) -> bool {
        // Unicode's data has a script and a country for every language that it knows.
        let alone: Option<LanguageIdentifier> = self.base().parse().ok();
        let expanded = |mut alone| LocaleExpander::new_extended().maximize(&mut alone);
        self.base() != "und" && alone.map(expanded) == Some(TransformResult::Modified)
    }

    /// Whether it is written from right to left.
    pub fn is_right_to_left(&self) -> bool {
        self.0.parse().is_ok_and(|tag: LanguageIdentifier| LocaleDirectionality::new_extended().is_right_to_left(&tag))
    }

    /// Returns English, the language that every pass falls back to.
    pub fn english() -> Self {
        Self("en".to_owned())
    }

    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part before the first hyphen: the language without region and script.
    pub fn base(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }

    /// Returns the index of the best match among `offered`: the same tag, else the same language, else none.
    pub fn best_of(&self, offered: &[Self]) -> Option<usize> {
        offered.iter().position(|l| l == self).or_else(|| offered.iter().position(|l| l.base() == self.base()))
    }
}

/// Returns the index of the offered language that an `Accept-Language` header (RFC 9110, 12.5.4) prefers.
pub fn negotiate(header: &str, offered: &[Language]) -> Option<usize> {
    let mut preferences: Vec<(f32, Language)> = header
        .split(',')
        .take(20)
        .filter_map(|item| {
            let mut parts = item.split(';');
            let language = Language::parse(parts.next()?.trim()).ok()?;
            let weight =
                parts.find_map(|p| p.trim().strip_prefix("q=")).map_or(Some(1.0), |q| q.trim().parse().ok())?;
            (weight > 0.0).then_some((weight, language))
        })
        .collect();
    preferences.sort_by(|a, b| b.0.total_cmp(&a.0));
    preferences.iter().find_map(|(_, language)| language.best_of(offered))
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl serde::Serialize for Language {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<Language> {
        texts.iter().map(|t| Language::parse(t).expect("valid")).collect()
    }

    #[test]
    fn tags_are_checked_and_cased() {
        assert_eq!(Language::parse("PT-br").expect("valid").as_str(), "pt-BR");
        assert_eq!(Language::parse("zh-hans-cn").expect("valid").as_str(), "zh-Hans-CN");
        for bad in ["", "e", "english", "en_GB", "en-", "../en", "1a", "en-é"] {
            assert!(Language::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn only_languages_that_there_are_are_known() {
        for tag in ["en", "lv", "de-AT", "pt-br", "zh-Hans", "no", "sr-Latn-RS", "haw", "ar-EG", "yue", "en-001"] {
            assert!(Language::parse_known(tag).is_ok(), "{tag} was refused");
        }
        for bad in ["xx", "xx-nonsense", "qq-9", "und", "english", "EN_gb", "", "zzz"] {
            let refused = Language::parse_known(bad).expect_err(bad);
            assert!(refused.contains("expected for example en, lv"), "{bad}: {refused}");
        }
        let rtl = |tag: &str| Language::parse(tag).expect("valid").is_right_to_left();
        assert!(rtl("ar") && rtl("he-IL") && !rtl("lv") && !rtl("qq"));
    }

    #[test]
    fn the_visitor_gets_the_language_he_likes_best_of_those_there_are() {
        let offered = tags(&["en", "lv", "ru"]);
        assert_eq!(negotiate("lv-LV,lv;q=0.9,en;q=0.8", &offered), Some(1));
        assert_eq!(negotiate("de, ru;q=0.3, en;q=0.2", &offered), Some(2));
        assert_eq!(negotiate("de, *;q=0.1", &offered), None);
        assert_eq!(negotiate("ru;q=0, en;q=x", &offered), None);
    }
}
