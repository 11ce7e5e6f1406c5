//! Renders a card with its template into what is shown, the same for every wallet, page and preview.

pub mod budget;
pub mod expression;
pub mod formats;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::ids::{AttributeName, FieldKey};
use super::input::Problems;
use super::time::Timestamp;
use crate::domain::cards::message::{self, MESSAGE_KEY};
use crate::domain::cards::{Card, State};
use crate::domain::render::budget::Budget;
use crate::domain::render::expression::{EvaluationError, Scope, Text};
use crate::domain::render::formats::{DateLength, TimeLength};
use crate::domain::templates::picture::{Look, PictureName, is_variant};
use crate::domain::templates::{
    BarcodeFormat, Colours, DateStyle, Dates, Field, Group, Phrase, Template, Tree, styles,
};
use crate::domain::values::attribute::{AttributeType, AttributeValue, value_pointer};
use crate::domain::values::locale::Language;
use crate::domain::values::money::{Currency, Decimal};
use crate::domain::values::zone::Zone;

/// A card as it is shown.
#[derive(Debug)]
pub struct RenderedCard<'t> {
    /// The design.
    pub template: &'t Template,
    /// The business whose card it is.
    pub organization: Localised<'t>,
    /// The text that VoiceOver reads out.
    pub description: Localised<'t>,
    /// The text beside the logo.
    pub logo_text: Option<Localised<'t>>,
    /// The colours of the card's tier.
    pub colours: Colours,
    /// What decides which pictures it shows.
    pub look: Look,
    /// The pictures that the card's own values name; they must exist.
    pub named_pictures: Vec<(AttributeName, PictureName)>,
    /// The fields that have a value.
    pub fields: Vec<(Group, Vec<RenderedField<'t>>)>,
    /// The fields with a change message but without a value: phones announce them when they get one.
    pub awaited: Vec<&'t FieldKey>,
    /// The backend's last text message.
    pub message: Option<RenderedMessage<'t>>,
    /// The barcode that is scanned at the till.
    pub barcode: Option<RenderedBarcode>,
    /// The places near which phones offer the card.
    pub locations: Vec<RenderedLocation<'t>>,
    /// Whether the card may be used.
    pub state: State,
    /// When the card ends.
    pub ends_at: Option<Timestamp>,
    /// The template's own members of pass.json.
    pub apple_pass: Value,
    /// The steps and bytes that computing its texts took; see [`Budget::taken`].
    pub taken: (u64, u64),
}

impl<'t> RenderedCard<'t> {
    /// Returns the values of its fields, in the order in which they are shown.
    pub fn values(&self) -> impl Iterator<Item = (&'t FieldKey, &FieldValue<'t>)> {
        self.fields.iter().flat_map(|(_, fields)| fields).map(|field| (field.key, &field.value))
    }
}

/// A text in the template's languages.
#[derive(Debug, Clone, PartialEq)]
pub enum Localised<'t> {
    /// The same in every language.
    Plain(String),
    /// The template's own words: the same for every card, so that their table is made once per version.
    Fixed {
        /// The phrase's key.
        key: &'t str,
        /// One text for each of the template's languages, in their order.
        texts: &'t [String],
    },
    /// Words with this card's values among them.
    PerCard {
        /// The phrase's key.
        key: &'t str,
        /// One text for each of the template's languages, in their order.
        texts: Vec<String>,
    },
}

impl Localised<'_> {
    /// Returns the text in the template's language at the index `place`.
    pub fn in_language(&self, place: usize) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Fixed { texts, .. } => texts.get(place).or(texts.first()).map_or("", String::as_str),
            Self::PerCard { texts, .. } => texts.get(place).or(texts.first()).map_or("", String::as_str),
        }
    }
}

/// A field with a value.
#[derive(Debug)]
pub struct RenderedField<'t> {
    /// Its key.
    pub key: &'t FieldKey,
    /// The label above the value.
    pub label: Option<Localised<'t>>,
    /// The value.
    pub value: FieldValue<'t>,
    /// The change message; only when this field's message is the live one.
    pub message: Option<Localised<'t>>,
    /// Where a tap on the value leads.
    pub link: Option<String>,
    /// How a date or moment is written.
    pub dates: Dates,
}

impl RenderedField<'_> {
    /// Returns the value as text for readers of the template's language at the index `place`. Phones format typed
    /// values themselves; this is for pages and for what phones are given as text.
    pub fn written(&self, template: &Template, place: usize) -> String {
        let language = template.languages.get(place).or(template.languages.first());
        let Some(language) = language else { return self.value.in_language(place) };
        let written = match &self.value {
            FieldValue::Text(text) => return text.in_language(place).to_owned(),
            FieldValue::Integer(n) => formats::number(&n.to_string(), language),
            FieldValue::Decimal(d) => formats::number(&d.to_fixed(0), language),
            FieldValue::Money(amount, currency) => {
                formats::money(&amount.to_fixed(currency.decimals()), *currency, language)
            }
            FieldValue::Date(day) => formats::date(*day, date_length(self.dates.date), language),
            FieldValue::DateTime(moment) => {
                let moment = template.zone().civil(*moment);
                let (day, time) = (date_length(self.dates.date), time_length(self.dates.time));
                match (self.dates.date, self.dates.time) {
                    (Some(DateStyle::None), _) => formats::time(moment.time(), time, language),
                    (_, Some(DateStyle::None)) => formats::date(moment.date(), day, language),
                    _ => formats::date_time(moment, (day, time), language),
                }
            }
        };
        written.unwrap_or_else(|| self.value.in_language(place))
    }
}

fn date_length(style: Option<DateStyle>) -> DateLength {
    match style {
        Some(DateStyle::Short) => DateLength::Short,
        None | Some(DateStyle::None | DateStyle::Medium) => DateLength::Medium,
        Some(DateStyle::Long | DateStyle::Full) => DateLength::Long,
    }
}

fn time_length(style: Option<DateStyle>) -> TimeLength {
    match style {
        None | Some(DateStyle::None | DateStyle::Short) => TimeLength::Short,
        Some(DateStyle::Medium | DateStyle::Long | DateStyle::Full) => TimeLength::Medium,
    }
}

/// A text of the backend's own, on the card's back.
#[derive(Debug)]
pub struct RenderedMessage<'t> {
    /// The label above the text.
    pub label: Localised<'t>,
    /// The text.
    pub text: Localised<'t>,
    /// Whether phones announce it.
    pub is_live: bool,
}

/// A field's value; typed, so that each wallet can write it in the phone's own language.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum FieldValue<'t> {
    Text(Localised<'t>),
    Integer(i64),
    Decimal(Decimal),
    Money(Decimal, Currency),
    Date(jiff::civil::Date),
    DateTime(Timestamp),
}

impl FieldValue<'_> {
    /// Whether there is nothing to read in at least one of the template's languages.
    pub fn is_blank(&self) -> bool {
        let blank = |text: &String| text.trim().is_empty();
        match self {
            Self::Text(Localised::Plain(text)) => blank(text),
            Self::Text(Localised::Fixed { texts, .. }) => texts.iter().any(blank),
            Self::Text(Localised::PerCard { texts, .. }) => texts.iter().any(blank),
            _ => false,
        }
    }

    /// Returns the value as text in the template's language at the index `place`, for comparisons; see
    /// [`RenderedField::written`] for what people read.
    pub fn in_language(&self, place: usize) -> String {
        match self {
            Self::Text(text) => text.in_language(place).to_owned(),
            Self::Integer(n) => n.to_string(),
            Self::Decimal(d) => d.to_fixed(0),
            Self::Money(amount, currency) => format!("{} {}", amount.to_fixed(currency.decimals()), currency.as_str()),
            Self::Date(date) => date.to_string(),
            Self::DateTime(t) => t.to_rfc3339_seconds(),
        }
    }
}

/// The barcode that is scanned at the till.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct RenderedBarcode {
    pub format: BarcodeFormat,
    pub value: String,
    pub text: Option<String>,
}

/// A place near which phones offer the card.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct RenderedLocation<'t> {
    pub latitude: f64,
    pub longitude: f64,
    pub altitude: Option<f64>,
    pub text: Option<Localised<'t>>,
}

struct CardScope<'a, 't> {
    card: &'a Card,
    template: &'t Template,
    page_url: &'a str,
    values: BTreeMap<&'t str, AttributeValue>,
    budget: Budget,
}

impl Scope for CardScope<'_, '_> {
    fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.values.get(name)
    }

    fn built_in(&self, name: &str) -> Option<String> {
        Some(match name {
            "card.id" => self.card.id.as_str().to_owned(),
            "card.serial_number" => self.card.serial.as_str().to_owned(),
            "card.state" => self.card.content.state.as_str().to_owned(),
            "card.url" => self.page_url.to_owned(),
            "template.id" => self.card.content.template.as_str().to_owned(),
            "template.name" => self.template.name.clone(),
            "template.organization" => self.template.organization.fixed.as_ref()?.first()?.clone(),
            _ => return None,
        })
    }

    fn currency(&self, name: &str) -> Option<Currency> {
        match self.template.attribute(name)?.kind {
            AttributeType::Money { currency } => Some(currency),
            _ => None,
        }
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn zone(&self) -> &Zone {
        self.template.zone()
    }
}

/// A text of the design that has no value for a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The JSON pointer of the text in the template document.
    pub at: String,
    /// The place in words.
    pub place: String,
    /// The attributes that it uses.
    pub uses: Vec<AttributeName>,
    /// Why it has no value.
    pub error: EvaluationError,
}

/// Renders a card. `page_url` is its public address.
///
/// # Errors
/// One problem for each value that is missing or can't be used in a computation, at the attribute's pointer in the
/// card's document. A field without a value is left out instead.
pub fn render<'t>(template: &'t Template, card: &Card, page_url: &str) -> Result<RenderedCard<'t>, Problems> {
    render_or_faults(template, card, page_url).map_err(|faults| {
        let mut problems = Problems::new();
        for fault in faults {
            match &fault.error {
                EvaluationError::Missing(name) => {
                    let pointer =
                        AttributeName::parse(name).map_or_else(|_| "/attributes".to_owned(), |n| value_pointer(&n));
                    problems.add(pointer, format!("has no value, but {} needs one", fault.place));
                }
                EvaluationError::Failed(why) => {
                    let detail = format!("{} can't be computed: {why}", fault.place);
                    if fault.uses.is_empty() {
                        problems.add("/attributes", detail.as_str());
                    }
                    for name in &fault.uses {
                        problems.add(value_pointer(name), detail.as_str());
                    }
                }
            }
        }
        problems
    })
}

/// Renders a card as [`render`] does, but names the texts of the design that failed.
///
/// # Errors
/// The texts of the design that have no value for this card.
pub fn render_or_faults<'t>(
    template: &'t Template,
    card: &Card,
    page_url: &str,
) -> Result<RenderedCard<'t>, Vec<Fault>> {
    let values = values_of(template, card);
    let scope = CardScope { card, template, page_url, values, budget: Budget::default() };
    let mut renderer = Renderer { scope: &scope, faults: Vec::new() };
    let rendered = renderer.card();
    if renderer.faults.is_empty() { Ok(rendered) } else { Err(renderer.faults) }
}

/// Returns the card's values, with the template's defaults for those that it lacks.
fn values_of<'t>(template: &'t Template, card: &Card) -> BTreeMap<&'t str, AttributeValue> {
    template
        .attributes
        .iter()
        .filter_map(|attribute| {
            let name = attribute.name.as_str();
            let given = card.content.attributes.get(name).filter(|v| !v.is_null());
            let value = match card.content.attributes.get(name) {
                Some(Value::Null) => None,
                _ => given.or(attribute.default.as_ref()),
            }?;
            Some((name, attribute.kind.stored(value)?))
        })
        .collect()
}

/// Evaluates one text for a card, for tests of what it costs.
#[cfg(test)]
pub(super) fn evaluate_alone(template: &Template, card: &Card, text: &Text) -> Option<String> {
    let values = values_of(template, card);
    let scope = CardScope { card, template, page_url: "https://x/c/y", values, budget: Budget::default() };
    text.evaluate(&scope, &Language::english()).ok()
}

/// The place of a text: a pointer into the template document, and words.
struct Place<'a> {
    at: &'a str,
    words: &'a str,
}

/// Renders what phones show of an erased card: its design, voided, without any field, barcode or location. It never
/// fails, because nobody could correct the card any more; what needs a value is left out.
pub fn render_erased<'t>(template: &'t Template, card: &Card) -> RenderedCard<'t> {
    // Defaults are the same for every card, so they say nothing about a person.
    let defaults = template
        .attributes
        .iter()
        .filter_map(|attribute| Some((attribute.name.as_str(), attribute.kind.stored(attribute.default.as_ref()?)?)));
    let scope = CardScope { card, template, page_url: "", values: defaults.collect(), budget: Budget::default() };
    let renderer = Renderer { scope: &scope, faults: Vec::new() };
    let name = || Localised::Plain(template.name.clone());
    RenderedCard {
        template,
        organization: renderer.evaluate(&template.organization).unwrap_or_else(|_| name()),
        description: renderer.evaluate(&template.description).unwrap_or_else(|_| name()),
        logo_text: template.logo_text.as_ref().and_then(|text| renderer.evaluate(text).ok()),
        colours: template.colours,
        look: Look::default(),
        named_pictures: Vec::new(),
        fields: Vec::new(),
        awaited: Vec::new(),
        message: None,
        barcode: None,
        locations: Vec::new(),
        state: State::Voided,
        ends_at: None,
        apple_pass: without_values(&renderer, &template.apple_pass),
        taken: scope.budget.taken(),
    }
}

/// Returns those of the template's own members that need none of the card's values. A member that needs one is left out
/// whole, and so is an entry of a list, because phones refuse half of one. In the style's own dictionary only the
/// member itself is left out, unless the attributes' defaults are enough for it.
fn without_values(renderer: &Renderer<'_, '_>, tree: &Tree) -> Value {
    let Tree::Members(members) = tree else { return Value::Object(Map::new()) };
    let kept = members.iter().filter_map(|(name, tree)| {
        let value = match tree {
            Tree::Members(members) if styles::style(name).is_some() => {
                let own = members.iter().filter_map(|(name, tree)| Some((name.clone(), renderer.complete(tree)?)));
                Value::Object(own.collect())
            }
            Tree::List(items) => {
                let kept: Vec<Value> = items.iter().filter_map(constant).collect();
                if kept.is_empty() && !items.is_empty() {
                    return None;
                }
                Value::Array(kept)
            }
            other => constant(other)?,
        };
        Some((name.clone(), value))
    });
    Value::Object(kept.collect())
}

/// Returns the value of a tree without expressions; `None` when it has one.
fn constant(tree: &Tree) -> Option<Value> {
    match tree {
        Tree::Leaf(value) => Some(value.clone()),
        Tree::List(items) => items.iter().map(constant).collect::<Option<Vec<_>>>().map(Value::Array),
        Tree::Members(members) => {
            let members = members.iter().map(|(name, tree)| Some((name.clone(), constant(tree)?)));
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Tree::Text(..) => None,
    }
}

struct Renderer<'a, 't> {
    scope: &'a CardScope<'a, 't>,
    faults: Vec<Fault>,
}

impl<'t> Renderer<'_, 't> {
    fn card(&mut self) -> RenderedCard<'t> {
        let template = self.scope.template;
        let card = self.scope.card;
        let tier = template.tiers.as_ref().and_then(|tiers| {
            let value = self.scope.attribute(tiers.attribute.as_str())?;
            Some(match value.to_json() {
                Value::String(text) => text,
                other => other.to_string(),
            })
        });
        let look = tier.as_ref().and_then(|tier| template.tiers.as_ref()?.looks.get(tier)).copied().unwrap_or_default();
        let base = template.colours;
        let colours = Colours {
            background: look.background.or(base.background),
            foreground: look.foreground.or(base.foreground),
            label: look.label.or(base.label),
        };
        let fields: Vec<(Group, Vec<RenderedField<'t>>)> = template
            .fields
            .iter()
            .map(|(group, fields)| {
                let rendered = fields.iter().enumerate().filter_map(|(place, field)| {
                    let at = format!("/fields/{}/{place}", group.name());
                    self.field(&at, field)
                });
                (*group, rendered.collect())
            })
            .collect();
        let messaged = template.all_fields().filter(|(_, field)| field.change_message.is_some());
        let is_shown = |key: &FieldKey| fields.iter().flat_map(|(_, fields)| fields).any(|field| field.key == key);
        let awaited = messaged.map(|(_, field)| &field.key).filter(|key| !is_shown(key)).collect();
        let barcode = template.barcode.as_ref().map(|barcode| RenderedBarcode {
            format: barcode.format,
            value: self.text(&barcode.value, &Place { at: "/barcode/value", words: "the barcode" }),
            text: barcode
                .text
                .as_ref()
                .map(|text| self.text(text, &Place { at: "/barcode/text", words: "the barcode's text" })),
        });
        let named_pictures = self.named_pictures();
        RenderedCard {
            template,
            organization: self
                .phrase(&template.organization, &Place { at: "/organization", words: "the organization" }),
            description: self.phrase(&template.description, &Place { at: "/description", words: "the description" }),
            logo_text: template
                .logo_text
                .as_ref()
                .map(|p| self.phrase(p, &Place { at: "/logo_text", words: "the logo text" })),
            colours,
            look: Look { tier, chosen: self.chosen_pictures(&named_pictures) },
            named_pictures,
            fields,
            awaited,
            message: card.message.as_ref().map(|text| RenderedMessage {
                label: message::label(&template.languages),
                text: text.localised(&template.languages),
                is_live: card.live_message.as_ref().is_some_and(|key| key.as_str() == MESSAGE_KEY),
            }),
            barcode,
            locations: template
                .locations
                .iter()
                .enumerate()
                .map(|(place, l)| RenderedLocation {
                    latitude: l.latitude,
                    longitude: l.longitude,
                    altitude: l.altitude,
                    text: l.text.as_ref().map(|p| {
                        let at = format!("/locations/{place}/text");
                        self.phrase(p, &Place { at: &at, words: "a location's text" })
                    }),
                })
                .collect(),
            state: card.content.state,
            ends_at: card.ends_at(),
            apple_pass: self.tree(&template.apple_pass),
            taken: self.scope.budget.taken(),
        }
    }

    /// Returns the template's pictures that the card's values of type image name.
    fn named_pictures(&self) -> Vec<(AttributeName, PictureName)> {
        let images = self.scope.template.attributes.iter().filter(|a| a.kind == AttributeType::Image);
        let named = images.filter_map(|attribute| {
            let Some(AttributeValue::Text(text)) = self.scope.attribute(attribute.name.as_str()) else { return None };
            // Anything else is an address, which an Apple pass doesn't show.
            Some((attribute.name.clone(), PictureName::parse(text).ok()?))
        });
        named.collect()
    }

    /// Returns one picture for each role: the first that a value names, otherwise the one that the template's own text
    /// gives.
    fn chosen_pictures(&mut self, named: &[(AttributeName, PictureName)]) -> Vec<PictureName> {
        let mut chosen: Vec<PictureName> = Vec::new();
        for (_, name) in named {
            if chosen.iter().all(|other| other.role != name.role) {
                chosen.push(name.clone());
            }
        }
        for (role, text) in &self.scope.template.images {
            if chosen.iter().any(|name| name.role == *role) {
                continue;
            }
            match text.evaluate(self.scope, self.first_language()) {
                // A text that can't be a picture's name chooses none: the role's common picture is shown.
                Ok(variant) if is_variant(&variant) => {
                    chosen.push(PictureName { role, variant: Some(variant) });
                }
                Ok(_) | Err(EvaluationError::Missing(_)) => {}
                Err(e) => {
                    let at = format!("/images/{role}");
                    self.note(&e, std::slice::from_ref(text), &Place { at: &at, words: "the picture" });
                }
            }
        }
        chosen.sort();
        chosen
    }

    /// Returns the language of texts that are the same for every reader.
    fn first_language(&self) -> &'t Language {
        static ENGLISH: LazyLock<Language> = LazyLock::new(Language::english);
        self.scope.template.languages.first().unwrap_or(&ENGLISH)
    }

    fn field(&mut self, at: &str, field: &'t Field) -> Option<RenderedField<'t>> {
        let words = format!("the field {}", field.key);
        let (value_at, label_at, link_at) = (format!("{at}/value"), format!("{at}/label"), format!("{at}/link"));
        let place = |at| Place { at, words: &words };
        let value = match field.value.texts.first().and_then(Text::single_attribute) {
            Some(name) if !field.value.varied => {
                let value = self.scope.attribute(name)?;
                self.keep(value, &field.value.texts, &place(&value_at))?;
                typed(value)
            }
            _ => match self.evaluate(&field.value) {
                Ok(text) => FieldValue::Text(text),
                Err(EvaluationError::Missing(_)) => return None,
                Err(e) => {
                    self.note(&e, &field.value.texts, &place(&value_at));
                    return None;
                }
            },
        };
        let live = self.scope.card.live_message.as_ref() == Some(&field.key);
        let label = field.label.as_ref().map(|p| self.phrase(p, &place(&label_at)));
        // A message that lacks a value is not shown; a card is never refused because of it.
        let message = field.change_message.as_ref().filter(|_| live).and_then(|p| self.evaluate(p).ok());
        // A link is left out like a field when its value is missing.
        let link =
            field.link.as_ref().and_then(|link| match link.evaluate_address(self.scope, self.first_language()) {
                Ok(link) if ["https://", "http://", "mailto:", "tel:"].iter().any(|s| link.starts_with(s)) => {
                    Some(link)
                }
                Ok(_) => {
                    let wrong = EvaluationError::Failed("its link is none of https, http, mailto and tel".to_owned());
                    self.note(&wrong, std::slice::from_ref(link), &place(&link_at));
                    None
                }
                Err(EvaluationError::Missing(_)) => None,
                Err(e) => {
                    self.note(&e, std::slice::from_ref(link), &place(&link_at));
                    None
                }
            });
        Some(RenderedField { key: &field.key, label, value, message, link, dates: field.dates })
    }

    fn evaluate(&self, phrase: &'t Phrase) -> Result<Localised<'t>, EvaluationError> {
        if let Some(texts) = &phrase.fixed {
            return Ok(if phrase.varied {
                Localised::Fixed { key: &phrase.key, texts }
            } else {
                Localised::Plain(texts.first().cloned().unwrap_or_default())
            });
        }
        if phrase.varied {
            let texts = phrase.texts.iter().zip(&self.scope.template.languages);
            let texts = texts.map(|(text, language)| text.evaluate(self.scope, language)).collect::<Result<_, _>>()?;
            return Ok(Localised::PerCard { key: &phrase.key, texts });
        }
        let text = phrase.texts.first();
        text.map_or(Ok(String::new()), |t| t.evaluate(self.scope, self.first_language())).map(Localised::Plain)
    }

    fn phrase(&mut self, phrase: &'t Phrase, place: &Place<'_>) -> Localised<'t> {
        self.evaluate(phrase).unwrap_or_else(|e| {
            self.note(&e, &phrase.texts, place);
            Localised::Plain(String::new())
        })
    }

    fn text(&mut self, text: &Text, place: &Place<'_>) -> String {
        text.evaluate(self.scope, self.first_language()).unwrap_or_else(|e| {
            self.note(&e, std::slice::from_ref(text), place);
            String::new()
        })
    }

    fn address(&mut self, text: &Text, at: &str) -> Value {
        let address = text.evaluate_address(self.scope, self.first_language()).unwrap_or_else(|e| {
            self.note(&e, std::slice::from_ref(text), &Place { at, words: at });
            String::new()
        });
        Value::from(address)
    }

    /// Counts a value that is used as it is; `None`, with a fault added, when the card's texts become too long with it.
    fn keep(&mut self, value: &AttributeValue, texts: &[Text], place: &Place<'_>) -> Option<()> {
        let AttributeValue::Text(text) = value else { return Some(()) };
        match self.scope.budget.keep(text) {
            Ok(()) => Some(()),
            Err(e) => {
                self.note(&EvaluationError::Failed(e.to_string()), texts, place);
                None
            }
        }
    }

    fn note(&mut self, error: &EvaluationError, texts: &[Text], place: &Place<'_>) {
        let declared = &self.scope.template.attributes;
        let uses = declared.iter().map(|a| &a.name).filter(|name| texts.iter().any(|text| text.uses(name)));
        self.faults.push(Fault {
            at: place.at.to_owned(),
            place: place.words.to_owned(),
            uses: uses.cloned().collect(),
            error: error.clone(),
        });
    }

    /// Returns the value of a tree, unless something in it lacks a value.
    fn complete(&self, tree: &Tree) -> Option<Value> {
        let mut renderer = Renderer { scope: self.scope, faults: Vec::new() };
        let value = renderer.tree(tree);
        renderer.faults.is_empty().then_some(value)
    }

    fn tree(&mut self, tree: &Tree) -> Value {
        match tree {
            Tree::Leaf(value) => value.clone(),
            Tree::List(items) => Value::Array(items.iter().map(|item| self.tree(item)).collect()),
            Tree::Members(members) => {
                let members = members.iter().map(|(name, tree)| match tree {
                    // Apple's members that hold an address have such names (appLaunchURL, bagPolicyURL, …).
                    Tree::Text(at, text) if is_address(name) => (name.clone(), self.address(text, at)),
                    _ => (name.clone(), self.tree(tree)),
                });
                Value::Object(members.collect::<Map<_, _>>())
            }
            Tree::Text(at, text) => match text.single_attribute().and_then(|name| self.scope.attribute(name)) {
                Some(value) => {
                    if self.keep(value, std::slice::from_ref(text), &Place { at, words: at }).is_none() {
                        return Value::Null;
                    }
                    match value {
                        AttributeValue::Money(amount, _) => Value::from(amount.to_f64()),
                        value => value.to_json(),
                    }
                }
                None => Value::from(self.text(text, &Place { at, words: at })),
            },
        }
    }
}

/// Whether a member of pass.json with that name holds an address.
pub(super) fn is_address(name: &str) -> bool {
    name.ends_with("URL")
}

fn typed<'t>(value: &AttributeValue) -> FieldValue<'t> {
    match value {
        AttributeValue::Text(text) => FieldValue::Text(Localised::Plain(text.clone())),
        AttributeValue::Boolean(yes) => FieldValue::Text(Localised::Plain(if *yes { "✓" } else { "–" }.to_owned())),
        AttributeValue::Integer(n) => FieldValue::Integer(*n),
        AttributeValue::Decimal(d) => FieldValue::Decimal(*d),
        AttributeValue::Money(amount, currency) => FieldValue::Money(*amount, *currency),
        AttributeValue::Date(date) => FieldValue::Date(*date),
        AttributeValue::DateTime(t) => FieldValue::DateTime(Timestamp::from_seconds(t.seconds())),
    }
}

/// Returns the index of the card's own language among the template's; 0 when the template has none that matches.
pub fn language_of(card: &Card, languages: &[Language]) -> usize {
    card.content.locale.as_ref().and_then(|locale| locale.best_of(languages)).unwrap_or(0)
}
