//! `pass.strings`: the translations of a pass, one file per language.
//!
//! Keys are ours, under one prefix, never the texts themselves: a member called "Points" stays "Points".

use std::fmt::Write;

use crate::domain::locale::Language;
use crate::domain::template::Template;

/// What every string key begins with.
pub const PREFIX: &str = "l10n:";

/// The folder of a language.
pub fn folder(language: &Language) -> String {
    format!("{language}.lproj")
}

/// The languages of a pass with the place of their texts in the template: the template's own, and English, to which
/// phones fall back when none of their owner's languages is there; it then has the texts of the template's first language.
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

/// One entry.
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

/// The entries that are the same for every card, for the texts at `place`.
pub fn fixed_entries(template: &Template, place: usize) -> String {
    let mut out = String::new();
    for phrase in template.phrases() {
        if let (Some(texts), true) = (&phrase.fixed, phrase.varied)
            && let Some(text) = texts.get(place)
        {
            write_entry(&mut out, &phrase.key, text);
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
