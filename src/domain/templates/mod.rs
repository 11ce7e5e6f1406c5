//! A card design: the document that marketers write, checked, with every text parsed once.

pub mod cost;
pub mod picture;
pub mod samples;
pub mod styles;
pub mod trial;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::ids::{AttributeName, FieldKey};
use crate::domain::input::{Lines, Node, Object, Problems, pointer, some_of};
use crate::domain::render::expression::Text;
use crate::domain::templates::cost::TemplateCost;
use crate::domain::templates::picture::ROLES;
use crate::domain::templates::styles::Style;
use crate::domain::values::attribute::{Attribute, AttributeType, read_attribute};
use crate::domain::values::colour::Colour;
use crate::domain::values::locale::Language;
use crate::domain::values::zone::Zone;

/// Members of pass.json that the service sets: the pass's identity, and how a phone proves that it holds the pass.
pub const PROTECTED: [&str; 7] = [
    "formatVersion",
    "serialNumber",
    "passTypeIdentifier",
    "teamIdentifier",
    "authenticationToken",
    "webServiceURL",
    "voided",
];

/// Identity and security members of Google's class and object.
const GOOGLE_CLASS: &[&str] = &["id"];
const GOOGLE_OBJECT: &[&str] = &["id", "classId", "classReference"];

/// A design, ready to render cards.
#[derive(Debug)]
pub struct Template {
    /// The name that marketers give it.
    pub name: String,
    /// The business whose card it is, as phones show it in notifications.
    pub organization: Phrase,
    /// The text that VoiceOver reads out.
    pub description: Phrase,
    /// The kind of programme it serves.
    pub kind: Kind,
    /// The languages, at least one; the first is that of the document's own texts.
    pub languages: Vec<Language>,
    /// The zone in which moments are written, if the template names one; otherwise the workspace's applies.
    pub own_zone: Option<Zone>,
    workspace_zone: Option<Zone>,
    /// The colours of a card whose tier has no look of its own.
    pub colours: Colours,
    /// The text beside the logo.
    pub logo_text: Option<Phrase>,
    /// The attributes that cards have values for.
    pub attributes: Vec<Attribute>,
    /// The fields, by their group.
    pub fields: Vec<(Group, Vec<Field>)>,
    /// The fields whose change messages come first, in order of importance.
    pub message_order: Vec<FieldKey>,
    /// The barcode that is scanned at the till.
    pub barcode: Option<Barcode>,
    /// How tiers look.
    pub tiers: Option<Tiers>,
    /// The choice among the pictures prepared for a role: the role, and a text that gives the picture's name.
    pub images: Vec<(&'static str, Text)>,
    /// The places near which phones offer the card.
    pub locations: Vec<Location>,
    /// The layout of the Apple pass.
    pub style: &'static Style,
    /// Further members of pass.json, with expressions.
    pub apple_pass: Tree,
    /// The most that a card can cost.
    pub cost: TemplateCost,
}

/// The kind of programme that a template serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Points,
    Stamps,
    Tiers,
    Discount,
    Coupon,
    Gift,
    Membership,
    Event,
    Generic,
}

impl Kind {
    const ALL: [(&'static str, Self); 9] = [
        ("points", Self::Points),
        ("stamps", Self::Stamps),
        ("tiers", Self::Tiers),
        ("discount", Self::Discount),
        ("coupon", Self::Coupon),
        ("gift", Self::Gift),
        ("membership", Self::Membership),
        ("event", Self::Event),
        ("generic", Self::Generic),
    ];

    /// Returns the name of every kind.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(|(name, _)| name).to_vec()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("is not a kind of programme; expected one of {}", Self::names().join(", ")))
    }
}

/// Where a field stands on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Beside the logo; the only fields that are visible when cards lie stacked.
    Header,
    /// Large, over the strip picture.
    Primary,
    /// Below the primary fields.
    Secondary,
    /// Below the secondary fields.
    Auxiliary,
    /// On the back.
    Back,
}

impl Group {
    /// All groups, in the order in which a card shows them.
    pub const ALL: [Self; 5] = [Self::Header, Self::Primary, Self::Secondary, Self::Auxiliary, Self::Back];

    /// Returns the name in template documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Auxiliary => "auxiliary",
            Self::Back => "back",
        }
    }
}

/// A text in every language of the template.
#[derive(Debug, Clone)]
pub struct Phrase {
    /// Its place in the document, e.g. `fields.points.label`; the string key in a pass is made from it.
    pub key: String,
    /// One text for each of the template's languages, in their order.
    pub texts: Vec<Text>,
    /// The texts themselves, when none of them has an expression.
    pub fixed: Option<Vec<String>>,
    /// Whether any two languages differ; if not, no translation is needed.
    pub varied: bool,
}

/// The three colours of a card; the phone chooses an absent one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Colours {
    /// Behind everything.
    pub background: Option<Colour>,
    /// Of values.
    pub foreground: Option<Colour>,
    /// Of labels.
    pub label: Option<Colour>,
}

/// A field of a card.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its key, which identifies it across content versions of a card.
    pub key: FieldKey,
    /// The label above the value.
    pub label: Option<Phrase>,
    /// The value; typed when it is exactly one attribute.
    pub value: Phrase,
    /// What a phone announces when the value changed; `%@` stands for the new value.
    pub change_message: Option<Phrase>,
    /// Where a tap on the value leads; on the back only.
    pub link: Option<Text>,
    /// How a date or moment that is the whole value is written.
    pub dates: Dates,
}

/// How phones write a date or a moment that is a field's whole value; the phone's own language decides the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dates {
    /// The style of the day; the attribute's type decides when absent.
    pub date: Option<DateStyle>,
    /// The style of the time of day; the attribute's type decides when absent.
    pub time: Option<DateStyle>,
    /// Whether a moment is shown in the business's zone wherever the phone is.
    pub ignores_time_zone: bool,
}

/// How much of a day or a time of day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DateStyle {
    None,
    Short,
    Medium,
    Long,
    Full,
}

impl DateStyle {
    /// Every style with its name in template documents.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("short", Self::Short),
        ("medium", Self::Medium),
        ("long", Self::Long),
        ("full", Self::Full),
    ];

    fn parse(text: &str) -> Result<Self, &'static str> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, style)| *style);
        known.ok_or("is not a style of dates; expected none, short, medium, long or full")
    }
}

/// The barcode that is scanned at the till.
#[derive(Debug, Clone)]
pub struct Barcode {
    /// The symbology.
    pub format: BarcodeFormat,
    /// The text that it encodes.
    pub value: Text,
    /// The text below it.
    pub text: Option<Text>,
}

/// A symbology that both wallets know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BarcodeFormat {
    Qr,
    Pdf417,
    Aztec,
    Code128,
}

impl BarcodeFormat {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "qr" => Ok(Self::Qr),
            "pdf417" => Ok(Self::Pdf417),
            "aztec" => Ok(Self::Aztec),
            "code128" => Ok(Self::Code128),
            _ => Err("is not a barcode format; expected qr, pdf417, aztec or code128"),
        }
    }
}

/// How the tiers of a programme look.
#[derive(Debug, Clone)]
pub struct Tiers {
    /// The attribute that holds a card's tier.
    pub attribute: AttributeName,
    /// The colours that differ from the template's, by the attribute's value.
    pub looks: BTreeMap<String, Colours>,
}

/// A place near which phones offer the card.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Location {
    pub latitude: f64,
    pub longitude: f64,
    pub altitude: Option<f64>,
    pub text: Option<Phrase>,
}

/// JSON whose strings may contain expressions.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Anything but a string with an expression.
    Leaf(Value),
    /// A string with an expression: its pointer in the document, and the text.
    Text(String, Text),
    /// A list.
    List(Vec<Tree>),
    /// An object.
    Members(Vec<(String, Tree)>),
}

impl Tree {
    /// Whether this tree decides the value at a place of the merged document: the steps lead to one of its members, or
    /// into a list or value that replaces what was there.
    pub fn decides<'s>(&self, mut steps: impl Iterator<Item = &'s str>) -> bool {
        match self {
            Self::Leaf(_) | Self::Text(..) | Self::List(_) => true,
            Self::Members(members) => match steps.next() {
                None => true,
                Some(step) => {
                    members.iter().find(|(name, _)| name == step).is_some_and(|(_, tree)| tree.decides(steps))
                }
            },
        }
    }

    /// Returns the texts with expressions at the place `pointer` of the document and below it.
    pub fn texts_within(&self, pointer: &str) -> Vec<&Text> {
        match self {
            Self::Leaf(_) => Vec::new(),
            Self::Text(at, text) => {
                let rest = at.strip_prefix(pointer);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')).then_some(text).into_iter().collect()
            }
            Self::List(items) => items.iter().flat_map(|item| item.texts_within(pointer)).collect(),
            Self::Members(members) => members.iter().flat_map(|(_, tree)| tree.texts_within(pointer)).collect(),
        }
    }
}

impl Template {
    /// Reads a template document that is put.
    ///
    /// # Errors
    /// Every problem of the first stage that finds any: the form of the document, the cost of its cards, expressions
    /// that fail for some values.
    pub fn parse(document: &Value) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let read = Self::read(document, &mut problems);
        if let (Some((template, texts)), true) = (&read, problems.is_empty()) {
            cost::check(template, &mut problems);
            if problems.is_empty() {
                trial::check(template, texts, &mut problems);
            }
        }
        problems.or(read.map(|(template, _)| template))
    }

    /// Reads a document that was published, perhaps before today's limits existed. The cost of its cards is checked
    /// when they are rendered.
    ///
    /// # Errors
    /// Everything that is wrong with its form.
    pub fn published(document: &Value) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let read = Self::read(document, &mut problems);
        problems.or(read.map(|(template, _)| template))
    }

    /// Returns the template and its texts with expressions, each with its place in the document.
    fn read(document: &Value, problems: &mut Problems) -> Option<(Self, Vec<(String, Text)>)> {
        let mut read = Reader::default().template(&Node::root(document), problems)?;
        read.0.cost = cost::cost_of(&read.0);
        Some(read)
    }

    /// Returns the zone in which moments are written as text.
    pub fn zone(&self) -> &Zone {
        self.own_zone.as_ref().or(self.workspace_zone.as_ref()).unwrap_or_else(|| Zone::utc())
    }

    /// Returns the same template in a workspace with that zone.
    pub fn in_zone_of_workspace(self, zone: Zone) -> Self {
        Self { workspace_zone: Some(zone), ..self }
    }

    /// Returns about how many bytes it takes in memory, counting its texts in each language.
    pub fn memory(&self) -> usize {
        let of_phrase = |phrase: &Phrase| {
            let fixed = phrase.fixed.iter().flatten().map(|text| text.len() + 32).sum::<usize>();
            let shared = if phrase.varied { phrase.texts.len() } else { 1 };
            128 + phrase.key.len()
                + 16 * phrase.texts.len()
                + fixed
                + shared * 2 * phrase.texts.iter().map(Text::memory).max().unwrap_or(0)
        };
        fn of_tree(tree: &Tree) -> usize {
            match tree {
                Tree::Leaf(value) => 80 + value.to_string().len(),
                Tree::Text(at, text) => 80 + at.len() + text.memory(),
                Tree::List(items) => 80 + items.iter().map(of_tree).sum::<usize>(),
                Tree::Members(members) => {
                    80 + members.iter().map(|(name, tree)| 24 + name.len() + of_tree(tree)).sum::<usize>()
                }
            }
        }
        let choices = self.attributes.iter().map(|attribute| match &attribute.kind {
            AttributeType::Choice { choices } => choices.iter().map(|choice| choice.len() + 32).sum(),
            _ => 0,
        });
        self.phrases().into_iter().map(of_phrase).sum::<usize>()
            + self.attributes.len() * 400
            + choices.sum::<usize>()
            + of_tree(&self.apple_pass)
    }

    /// Returns the attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name.as_str() == name)
    }

    /// Returns every field with its group, in the order in which a card shows them.
    pub fn all_fields(&self) -> impl Iterator<Item = (Group, &Field)> {
        self.fields.iter().flat_map(|(group, fields)| fields.iter().map(move |field| (*group, field)))
    }

    /// Returns the fields that have a change message, the most important first: those of `message_order`, the tier,
    /// then the balance (the first header field), then the others in their order. Phones show a specific text only when
    /// a single field with a message changes.
    pub fn messaged_fields(&self) -> Vec<&Field> {
        let balance = self.all_fields().find(|(group, _)| *group == Group::Header).map(|(_, field)| &field.key);
        let rank = |field: &Field| match (self.message_order.iter().position(|key| *key == field.key), &self.tiers) {
            (Some(place), _) => (0, place),
            (None, Some(tiers)) if field.value.texts.iter().any(|t| t.uses(&tiers.attribute)) => (1, 0),
            _ if Some(&field.key) == balance => (2, 0),
            _ => (3, 0),
        };
        let mut fields: Vec<&Field> =
            self.all_fields().map(|(_, field)| field).filter(|f| f.change_message.is_some()).collect();
        fields.sort_by_key(|field| rank(field));
        fields
    }

    /// Returns every phrase.
    pub fn phrases(&self) -> Vec<&Phrase> {
        let mut phrases = vec![&self.organization, &self.description];
        phrases.extend(&self.logo_text);
        for (_, field) in self.all_fields() {
            phrases.extend(&field.label);
            phrases.push(&field.value);
            phrases.extend(&field.change_message);
        }
        phrases.extend(self.locations.iter().filter_map(|l| l.text.as_ref()));
        phrases
    }
}

/// The state of reading a document.
#[derive(Default)]
struct Reader {
    languages: Vec<Language>,
    attributes: Vec<Attribute>,
    strings: BTreeMap<Language, BTreeMap<String, (String, String)>>,
    /// The texts with expressions that were read so far, with their places.
    texts: RefCell<Vec<(String, Text)>>,
}

impl Reader {
    fn template(mut self, root: &Node<'_>, problems: &mut Problems) -> Option<(Template, Vec<(String, Text)>)> {
        let mut o = root.object(problems)?;
        let name = o.required("name", problems).and_then(|n| n.filled(problems, 128, Lines::One)).map(str::to_owned);
        let kind = o.get("kind").map_or(Some(Kind::Generic), |n| n.parsed(problems, Kind::parse));
        self.read_languages(&mut o, problems);
        for node in o.get("attributes").and_then(|n| n.array(problems, 100)).unwrap_or_default() {
            let Some(attribute) = read_attribute(&node, problems) else { continue };
            if self.attributes.iter().any(|a| a.name == attribute.name) {
                problems.add(pointer(&node.pointer, "name"), "stands twice");
            }
            self.attributes.push(attribute);
        }
        let organization = o
            .required("organization", problems)
            .and_then(|n| n.filled(problems, 128, Lines::One).map(|_| n.clone()))
            .and_then(|n| self.phrase("organization", &n, 128, Lines::One, problems));
        let description = match o.get("description") {
            Some(n) => self.phrase("description", &n, 256, Lines::One, problems),
            None => organization.clone().map(|p| Phrase { key: "description".to_owned(), ..p }),
        };
        let logo_text = o.get("logo_text").and_then(|n| self.phrase("logo_text", &n, 64, Lines::One, problems));
        let colours = o.get("colors").map_or(Some(Colours::default()), |n| read_colours(&n, problems));
        let own_zone = o.get("time_zone").and_then(|n| n.parsed(problems, Zone::parse));
        let fields = self.read_fields(&mut o, problems);
        let message_order = o.get("message_order").and_then(|n| n.array(problems, 250)).unwrap_or_default();
        let message_order = read_message_order(&message_order, fields.as_deref(), problems);
        let barcode = o.get("barcode").map(|n| self.barcode(&n, problems));
        let tiers = o.get("tiers").map(|n| self.tiers(&n, problems));
        let images = o.get("images").map(|n| self.images(&n, problems)).unwrap_or_default();
        let mut locations = Vec::new();
        for (i, node) in o.get("locations").and_then(|n| n.array(problems, 10)).unwrap_or_default().iter().enumerate() {
            locations.extend(self.location(i, node, problems));
        }
        let apple = o.required("apple", problems).and_then(|n| self.apple(&n, problems));
        if let Some(mut google) = o.get("google").and_then(|n| n.object(problems)) {
            google.get("type").and_then(|n| n.text(problems, 32, Lines::One));
            for (member, protected) in [("class", GOOGLE_CLASS), ("object", GOOGLE_OBJECT)] {
                let Some(node) = google.get(member) else { continue };
                for (name, member) in node.members(problems, 200).unwrap_or_default() {
                    if protected.contains(&name) {
                        problems.add(member.pointer, "can't be overridden: it belongs to the pass's identity");
                    }
                }
                self.tree(&node, 0, problems);
            }
            google.finish(problems);
        }
        o.finish(problems);
        let (style, apple_pass) = apple?;
        let template = Template {
            name: name?,
            organization: organization?,
            description: description?,
            kind: kind?,
            languages: self.languages,
            own_zone,
            workspace_zone: None,
            colours: colours?,
            logo_text,
            attributes: self.attributes,
            fields: fields?,
            message_order,
            barcode: match barcode {
                Some(b) => Some(b?),
                None => None,
            },
            tiers: match tiers {
                Some(t) => Some(t?),
                None => None,
            },
            images,
            locations,
            style,
            apple_pass,
            cost: TemplateCost::default(),
        };
        Some((template, self.texts.into_inner()))
    }

    fn parse(&self, source: &str, at: &str) -> Result<Text, String> {
        let text = Text::parse(source, &|name| self.knows(name))?;
        if !text.is_fixed() {
            self.texts.borrow_mut().push((at.to_owned(), text.clone()));
        }
        Ok(text)
    }

    fn read_languages(&mut self, o: &mut Object<'_>, problems: &mut Problems) {
        let listed = o.get("languages");
        let explicit = listed.is_some();
        for node in listed.and_then(|n| n.array(problems, 50)).unwrap_or_default() {
            match node.parsed(problems, Language::parse) {
                Some(language) if self.languages.contains(&language) => problems.add(node.pointer, "stands twice"),
                Some(language) => self.languages.push(language),
                None => {}
            }
        }
        if explicit && self.languages.is_empty() {
            problems.add("/languages", "is empty; expected at least one language");
        }
        if self.languages.is_empty() {
            self.languages.push(Language::english());
        }
        for (tag, node) in o.get("strings").and_then(|n| n.members(problems, 50)).unwrap_or_default() {
            let language = match Language::parse(tag) {
                Ok(language) => language,
                Err(e) => {
                    problems.add(node.pointer, e);
                    continue;
                }
            };
            if !self.languages.contains(&language) {
                if explicit {
                    problems.add(&node.pointer, "is not one of the template's languages; add it to /languages");
                    continue;
                }
                self.languages.push(language.clone());
            }
            let mut table = BTreeMap::new();
            for (source, node) in node.members(problems, 500).unwrap_or_default() {
                if let Some(text) = node.text(problems, 4096, Lines::Many) {
                    table.insert(source.to_owned(), (text.to_owned(), node.pointer));
                }
            }
            self.strings.insert(language, table);
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.attributes.iter().any(|a| a.name.as_str() == name)
    }

    fn expression(&self, node: &Node<'_>, max: usize, lines: Lines, problems: &mut Problems) -> Option<Text> {
        let source = node.text(problems, max, lines)?;
        node.parsed(problems, |_| self.parse(source, &node.pointer))
    }

    fn phrase(&self, key: &str, node: &Node<'_>, max: usize, lines: Lines, problems: &mut Problems) -> Option<Phrase> {
        let source = node.text(problems, max, lines)?;
        let mut written = Vec::new();
        let mut texts: Vec<Text> = Vec::new();
        let mut untranslated: Option<Text> = None;
        for (i, language) in self.languages.iter().enumerate() {
            let translation = self.strings.get(language).and_then(|table| table.get(source));
            let (text, at) = match translation {
                Some((text, at)) => (text.as_str(), at.as_str()),
                None => (source, node.pointer.as_str()),
            };
            // Parsed once for all languages that have no translation.
            let parsed = match (&translation, &untranslated) {
                (None, Some(parsed)) => Ok(parsed.clone()),
                _ => self.parse(text, at),
            };
            match parsed {
                Ok(parsed) => {
                    if translation.is_none() {
                        untranslated = Some(parsed.clone());
                    }
                    texts.push(parsed);
                }
                // an untranslated text is reported once, for the first language
                Err(detail) if i == 0 || translation.is_some() => problems.add(at, detail),
                Err(_) => {}
            }
            written.push(text.to_owned());
        }
        if texts.len() != written.len() {
            return None;
        }
        let varied = written.windows(2).any(|pair| pair.first() != pair.last())
            || (texts.len() > 1 && texts.iter().any(Text::is_localised));
        let fixed = texts.iter().all(Text::is_fixed).then_some(written);
        Some(Phrase { key: key.to_owned(), texts, fixed, varied })
    }

    fn read_fields(&self, o: &mut Object<'_>, problems: &mut Problems) -> Option<Vec<(Group, Vec<Field>)>> {
        let mut groups = o.required("fields", problems)?.object(problems)?;
        let mut all = Vec::new();
        for group in Group::ALL {
            let mut fields = Vec::new();
            for node in groups.get(group.name()).and_then(|n| n.array(problems, 50)).unwrap_or_default() {
                fields.extend(self.field(group, &node, problems));
            }
            all.push((group, fields));
        }
        groups.finish(problems);
        Some(all)
    }

    fn field(&self, group: Group, node: &Node<'_>, problems: &mut Problems) -> Option<Field> {
        let mut o = node.object(problems)?;
        let key = o.required("key", problems).and_then(|n| n.parsed(problems, FieldKey::parse));
        let place = key.as_ref().map_or_else(|| "?".to_owned(), |k| format!("fields.{k}"));
        let (max, lines) = if group == Group::Back { (4096, Lines::Many) } else { (512, Lines::One) };
        let label = o.get("label").and_then(|n| self.phrase(&format!("{place}.label"), &n, 128, Lines::One, problems));
        let value = o
            .required("value", problems)
            .and_then(|n| self.phrase(&format!("{place}.value"), &n, max, lines, problems));
        let change_message = o
            .get("change_message")
            // Some pass readers look for the %@ of a message before they translate it: they find it in the key.
            .and_then(|n| self.phrase(&format!("{place}.change_message %@"), &n, 256, Lines::One, problems));
        let link = o.get("link").and_then(|n| {
            if group != Group::Back {
                problems.add(&n.pointer, "stands on the front; phones open links on the back only");
            }
            self.expression(&n, 2048, Lines::One, problems)
        });
        let dates = self.dates(&mut o, value.as_ref(), problems);
        o.finish(problems);
        Some(Field { key: key?, label, value: value?, change_message, link, dates })
    }

    fn dates(&self, o: &mut Object<'_>, value: Option<&Phrase>, problems: &mut Problems) -> Dates {
        let alone = value.filter(|value| !value.varied).and_then(|value| value.texts.first()?.single_attribute());
        let kind = alone.and_then(|name| self.attributes.iter().find(|a| a.name.as_str() == name)).map(|a| &a.kind);
        let moment = kind == Some(&AttributeType::DateTime);
        let mut member = |name, of_dates_too: bool, problems: &mut Problems| {
            let node = o.get(name)?;
            if value.is_some() && !moment && !(of_dates_too && kind == Some(&AttributeType::Date)) {
                let types = if of_dates_too { "date or datetime" } else { "datetime" };
                let expected = format!("is only for a value that is exactly one attribute of type {types}");
                problems.add(&node.pointer, format!("{expected}; within a text, write {{{{ … | datetime }}}}"));
                return None;
            }
            Some(node)
        };
        Dates {
            date: member("date_style", true, problems).and_then(|n| n.parsed(problems, DateStyle::parse)),
            time: member("time_style", false, problems).and_then(|n| n.parsed(problems, DateStyle::parse)),
            ignores_time_zone: member("ignores_time_zone", false, problems).and_then(|n| n.boolean(problems))
                == Some(true),
        }
    }

    fn barcode(&self, node: &Node<'_>, problems: &mut Problems) -> Option<Barcode> {
        let mut o = node.object(problems)?;
        let format = o.required("format", problems).and_then(|n| n.parsed(problems, BarcodeFormat::parse));
        let value = o.required("value", problems).and_then(|n| {
            n.filled(problems, 1024, Lines::One)?;
            self.expression(&n, 1024, Lines::One, problems)
        });
        let text = o.get("text").and_then(|n| self.expression(&n, 256, Lines::One, problems));
        o.finish(problems);
        Some(Barcode { format: format?, value: value?, text })
    }

    fn tiers(&self, node: &Node<'_>, problems: &mut Problems) -> Option<Tiers> {
        let mut o = node.object(problems)?;
        let attribute = o.required("attribute", problems).and_then(|n| {
            let name = n.parsed(problems, AttributeName::parse)?;
            let declared = self.attributes.iter().find(|a| a.name == name);
            if declared.is_none() {
                problems.add(n.pointer, "is not an attribute of the template");
            }
            declared
        });
        let mut looks = BTreeMap::new();
        for (tier, node) in o.get("looks").and_then(|n| n.members(problems, 50)).unwrap_or_default() {
            if let Some(Attribute { kind: AttributeType::Choice { choices }, .. }) = attribute
                && !choices.iter().any(|choice| choice == tier)
            {
                problems.add(&node.pointer, format!("is none of the choices {}", some_of(choices)));
            }
            let Some(mut look) = node.object(problems) else { continue };
            let colours = look.get("colors").map_or(Some(Colours::default()), |n| read_colours(&n, problems));
            look.finish(problems);
            looks.extend(colours.map(|colours| (tier.to_owned(), colours)));
        }
        o.finish(problems);
        Some(Tiers { attribute: attribute?.name.clone(), looks })
    }

    fn images(&self, node: &Node<'_>, problems: &mut Problems) -> Vec<(&'static str, Text)> {
        let mut images = Vec::new();
        for (role, node) in node.members(problems, ROLES.len()).unwrap_or_default() {
            let Some(role) = ROLES.into_iter().find(|known| *known == role) else {
                problems.add(node.pointer, format!("is not a role of pictures; expected one of {}", ROLES.join(", ")));
                continue;
            };
            let text = self.expression(&node, 512, Lines::One, problems);
            images.extend(text.map(|text| (role, text)));
        }
        images
    }

    fn location(&self, i: usize, node: &Node<'_>, problems: &mut Problems) -> Option<Location> {
        let mut o = node.object(problems)?;
        let latitude = o.required("latitude", problems).and_then(|n| n.number(problems, -90.0, 90.0));
        let longitude = o.required("longitude", problems).and_then(|n| n.number(problems, -180.0, 180.0));
        let altitude = o.get("altitude").and_then(|n| n.number(problems, -1000.0, 100_000.0));
        let text =
            o.get("text").and_then(|n| self.phrase(&format!("locations.{i}.text"), &n, 256, Lines::One, problems));
        o.finish(problems);
        Some(Location { latitude: latitude?, longitude: longitude?, altitude, text })
    }

    fn apple(&self, node: &Node<'_>, problems: &mut Problems) -> Option<(&'static Style, Tree)> {
        let mut o = node.object(problems)?;
        let style = o.required("style", problems).and_then(|n| {
            n.parsed(problems, |text| {
                styles::style(text).ok_or_else(|| format!("is not a style; expected one of {}", styles::names()))
            })
        });
        let mut tree = Tree::Members(Vec::new());
        if let Some(pass) = o.get("pass") {
            for (name, member) in pass.members(problems, 200).unwrap_or_default() {
                if PROTECTED.contains(&name) {
                    problems.add(member.pointer, "can't be overridden: it belongs to the pass's identity");
                }
            }
            tree = self.tree(&pass, 0, problems);
        }
        o.finish(problems);
        Some((style?, tree))
    }

    fn tree(&self, node: &Node<'_>, depth: usize, problems: &mut Problems) -> Tree {
        if depth > 16 {
            problems.add(&node.pointer, "lies deeper than 16 levels");
            return Tree::Leaf(Value::Null);
        }
        match node.value {
            Value::String(_) => match self.expression(node, 4096, Lines::Many, problems) {
                Some(text) if !text.is_fixed() => Tree::Text(node.pointer.clone(), text),
                _ => Tree::Leaf(node.value.clone()),
            },
            Value::Array(_) => {
                let items = node.array(problems, 500).unwrap_or_default();
                Tree::List(items.iter().map(|item| self.tree(item, depth + 1, problems)).collect())
            }
            Value::Object(_) => {
                let members = node.members(problems, 200).unwrap_or_default();
                if let Some((name, _)) = members.iter().find(|(name, _)| name.chars().count() > 128) {
                    let length = name.chars().count();
                    problems.add(
                        &node.pointer,
                        format!("has a member with a name of {length} characters; expected at most 128"),
                    );
                    return Tree::Leaf(Value::Null);
                }
                Tree::Members(
                    members.iter().map(|(name, n)| ((*name).to_owned(), self.tree(n, depth + 1, problems))).collect(),
                )
            }
            other => Tree::Leaf(other.clone()),
        }
    }
}

/// Reads the fields whose change messages come first; `fields` is absent when the fields can't be read.
fn read_message_order(
    nodes: &[Node<'_>],
    fields: Option<&[(Group, Vec<Field>)]>,
    problems: &mut Problems,
) -> Vec<FieldKey> {
    let mut order: Vec<FieldKey> = Vec::new();
    for node in nodes {
        let Some(key) = node.parsed(problems, FieldKey::parse) else { continue };
        let all = fields.map(|fields| fields.iter().flat_map(|(_, fields)| fields));
        let found = all.map(|mut all| all.find(|field| field.key == key));
        if order.contains(&key) {
            problems.add(&node.pointer, "stands twice");
        } else if matches!(found, Some(None)) {
            problems.add(&node.pointer, "is not the key of a field");
        } else if found.flatten().is_some_and(|field| field.change_message.is_none()) {
            problems.add(&node.pointer, "is a field without change_message");
        }
        order.push(key);
    }
    order
}

fn read_colours(node: &Node<'_>, problems: &mut Problems) -> Option<Colours> {
    let mut o = node.object(problems)?;
    let mut colour = |name| o.get(name).and_then(|n| n.parsed(problems, Colour::parse));
    let colours =
        Colours { background: colour("background"), foreground: colour("foreground"), label: colour("label") };
    o.finish(problems);
    Some(colours)
}

/// Merges `patch` into `target` as RFC 7396 says: objects member by member, null removes, everything else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(map) = target {
        for (name, value) in patch {
            if value.is_null() {
                map.shift_remove(&name);
            } else {
                merge(map.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "name": "Bakery points", "organization": "Kuzina", "kind": "points", "languages": ["en", "lv"],
            "colors": {"background": "#1B4D3E"},
            "attributes": [
                {"name": "points", "type": "integer", "default": 0},
                {"name": "tier", "type": "choice", "choices": ["basic", "gold"], "default": "basic"}],
            "fields": {
                "header": [{"key": "points", "label": "Points", "value": "{{ points }}", "change_message": "Now %@"}],
                "secondary": [{"key": "tier", "label": "Status", "value": "{{ tier }}", "change_message": "Status %@"}]},
            "tiers": {"attribute": "tier", "looks": {"gold": {"colors": {"background": "#8A6D1D"}}}},
            "strings": {"lv": {"Points": "Punkti"}},
            "apple": {"style": "storeCard", "pass": {"userInfo": {"p": "{{ points }}"}}}
        })
    }

    fn pointers(document: &Value) -> Vec<String> {
        Template::parse(document).expect_err("a wrong document").into_vec().into_iter().map(|p| p.pointer).collect()
    }

    #[test]
    fn the_tier_is_announced_before_the_balance() {
        let template = Template::parse(&document()).expect("valid");
        let keys: Vec<_> = template.messaged_fields().iter().map(|f| f.key.as_str()).collect();
        assert_eq!(keys, ["tier", "points"]);
    }

    #[test]
    fn a_phrase_knows_its_translations() {
        let template = Template::parse(&document()).expect("valid");
        let (_, field) = template.all_fields().next().expect("a field");
        let label = field.label.as_ref().expect("a label");
        assert_eq!(label.fixed.as_deref(), Some(["Points".to_owned(), "Punkti".to_owned()].as_slice()));
        assert!(label.varied && !field.value.varied);
    }

    #[test]
    fn all_faults_of_a_document_are_named_at_once() {
        let mut wrong = document();
        wrong["colors"]["background"] = json!("green");
        wrong["fields"]["header"][0]["value"] = json!("{{ pionts }}");
        wrong["tiers"]["looks"]["platinum"] = json!({});
        wrong["strings"]["ru"] = json!({});
        wrong["apple"]["pass"]["serialNumber"] = json!("x");
        wrong["colour"] = json!(1);
        assert_eq!(
            pointers(&wrong),
            [
                "/strings/ru",
                "/colors/background",
                "/fields/header/0/value",
                "/tiers/looks/platinum",
                "/apple/pass/serialNumber",
                "/colour"
            ]
        );
        assert_eq!(pointers(&json!({})), ["/name", "/organization", "/fields", "/apple"]);
        assert_eq!(pointers(&json!([])), [""]);
    }

    #[test]
    fn identity_can_not_be_overridden_nor_taken_away() {
        let mut wrong = document();
        wrong["apple"]["pass"] = json!({
            "formatVersion": 2, "serialNumber": null, "passTypeIdentifier": {"a": 1}, "teamIdentifier": "{{ points }}",
            "authenticationToken": [], "webServiceURL": "https://x.example", "voided": false, "userInfo": {"serialNumber": "fine"}});
        wrong["google"] =
            json!({"class": {"id": null}, "object": {"id": "x", "classId": "y", "barcode": {"value": "{{ nope }}"}}});
        assert_eq!(
            pointers(&wrong),
            [
                "/apple/pass/formatVersion",
                "/apple/pass/serialNumber",
                "/apple/pass/passTypeIdentifier",
                "/apple/pass/teamIdentifier",
                "/apple/pass/authenticationToken",
                "/apple/pass/webServiceURL",
                "/apple/pass/voided",
                "/google/class/id",
                "/google/object/id",
                "/google/object/classId",
                "/google/object/barcode/value"
            ]
        );
    }

    #[test]
    fn pictures_are_chosen_by_texts_for_known_roles() {
        let mut document = document();
        document["images"] = json!({"strip": "stamps-{{ points }}"});
        assert_eq!(Template::parse(&document).expect("valid").images.len(), 1);
        document["images"] = json!({"banner": "x", "logo": "{{ nope }}"});
        assert_eq!(pointers(&document), ["/images/banner", "/images/logo"]);
    }

    #[test]
    fn a_zone_and_how_dates_are_written_are_checked() {
        let mut document = document();
        document["time_zone"] = json!("Asia/Dubai");
        let slots = json!([{"name": "slot", "type": "datetime"}, {"name": "until", "type": "date"}]);
        document["attributes"].as_array_mut().expect("a list").extend(slots.as_array().expect("a list").clone());
        document["fields"]["auxiliary"] = json!([
            {"key": "slot", "value": "{{ slot }}", "date_style": "none", "time_style": "short", "ignores_time_zone": true},
            {"key": "until", "value": "{{ until }}", "date_style": "long"}]);
        let template = Template::parse(&document).expect("valid");
        assert_eq!(template.zone().as_str(), "Asia/Dubai");
        let riga = || Zone::parse("Europe/Riga").expect("a zone");
        assert_eq!(template.in_zone_of_workspace(riga()).zone().as_str(), "Asia/Dubai", "its own wins");
        let without = Template::parse(&super::tests::document()).expect("valid");
        assert_eq!(without.zone().as_str(), "UTC");
        assert_eq!(without.in_zone_of_workspace(riga()).zone().as_str(), "Europe/Riga");

        document["time_zone"] = json!("Dubai");
        document["fields"]["auxiliary"] = json!([
            {"key": "slot", "value": "At {{ slot }}", "time_style": "short"},
            {"key": "until", "value": "{{ until }}", "time_style": "short", "ignores_time_zone": true},
            {"key": "soon", "value": "{{ slot }}", "date_style": "tiny"}]);
        let at = |place: &str| format!("/fields/auxiliary/{place}");
        assert_eq!(
            pointers(&document),
            [
                "/time_zone".to_owned(),
                at("0/time_style"),
                at("1/time_style"),
                at("1/ignores_time_zone"),
                at("2/date_style")
            ]
        );
    }

    #[test]
    fn merging_follows_rfc_7396() {
        let mut target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut target, json!({"a": {"b": null, "e": {"f": null, "g": 1}}, "d": [2]}));
        assert_eq!(target, json!({"a": {"c": 2, "e": {"g": 1}}, "d": [2]}));
    }
}
