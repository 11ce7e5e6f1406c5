//! Checks a draft beyond what a single pass shows of it: texts in every language, pictures for every card.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::cards::Card;
use crate::domain::checks::Issue;
use crate::domain::input::pointer;
use crate::domain::render::render_or_faults;
use crate::domain::templates::picture::{Look, PictureName};
use crate::domain::templates::samples::sample_values;
use crate::domain::templates::{Group, Template};
use crate::domain::values::attribute::{AttributeType, is_web_address};
use crate::domain::values::locale::Language;
use crate::wallets::apple::check::Sample;
use crate::wallets::apple::package::pass_json::pass_json;
use crate::wallets::apple::package::prepare::{folders, laid_out};
use crate::wallets::apple::rules::report::Report;
use crate::wallets::apple::rules::{Files, check_contrast, fields};
use crate::wallets::images::{Fit, VersionFile, fit};

/// A stored draft.
#[derive(Debug)]
pub struct PutDesign {
    /// The document.
    pub document: Arc<Value>,
    /// The pictures.
    pub pictures: Vec<PutPicture>,
}

/// A picture as it was uploaded.
#[derive(Debug)]
pub struct PutPicture {
    /// The picture's name: its role, and which of the role's pictures.
    pub name: PictureName,
    /// The language; empty for all.
    pub locale: String,
    /// The tier; empty for all.
    pub tier: String,
    /// Width and height in pixels, when they are known.
    pub size: Option<(u32, u32)>,
}

/// Returns every violation of this file's rules in a draft.
pub fn issues_of_design(design: &PutDesign, sample: &Sample<'_>, files: &[VersionFile]) -> Vec<Issue> {
    let mut report = Report::default();
    let texts = Texts { document: &design.document, languages: &sample.template.languages };
    texts.check_tables(&mut report);
    texts.check_translations(&mut report);
    texts.check_messages(&mut report);
    check_pictures(&design.pictures, sample.template, &mut report);
    check_choices(&design.pictures, sample, &mut report);
    check_looks(sample, files, &mut report);
    report.finish()
}

/// The texts of a document and their translations.
struct Texts<'a> {
    document: &'a Value,
    languages: &'a [Language],
}

/// The kind of a text of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Message,
    Other,
}

impl<'a> Texts<'a> {
    /// Returns the texts that people read, with their pointers. A business's name is the same in every language.
    fn all(&self) -> Vec<(String, &'a str, Words)> {
        let mut found = Vec::new();
        let mut take = |at: String, value: Option<&'a Value>, words: Words| {
            found.extend(value.and_then(Value::as_str).map(|text| (at, text, words)));
        };
        take("/description".to_owned(), self.document.get("description"), Words::Other);
        for group in Group::ALL {
            let fields = self.document.pointer(&format!("/fields/{}", group.name())).and_then(Value::as_array);
            for (i, field) in fields.into_iter().flatten().enumerate() {
                let at = |member: &str| format!("/fields/{}/{i}/{member}", group.name());
                take(at("label"), field.get("label"), Words::Other);
                take(at("value"), field.get("value"), Words::Other);
                take(at("change_message"), field.get("change_message"), Words::Message);
            }
        }
        let places = self.document.get("locations").and_then(Value::as_array);
        for (i, place) in places.into_iter().flatten().enumerate() {
            take(format!("/locations/{i}/text"), place.get("text"), Words::Other);
        }
        found
    }

    /// Returns the translation tables by language, each with the tag it has in the document.
    fn tables(&self) -> BTreeMap<Language, (&'a str, &'a Map<String, Value>)> {
        let tables = self.document.get("strings").and_then(Value::as_object);
        let read = |(tag, table): (&'a String, &'a Value)| {
            Some((Language::parse(tag).ok()?, (tag.as_str(), table.as_object()?)))
        };
        tables.into_iter().flatten().filter_map(read).collect()
    }

    /// Returns the languages whose readers need translations: all but those of the document's own language.
    fn foreign(&self) -> impl Iterator<Item = (usize, &'a Language)> {
        let own = self.languages.first().map(Language::base);
        self.languages.iter().enumerate().filter(move |(_, language)| Some(language.base()) != own)
    }

    /// Checks the rules `language-unknown` and `translation-table-empty`.
    fn check_tables(&self, report: &mut Report) {
        for (place, language) in self.languages.iter().enumerate() {
            if !language.is_known() {
                let detail = format!("there is no language {}, so no phone asks for it", language.base());
                report.warning("language-unknown", format!("/languages/{place}"), detail);
            }
        }
        let (tables, texts) = (self.tables(), self.texts_with_words());
        let Some(own) = self.languages.first() else { return };
        for (place, language) in self.foreign().filter(|_| !texts.is_empty()) {
            let detail = format!("has no translation, so readers of {language} get every text in {own}");
            match tables.get(language) {
                Some((tag, table)) if table.is_empty() => {
                    report.warning("translation-table-empty", pointer("/strings", tag), detail);
                }
                None => report.warning("translation-table-empty", format!("/languages/{place}"), detail),
                Some(_) => {}
            }
        }
    }

    /// Returns the texts that aren't the same in every language.
    fn texts_with_words(&self) -> Vec<(String, &'a str, Words)> {
        self.all().into_iter().filter(|(_, text, _)| has_words(text)).collect()
    }

    /// Checks the rule `translation-missing`.
    fn check_translations(&self, report: &mut Report) {
        let tables = self.tables();
        for (at, text, _) in self.texts_with_words() {
            let lacking: Vec<&str> = self
                .foreign()
                // A language without any translation has one warning already.
                .filter(|(_, language)| tables.get(language).is_some_and(|(_, table)| !table.is_empty()))
                .filter(|(_, language)| tables.get(language).is_some_and(|(_, table)| !table.contains_key(text)))
                .map(|(_, language)| language.as_str())
                .collect();
            if let (false, Some(own)) = (lacking.is_empty(), self.languages.first()) {
                let detail = format!("has no translation in {}, where it is shown in {own}", lacking.join(", "));
                report.warning("translation-missing", at, detail);
            }
        }
    }

    /// Checks the rule `field-change-message` in the document's own text and in every translation.
    fn check_messages(&self, report: &mut Report) {
        let tables = self.tables();
        let mut add = |at: String, message: &str| {
            if let Some((severity, detail)) = fields::fault_of_message(&without_expressions(message)) {
                report.add(Issue { rule: "field-change-message", severity, pointer: at, detail });
            }
        };
        let mut seen: Vec<&str> = Vec::new();
        for (at, text, _) in self.all().into_iter().filter(|(.., words)| *words == Words::Message) {
            // Checked even if every language has a translation and nobody sees it: it is the first language's text.
            add(at, text);
            if seen.contains(&text) {
                continue;
            }
            seen.push(text);
            for (tag, table) in tables.values() {
                if let Some(translation) = table.get(text).and_then(Value::as_str) {
                    add(pointer(&pointer("/strings", tag), text), translation);
                }
            }
        }
    }
}

/// Returns a text with a character in place of each expression.
fn without_expressions(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        out.push('…');
        rest = after.split_once("}}").map_or("", |(_, after)| after);
    }
    out + rest
}

/// Whether a text has something to translate: words beside expressions, and not only an address.
fn has_words(text: &str) -> bool {
    let plain = text.trim();
    let address = is_web_address(plain) || (plain.contains(['@', '.']) && !plain.contains(char::is_whitespace));
    !address && without_expressions(text).replace("%@", "").chars().any(char::is_alphabetic)
}

/// Checks the rules `image-too-small`, `image-language-undeclared` and `image-tier-undeclared`.
fn check_pictures(pictures: &[PutPicture], template: &Template, report: &mut Report) {
    for picture in pictures {
        let at = pointer("/images", &picture.name.to_string());
        let mut whose = String::new();
        for (word, value) in [("language", &picture.locale), ("tier", &picture.tier)] {
            if !value.is_empty() {
                whose.push_str(&format!(" of the {word} {value}"));
            }
        }
        if let Some((width, height)) = picture.size
            && let Some(fit) = fit(picture.name.role, template.style)
        {
            let (needed, small) = match fit {
                Fit::Fill(w, h) => ((w * 3, h * 3), width < w * 3 || height < h * 3),
                Fit::Within(w, h) => ((w * 3, h * 3), width < w * 3 && height < h * 3),
            };
            if small {
                let detail = format!(
                    "the picture{whose} has {width}×{height} pixels and looks blurred on most phones; expected {}{}×{}",
                    if matches!(fit, Fit::Within(..)) { "as wide or high as " } else { "at least " },
                    needed.0,
                    needed.1
                );
                report.warning("image-too-small", &at, detail);
            }
        }
        let declared = picture.locale == "en" || template.languages.iter().any(|l| l.as_str() == picture.locale);
        if !picture.locale.is_empty() && !declared {
            let known: Vec<&str> = template.languages.iter().map(Language::as_str).collect();
            let detail = format!("is a picture{whose}; the template's languages are {}", known.join(", "));
            report.warning("image-language-undeclared", &at, detail);
        }
        if !picture.tier.is_empty() {
            let tiers = template.tiers.as_ref().and_then(|tiers| template.attribute(tiers.attribute.as_str()));
            let expected = match tiers.map(|attribute| &attribute.kind) {
                None => Some("the template has no tiers".to_owned()),
                Some(AttributeType::Choice { choices }) if !choices.contains(&picture.tier) => {
                    Some(format!("the tiers are {}", choices.join(", ")))
                }
                Some(_) => None,
            };
            if let Some(expected) = expected {
                report.warning("image-tier-undeclared", &at, format!("is a picture{whose}; {expected}"));
            }
        }
    }
}

/// Checks the rule `image-choice-missing`: an attribute's value selects a picture that doesn't exist. Whole numbers are
/// unbounded, so the one after the largest picture's is tried.
fn check_choices(pictures: &[PutPicture], sample: &Sample<'_>, report: &mut Report) {
    let template = sample.template;
    for (role, text) in &template.images {
        let of_role = || pictures.iter().filter(|picture| picture.name.role == *role);
        let variants: Vec<&str> = of_role().filter_map(|picture| picture.name.variant.as_deref()).collect();
        let common = of_role().any(|picture| picture.name.variant.is_none());
        for attribute in template.attributes.iter().filter(|attribute| text.uses(&attribute.name)) {
            let digits = |name: &&str| name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<i64>().ok();
            let largest = variants.iter().filter_map(digits).max();
            let tried: Vec<Value> = match (&attribute.kind, largest) {
                (AttributeType::Integer, Some(largest)) => vec![json!(largest.saturating_add(1))],
                // A choice without a picture of its own shows the common one, so nothing is missing.
                (AttributeType::Choice { choices }, _) if !common => choices.iter().map(|c| json!(c)).collect(),
                _ => continue,
            };
            for value in tried {
                let Some(chosen) = chosen(sample, role, attribute.name.as_str(), &value) else { continue };
                if variants.contains(&chosen.as_str()) {
                    continue;
                }
                let shown = if common { "the common picture" } else { "none" };
                let largest = largest.filter(|_| attribute.kind == AttributeType::Integer);
                let last = largest.and_then(|n| variants.iter().find(|name| digits(name) == Some(n)));
                let mut detail = format!(
                    "has no picture {role}@{chosen} for {} of {}, and shows {shown}",
                    attribute.name,
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                );
                if let (Some(last), Some(n)) = (last, largest) {
                    let name = &attribute.name;
                    detail.push_str(&format!(
                        "; the largest is {role}@{last}. Add pictures, or stay at it: {{{{ {name} if {name} < {n} else {n} }}}}"
                    ));
                }
                report.warning("image-choice-missing", format!("/images/{role}"), detail);
                break;
            }
        }
    }
}

/// Returns which of a role's pictures a card with that value shows.
fn chosen(sample: &Sample<'_>, role: &str, attribute: &str, value: &Value) -> Option<String> {
    let mut values = sample_values(sample.template, sample.now);
    values.insert(attribute.to_owned(), value.clone());
    let card = Card::sample(values, sample.now);
    let rendered = render_or_faults(sample.template, &card, &sample.page_url()).ok()?;
    rendered.look.variant(role).map(str::to_owned)
}

/// Checks the rule `color-contrast` for the tiers' looks.
fn check_looks(sample: &Sample<'_>, files: &[VersionFile], report: &mut Report) {
    let template = sample.template;
    let Some(tiers) = &template.tiers else { return };
    for (tier, own) in &tiers.looks {
        let mut values = sample_values(template, sample.now);
        values.insert(tiers.attribute.as_str().to_owned(), json!(tier));
        let card = Card::sample(values, sample.now);
        let Ok(rendered) = render_or_faults(template, &card, &sample.page_url()) else { continue };
        let pass = sample.with_identity(&card, |identity| pass_json(&rendered, identity)).json;
        let look = Look { tier: Some(tier.clone()), chosen: rendered.look.chosen.clone() };
        let pictures = laid_out(&folders(template), files, &look);
        let packed: Files = pictures.into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        for issue in check_contrast(&pass, &packed) {
            let look = pointer("/tiers/looks", tier);
            let members = [
                ("/foregroundColor", "foreground", own.foreground),
                ("/labelColor", "label", own.label),
                ("/backgroundColor", "background", own.background),
            ];
            let named = members.iter().find(|(at, ..)| *at == issue.pointer);
            let at = match named.filter(|(.., colour)| colour.is_some()) {
                Some((_, member, _)) => format!("{look}/colors/{member}"),
                None if own.background.is_some() => format!("{look}/colors/background"),
                None => look,
            };
            report.add(Issue { pointer: at, ..issue });
        }
    }
}
