//! `pass.strings`: the translations of a pass, one file per language.
//!
//! The keys are ours, under one prefix, never the texts themselves: a member called "Points" stays "Points".

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::domain::templates::Template;
use crate::domain::values::locale::Language;

/// The prefix of every string key.
pub const PREFIX: &str = "l10n:";

/// The bytes of a hash by which two values of one field differ.
const FINGERPRINT: usize = 8;

/// Returns the key of a phrase under [`PREFIX`]; `texts` are in the order of the languages.
///
/// Phones announce a field when its `value` in pass.json differs, and ignore what `pass.strings` has. The key of a
/// field's value is therefore derived from what it shows: it changes when the text changes in any language, and only
/// then.
pub fn key(phrase: &str, texts: &[String], languages: &[Language]) -> String {
    if !phrase.ends_with(".value") {
        return phrase.to_owned();
    }
    let mut hash = Sha256::new();
    let first = texts.first().map_or("", String::as_str);
    hash.update(first);
    // Languages with the same text as the first one are left out, so that adding such a language doesn't change the
    // value.
    for (text, language) in texts.iter().zip(languages).filter(|(text, _)| *text != first) {
        for part in [language.as_str(), text] {
            hash.update([0]);
            hash.update(part);
        }
    }
    let hash = hash.finalize();
    format!("{phrase}.{}", hex::encode(hash.get(..FINGERPRINT).unwrap_or(&hash)))
}

/// Returns the folder of a language.
pub fn folder(language: &Language) -> String {
    format!("{language}.lproj")
}

/// Returns the languages of a pass with the index of their texts in the template: the template's own, and English, to
/// which phones fall back when the pass has none of their owner's languages; it then has the texts of the template's
/// first language.
pub fn languages(template: &Template) -> Vec<(Language, usize)> {
    let own = &template.languages;
    let mut all: Vec<_> = own.iter().cloned().enumerate().map(|(i, l)| (l, i)).collect();
    let english = Language::english();
    if !own.contains(&english) {
        let place = english.best_of(own).unwrap_or(0);
        all.push((english, place));
    }
    all
}

/// Writes one entry.
pub fn write_entry(out: &mut String, key: &str, text: &str) {
    out.push('"');
    escape(out, PREFIX);
    escape(out, key);
    out.push_str("\" = \"");
    escape(out, text);
    out.push_str("\";\n");
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\U{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Returns the entries that are the same for every card, for the texts at index `place`.
pub fn fixed_entries(template: &Template, place: usize) -> String {
    let mut out = String::new();
    for phrase in template.phrases() {
        if let (Some(texts), true) = (&phrase.fixed, phrase.varied)
            && let Some(text) = texts.get(place)
        {
            write_entry(&mut out, &key(&phrase.key, texts, &template.languages), text);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_line_breaks_are_escaped() {
        let mut out = String::new();
        write_entry(&mut out, "back", "a \"b\"\nc\\");
        assert_eq!(out, "\"l10n:back\" = \"a \\\"b\\\"\\nc\\\\\";\n");
    }
}
