//! Makes a template document from a finished pass, or from one of Apple's `.pkpasstemplate` bundles, which have the
//! same files.
//!
//! A pass doesn't say which of its values belong to one member. So each value on the front becomes an attribute, named
//! after the field's key, with the value as its default; the code becomes the card's id; and invisible data of one
//! member (`userInfo`, `semantics`) is left out. Texts come with the translations that the pass has for them.
//!
//! Source of the bundle's form: Apple, "PassKit Package Format Reference" and Pass Designer's files, read 2026-11.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::domain::cards::message::MESSAGE_KEY;
use crate::domain::ids::AttributeName;
use crate::domain::input::{Lines, Problems, forbidden_character, with_line_feeds};
use crate::domain::templates::picture::ROLES;
use crate::domain::templates::styles::{STYLES, Style, names};
use crate::domain::templates::{DateStyle, Group, PROTECTED};
use crate::domain::values::attribute::MAX_TEXT;
use crate::domain::values::colour::Colour;
use crate::domain::values::locale::Language;
use crate::domain::values::money::Currency;
use crate::domain::values::zone::Zone;
use crate::wallets::apple::package::pass_json::group_key;
use crate::wallets::apple::rules::{Files, parse_pass, strings, values};

/// The path of the pass itself in its archive.
pub const PASS: &str = "pass.json";

/// The design of a pass, from which new cards can be made.
#[derive(Debug)]
pub struct Design {
    /// The template document.
    pub document: Value,
    /// The design's pictures, each at the largest scale there is.
    pub pictures: Vec<DesignPicture>,
}

/// One of a design's pictures.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct DesignPicture {
    pub role: &'static str,
    pub language: Option<Language>,
    /// The picture's path in the archive.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// The most fields of a group, and the most languages of a template.
const MOST_FIELDS: usize = 50;
const MOST_LANGUAGES: usize = 50;

/// Members that are written anew from the template document, or that belong to one card.
const TAKEN: [&str; 11] = [
    "expirationDate",
    "organizationName",
    "description",
    "logoText",
    "backgroundColor",
    "foregroundColor",
    "labelColor",
    "barcode",
    "barcodes",
    "locations",
    "userInfo",
];

/// Makes a template document from a pass's files.
///
/// # Errors
/// When `pass.json` can't be read, or has none of the styles that templates have.
pub fn design_of_pass(files: &Files) -> Result<Design, Problems> {
    let at = format!("/{PASS}");
    let content = files.get(PASS).ok_or_else(|| Problems::one(&at, "is absent; it is the pass itself"))?;
    let (pass, issues) = parse_pass(content);
    let Some(Value::Object(pass)) = pass else {
        let found = issues.into_iter().next().map_or_else(|| "is not a JSON object".to_owned(), |issue| issue.detail);
        return Err(Problems::one(at, found));
    };
    let style = STYLES.into_iter().find(|style| pass.get(style.name).is_some_and(Value::is_object));
    let style = style.ok_or_else(|| Problems::one(at, format!("has no style; expected one of {}", names())))?;
    let mut writer = Writer::new(Tables::of(files));
    let document = writer.document(&pass, style);
    Ok(Design { document, pictures: pictures(files) })
}

/// The texts of a pass in its languages.
struct Tables {
    /// The languages that templates can have; the first one is the language of the new document.
    languages: Vec<Language>,
    texts: HashMap<Language, HashMap<String, String>>,
}

impl Tables {
    fn of(files: &Files) -> Self {
        let mut texts = HashMap::new();
        let mut languages = Vec::new();
        for (path, content) in files {
            let Some(folder) = path.strip_suffix(".lproj/pass.strings") else { continue };
            let Ok(language) = Language::parse(&folder.replace('_', "-")) else { continue };
            let entries = strings::decode(content).and_then(|text| strings::parse(&text).ok()).unwrap_or_default();
            texts.insert(language.clone(), entries.into_iter().collect());
            languages.push(language);
        }
        // Phones without any of the pass's languages show English, so that is probably what its author wrote first.
        languages.sort_by_key(|language| (*language != Language::english(), language.as_str().to_owned()));
        languages.truncate(MOST_LANGUAGES);
        if languages.is_empty() {
            languages.push(Language::english());
        }
        Self { languages, texts }
    }

    fn text(&self, language: &Language, text: &str) -> String {
        self.texts.get(language).and_then(|table| table.get(text)).map_or_else(|| text.to_owned(), String::clone)
    }
}

struct Writer {
    tables: Tables,
    attributes: Vec<Value>,
    names: Vec<String>,
    keys: Vec<String>,
    /// The offsets from UTC of clock times that phones show as written.
    zones: Vec<String>,
    strings: BTreeMap<Language, Map<String, Value>>,
}

impl Writer {
    fn new(tables: Tables) -> Self {
        let (attributes, names, keys, zones) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tables, attributes, names, keys, zones, strings: BTreeMap::new() }
    }

    fn document(&mut self, pass: &Map<String, Value>, style: &'static Style) -> Value {
        let given = |name: &str| pass.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let organization = given("organizationName").or_else(|| given("logoText")).unwrap_or("My organization");
        let description = given("description").unwrap_or(organization);
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        put("name", self.plain(description, 128));
        put("organization", self.phrase(organization, 128, Lines::One));
        put("description", self.phrase(description, 256, Lines::One));
        put("kind", json!(kind(style)));
        put("languages", json!(self.tables.languages));
        let colours = [("background", "backgroundColor"), ("foreground", "foregroundColor"), ("label", "labelColor")];
        let colours = colours.into_iter().filter_map(|(name, member)| {
            let colour = Colour::parse(pass.get(member)?.as_str()?).ok()?;
            Some((name.to_owned(), json!(colour.to_hex())))
        });
        put("colors", Value::Object(colours.collect()));
        if let Some(text) = given("logoText") {
            put("logo_text", self.phrase(text, 64, Lines::One));
        }
        let dictionary = pass.get(style.name).and_then(Value::as_object).cloned().unwrap_or_default();
        let fields: Map<String, Value> = Group::ALL
            .into_iter()
            .map(|group| {
                let fields = dictionary.get(group_key(group)).and_then(Value::as_array);
                let fields = fields.into_iter().flatten().take(MOST_FIELDS);
                let fields = fields.filter_map(|field| self.field(group, field.as_object()?));
                (group.name().to_owned(), Value::Array(fields.collect()))
            })
            .collect();
        if let Some(zone) = self.zones.first() {
            put("time_zone", json!(zone));
        }
        put("attributes", Value::Array(std::mem::take(&mut self.attributes)));
        put("fields", Value::Object(fields));
        if let Some(barcode) = barcode(pass) {
            put("barcode", barcode);
        }
        let locations = pass.get("locations").and_then(Value::as_array).into_iter().flatten().take(10);
        let locations: Vec<Value> = locations.filter_map(|place| self.location(place.as_object()?)).collect();
        if !locations.is_empty() {
            put("locations", Value::Array(locations));
        }
        put("apple", json!({"style": style.name, "pass": self.rest(pass, style, &dictionary)}));
        let strings = std::mem::take(&mut self.strings).into_iter();
        put("strings", Value::Object(strings.map(|(language, table)| (language.to_string(), table.into())).collect()));
        Value::Object(document)
    }

    fn field(&mut self, group: Group, field: &Map<String, Value>) -> Option<Value> {
        let is_blank = |member: &str| field.get(member).is_none_or(|value| value == "");
        if field.get("key").is_some_and(|key| key == MESSAGE_KEY) {
            return None; // the message to the owner in one of our own passes
        }
        if group == Group::Back && ["value", "attributedValue", "label", "changeMessage"].into_iter().all(is_blank) {
            return None; // our own passes have empty fields for those that may appear
        }
        let key = field.get("key").and_then(Value::as_str).unwrap_or("field");
        let key = unused(&spelt(key, |c| c.is_ascii_alphanumeric() || c == '-'), &mut self.keys);
        let raw = field.get("value").or_else(|| field.get("attributedValue"))?;
        let mut written = json!({"key": key});
        let label = field.get("label").and_then(Value::as_str).filter(|label| !label.is_empty());
        if let Some(label) = label {
            written["label"] = self.phrase(label, 128, Lines::One);
        }
        written["value"] = match group {
            Group::Back => self.phrase(&text_of(raw)?, 4096, Lines::Many),
            _ => {
                let (name, dates) = self.attribute(&key, raw, field)?;
                if let Some(map) = written.as_object_mut() {
                    map.extend(dates);
                }
                json!(format!("{{{{ {name} }}}}"))
            }
        };
        if let Some(message) = field.get("changeMessage").and_then(Value::as_str) {
            written["change_message"] = self.phrase(message, 256, Lines::One);
        }
        if let (Group::Back, Some(link)) = (group, field.get("attributedValue").and_then(Value::as_str).and_then(link))
        {
            written["link"] = self.plain(link, 2048);
        }
        Some(written)
    }

    /// Declares an attribute of the value's kind. Returns its name, and its date styles where they aren't the default.
    fn attribute(
        &mut self,
        key: &str,
        raw: &Value,
        field: &Map<String, Value>,
    ) -> Option<(String, Map<String, Value>)> {
        let name = spelt(&key.to_ascii_lowercase(), |c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let name = if AttributeName::parse(&name).is_ok() { name } else { format!("value_{name}") };
        let has =
            |member: &str| field.get(member).and_then(Value::as_str).is_some_and(|style| style != "PKDateStyleNone");
        let currency = field.get("currencyCode").and_then(Value::as_str).and_then(|code| Currency::parse(code).ok());
        let mut dates = Map::new();
        let mut declared = match raw {
            Value::Number(amount) if currency.is_some() => {
                json!({"type": "money", "currency": currency?.as_str(), "default": amount})
            }
            Value::Number(number) if number.is_i64() => json!({"type": "integer", "default": number}),
            Value::Number(number) => json!({"type": "decimal", "default": number}),
            Value::String(text) if has("timeStyle") && values::date(text).is_some() => {
                for (member, style, custom) in
                    [("date_style", "dateStyle", "medium"), ("time_style", "timeStyle", "short")]
                {
                    let word = date_style(field.get(style)).unwrap_or("none");
                    if word != custom {
                        dates.insert(member.to_owned(), json!(word));
                    }
                }
                if field.get("ignoresTimeZone") == Some(&Value::Bool(true)) {
                    dates.insert("ignores_time_zone".to_owned(), json!(true));
                    self.zones.extend(offset(text));
                }
                json!({"type": "datetime", "default": values::date(text)?.to_rfc3339_seconds()})
            }
            Value::String(text) if has("dateStyle") && values::date(text).is_some() => {
                if let Some(word) = date_style(field.get("dateStyle")).filter(|word| *word != "medium") {
                    dates.insert("date_style".to_owned(), json!(word));
                }
                json!({"type": "date", "default": text.get(..10)?})
            }
            Value::String(text) => {
                let text = clean(&self.tables.text(self.tables.languages.first()?, text), MAX_TEXT, Lines::Many);
                let longest = if text.chars().count() > 1024 { MAX_TEXT } else { 1024 };
                json!({"type": "text", "max_length": longest, "default": text})
            }
            _ => return None,
        };
        let name = unused(&name, &mut self.names);
        declared["name"] = json!(name);
        self.attributes.push(declared);
        Some((name, dates))
    }

    fn location(&mut self, place: &Map<String, Value>) -> Option<Value> {
        let mut written = json!({"latitude": place.get("latitude")?, "longitude": place.get("longitude")?});
        if let Some(altitude) = place.get("altitude").filter(|altitude| altitude.is_number()) {
            written["altitude"] = altitude.clone();
        }
        if let Some(text) = place.get("relevantText").and_then(Value::as_str) {
            written["text"] = self.phrase(text, 256, Lines::One);
        }
        Some(written)
    }

    /// Returns the members that a template document has no equivalent for.
    fn rest(&self, pass: &Map<String, Value>, style: &Style, dictionary: &Map<String, Value>) -> Value {
        let left = |name: &str| {
            TAKEN.contains(&name) || PROTECTED.contains(&name) || name == style.name || name == "semantics"
        };
        let mut rest: Map<String, Value> = pass
            .iter()
            .filter(|(name, _)| !left(name))
            .map(|(name, value)| (name.clone(), self.verbatim(value)))
            .collect();
        // The message that an NFC reader gets is the member's own.
        if let Some(nfc) = rest.get_mut("nfc").and_then(Value::as_object_mut) {
            nfc.insert("message".to_owned(), json!("{{ card.id }}"));
        }
        let groups = Group::ALL.map(group_key);
        let own: Map<String, Value> = dictionary
            .iter()
            .filter(|(name, _)| !groups.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), self.verbatim(value)))
            .collect();
        if !own.is_empty() {
            rest.insert(style.name.to_owned(), Value::Object(own));
        }
        Value::Object(rest)
    }

    /// Returns a value with its texts in the document's own language, without translations.
    fn verbatim(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let text = self.tables.languages.first().map(|language| self.tables.text(language, text));
                json!(without_expressions(&text.unwrap_or_default()))
            }
            Value::Array(items) => items.iter().map(|item| self.verbatim(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.verbatim(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn plain(&self, text: &str, most: usize) -> Value {
        let first = self.tables.languages.first().map(|language| self.tables.text(language, text));
        json!(without_expressions(&clean(&first.unwrap_or_default(), most, Lines::One)))
    }

    /// Returns a text in the document's own language and records its translations.
    fn phrase(&mut self, text: &str, most: usize, lines: Lines) -> Value {
        let mut written = self
            .tables
            .languages
            .iter()
            .map(|language| without_expressions(&clean(&self.tables.text(language, text), most, lines)));
        let own = written.next().unwrap_or_default();
        for (language, translation) in self.tables.languages.iter().skip(1).zip(written) {
            if translation != own {
                self.strings.entry(language.clone()).or_default().insert(own.clone(), json!(translation));
            }
        }
        json!(own)
    }
}

fn kind(style: &Style) -> &'static str {
    match style.name {
        "storeCard" => "points",
        "coupon" => "coupon",
        "eventTicket" => "event",
        _ => "generic",
    }
}

fn barcode(pass: &Map<String, Value>) -> Option<Value> {
    let listed = pass.get("barcodes").and_then(Value::as_array).and_then(|all| all.first());
    let found = listed.or_else(|| pass.get("barcode"))?;
    let format = match found.get("format")?.as_str()? {
        "PKBarcodeFormatQR" => "qr",
        "PKBarcodeFormatPDF417" => "pdf417",
        "PKBarcodeFormatAztec" => "aztec",
        "PKBarcodeFormatCode128" => "code128",
        _ => return None,
    };
    let mut barcode = json!({"format": format, "value": "{{ card.id }}"});
    if found.get("altText").is_some() {
        barcode["text"] = json!("{{ card.id }}");
    }
    Some(barcode)
}

/// Returns the largest scale of each picture that templates know.
fn pictures(files: &Files) -> Vec<DesignPicture> {
    let mut largest: BTreeMap<(Option<&str>, &'static str), (u32, &String)> = BTreeMap::new();
    for path in files.keys() {
        let (folder, name) = path.rsplit_once('/').map_or((None, path.as_str()), |(folder, name)| (Some(folder), name));
        let folder = match folder {
            Some(folder) => match folder.strip_suffix(".lproj") {
                Some(language) => Some(language),
                None => continue,
            },
            None => None,
        };
        let Some(stem) = name.strip_suffix(".png") else { continue };
        let (role, scale) = match stem.rsplit_once('@') {
            Some((role, "2x")) => (role, 2),
            Some((role, "3x")) => (role, 3),
            _ => (stem, 1),
        };
        let Some(role) = ROLES.into_iter().find(|known| *known == role) else { continue };
        let place = largest.entry((folder, role)).or_insert((scale, path));
        if place.0 < scale {
            *place = (scale, path);
        }
    }
    let pictures = largest.into_iter().filter_map(|((folder, role), (_, path))| {
        let language = match folder {
            Some(tag) => Some(Language::parse(&tag.replace('_', "-")).ok()?),
            None => None,
        };
        Some(DesignPicture { role, language, path: path.clone(), bytes: files.get(path)?.clone() })
    });
    pictures.collect()
}

/// Returns a foreign key in our spelling: characters that aren't allowed become `_`.
fn spelt(text: &str, allowed: fn(char) -> bool) -> String {
    text.chars().take(60).map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// Returns that name, or one with a number when it is taken, and marks it as taken.
fn unused(name: &str, taken: &mut Vec<String>) -> String {
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    taken.push(free.clone());
    free
}

/// Returns our name for a date style.
fn date_style(style: Option<&Value>) -> Option<&'static str> {
    let style = style?.as_str()?.strip_prefix("PKDateStyle")?;
    DateStyle::ALL.iter().find(|(word, _)| word.eq_ignore_ascii_case(style)).map(|(word, _)| *word)
}

/// Returns the offset from UTC at the end of a date, as a zone.
fn offset(date: &str) -> Option<String> {
    if date.ends_with(['Z', 'z']) {
        return Some(Zone::utc().to_string());
    }
    let offset = date.get(date.len().checked_sub(6)?..)?;
    Some(Zone::parse(offset).ok()?.to_string())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the target of the first link in a field's markup.
fn link(markup: &str) -> Option<&str> {
    let (_, rest) = markup.split_once("href=")?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (link, _) = rest.get(1..)?.split_once(quote)?;
    ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| link.starts_with(scheme)).then_some(link)
}

/// Returns a text within our limits: without forbidden characters, and on one line where required.
fn clean(text: &str, most: usize, lines: Lines) -> String {
    let one_line = |c: char| if lines == Lines::One && c.is_control() { ' ' } else { c };
    let fit = |c: &char| forbidden_character(c.encode_utf8(&mut [0; 4]), lines).is_none();
    with_line_feeds(text).chars().map(one_line).filter(fit).take(most).collect()
}

/// Returns a text in which nothing is evaluated as an expression.
fn without_expressions(text: &str) -> String {
    text.replace("{{", "{{ '{{' }}")
}
