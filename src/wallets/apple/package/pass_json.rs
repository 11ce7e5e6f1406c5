//! Writes the `pass.json` of one card.
//!
//! Key names and types: Apple, "Pass" and "PassFieldContent", read 2026-11. Phones refuse a pass with a value of the
//! wrong JSON type, so numbers are numbers, and nothing is ever null.

use serde_json::{Map, Value, json};

use crate::domain::cards::State;
use crate::domain::cards::message::MESSAGE_KEY;
use crate::domain::ids::{AuthToken, PassTypeId, SerialNumber};
use crate::domain::render::{FieldValue, Localised, RenderedBarcode, RenderedCard, RenderedField, RenderedMessage};
use crate::domain::templates::{BarcodeFormat, DateStyle, Group, Template, merge};
use crate::domain::values::locale::Language;
use crate::wallets::apple::package::strings::{self, PREFIX, write_entry};

/// The identity of a pass and how its phone asks for updates; never from a template.
#[derive(Debug)]
pub struct PassIdentity<'a> {
    /// The pass's serial number.
    pub serial: &'a SerialNumber,
    /// The certificate's pass type.
    pub pass_type: &'a PassTypeId,
    /// The certificate's team.
    pub team: &'a str,
    /// The token by which the phone proves that it holds the pass.
    pub auth_token: &'a AuthToken,
    /// The base of Apple's web service, without `/v1`.
    pub web_service_url: &'a str,
}

/// A written pass.json and the string entries that hold this card's own values.
#[derive(Debug, PartialEq)]
pub struct PassJson {
    /// The document.
    pub json: Value,
    /// Entries for `pass.strings`, in the order of the template's languages; empty when no phrase needs them.
    pub own_entries: Vec<String>,
}

struct Writer<'a> {
    own_entries: Vec<String>,
    languages: &'a [Language],
    /// The index of the one language in which texts are written out, instead of as keys of `pass.strings`.
    written_out: Option<usize>,
}

/// Returns a card's pass.json and string entries.
pub fn pass_json(card: &RenderedCard<'_>, identity: &PassIdentity<'_>) -> PassJson {
    write(card, identity, None)
}

/// Returns the pass.json with its texts looked up, as a phone in the template's language at that index shows it. For
/// previews.
pub fn pass_json_in_language(card: &RenderedCard<'_>, identity: &PassIdentity<'_>, place: usize) -> Value {
    write(card, identity, Some(place)).json
}

fn write(card: &RenderedCard<'_>, identity: &PassIdentity<'_>, written_out: Option<usize>) -> PassJson {
    let mut w = Writer { own_entries: Vec::new(), languages: &card.template.languages, written_out };
    let mut pass = Map::new();
    let mut put = |key: &str, value: Value| {
        pass.insert(key.to_owned(), value);
    };
    put("formatVersion", json!(1));
    put("passTypeIdentifier", json!(identity.pass_type));
    put("serialNumber", json!(identity.serial));
    put("teamIdentifier", json!(identity.team));
    put("authenticationToken", json!(identity.auth_token.as_str()));
    put("webServiceURL", json!(identity.web_service_url));
    put("organizationName", json!(w.text(&card.organization)));
    put("description", json!(w.text(&card.description)));
    if let Some(text) = &card.logo_text {
        put("logoText", json!(w.text(text)));
    }
    let colours = card.colours;
    for (key, colour) in [
        ("backgroundColor", colours.background),
        ("foregroundColor", colours.foreground),
        ("labelColor", colours.label),
    ] {
        if let Some(colour) = colour {
            put(key, json!(colour.to_rgb()));
        }
    }
    if let Some(barcode) = &card.barcode {
        let written = write_barcode(barcode);
        // Old readers know only the single key, and no Code 128.
        if barcode.format != BarcodeFormat::Code128 {
            put("barcode", written.clone());
        }
        put("barcodes", json!([written]));
    }
    if !card.locations.is_empty() {
        let locations = card.locations.iter().map(|location| {
            let mut o = Map::new();
            o.insert("latitude".to_owned(), json!(location.latitude));
            o.insert("longitude".to_owned(), json!(location.longitude));
            if let Some(altitude) = location.altitude {
                o.insert("altitude".to_owned(), json!(altitude));
            }
            if let Some(text) = &location.text {
                o.insert("relevantText".to_owned(), json!(w.text(text)));
            }
            Value::Object(o)
        });
        let locations = locations.collect();
        put("locations", Value::Array(locations));
    }
    if card.state == State::Voided {
        put("voided", json!(true));
    }
    let mut style = Map::new();
    for (group, fields) in &card.fields {
        let key = group_key(*group);
        let mut fields: Vec<Value> = fields.iter().map(|field| w.field(card.template, *group, field)).collect();
        // Phones announce a field only if the previous version of the pass had its key. A field that may appear is
        // therefore kept at the end of the back, where a field without label and value takes next to no space.
        if *group == Group::Back {
            fields.extend(card.awaited.iter().map(|key| json!({"key": key, "value": ""})));
            fields.push(w.message(card.message.as_ref()));
        }
        style.insert(key.to_owned(), Value::Array(fields));
    }
    put(card.template.style.name, Value::Object(style));
    let mut json = Value::Object(pass);
    merge(&mut json, card.apple_pass.clone());
    // A template may set an end for all its cards; a card's own end wins.
    if let (Some(end), Some(map)) = (card.ends_at, json.as_object_mut()) {
        map.insert("expirationDate".to_owned(), json!(end.to_rfc3339_seconds()));
    }
    PassJson { json, own_entries: w.own_entries }
}

/// Returns the key of a group of fields in a style dictionary.
pub fn group_key(group: Group) -> &'static str {
    match group {
        Group::Header => "headerFields",
        Group::Primary => "primaryFields",
        Group::Secondary => "secondaryFields",
        Group::Auxiliary => "auxiliaryFields",
        Group::Back => "backFields",
    }
}

impl Writer<'_> {
    /// Returns the text, or the key under which `pass.strings` has it.
    fn text(&mut self, text: &Localised<'_>) -> String {
        if let Some(place) = self.written_out {
            return text.in_language(place).to_owned();
        }
        match text {
            // A value that looks like one of our keys must not be looked up: an invisible character sets it apart.
            Localised::Plain(text) if text.starts_with(PREFIX) => format!("\u{200B}{text}"),
            Localised::Plain(text) => text.clone(),
            Localised::Fixed { key, texts } => format!("{PREFIX}{}", strings::key(key, texts, self.languages)),
            Localised::PerCard { key, texts } => {
                let key = strings::key(key, texts, self.languages);
                self.own_entries.resize(self.languages.len(), String::new());
                for (entries, text) in self.own_entries.iter_mut().zip(texts) {
                    write_entry(entries, &key, text);
                }
                format!("{PREFIX}{key}")
            }
        }
    }

    /// Returns the field of the backend's own text; it exists even before there is one.
    fn message(&mut self, message: Option<&RenderedMessage<'_>>) -> Value {
        let Some(message) = message else { return json!({"key": MESSAGE_KEY, "value": ""}) };
        let (label, value) = (self.text(&message.label), self.text(&message.text));
        let mut field = json!({"key": MESSAGE_KEY, "label": label, "value": value});
        if let (true, Some(field)) = (message.is_live, field.as_object_mut()) {
            field.insert("changeMessage".to_owned(), json!("%@"));
        }
        field
    }

    fn field(&mut self, template: &Template, group: Group, field: &RenderedField<'_>) -> Value {
        let mut o = Map::new();
        let mut put = |key: &str, value: Value| {
            o.insert(key.to_owned(), value);
        };
        put("key", json!(field.key));
        if let Some(label) = &field.label {
            put("label", json!(self.text(label)));
        }
        match &field.value {
            FieldValue::Text(text) => put("value", json!(self.text(text))),
            FieldValue::Integer(n) => {
                put("value", json!(n));
                put("numberStyle", json!("PKNumberStyleDecimal"));
            }
            FieldValue::Decimal(d) => {
                put("value", number(*d));
                put("numberStyle", json!("PKNumberStyleDecimal"));
            }
            FieldValue::Money(amount, currency) => {
                put("value", number(*amount));
                put("currencyCode", json!(currency.as_str()));
            }
            // A calendar day is the same day everywhere: shown in the zone it is written in.
            FieldValue::Date(date) => {
                put("value", json!(format!("{date}T00:00:00Z")));
                put("dateStyle", json!(date_style(field.dates.date.unwrap_or(DateStyle::Medium))));
                put("timeStyle", json!("PKDateStyleNone"));
                put("ignoresTimeZone", json!(true));
            }
            FieldValue::DateTime(t) => {
                let fixed = field.dates.ignores_time_zone;
                // When a phone is to ignore its own time zone, it shows the clock time as written.
                put("value", json!(if fixed { template.zone().to_rfc3339(*t) } else { t.to_rfc3339_seconds() }));
                put("dateStyle", json!(date_style(field.dates.date.unwrap_or(DateStyle::Medium))));
                put("timeStyle", json!(date_style(field.dates.time.unwrap_or(DateStyle::Short))));
                if fixed {
                    put("ignoresTimeZone", json!(true));
                }
            }
        }
        if let (Some(link), Group::Back) = (&field.link, group) {
            let shown = field.written(template, self.written_out.unwrap_or(0));
            put("attributedValue", json!(format!("<a href=\"{}\">{}</a>", escape(link), escape(&shown))));
        }
        if let Some(message) = &field.message {
            put("changeMessage", json!(self.text(message)));
        }
        Value::Object(o)
    }
}

fn date_style(style: DateStyle) -> &'static str {
    match style {
        DateStyle::None => "PKDateStyleNone",
        DateStyle::Short => "PKDateStyleShort",
        DateStyle::Medium => "PKDateStyleMedium",
        DateStyle::Long => "PKDateStyleLong",
        DateStyle::Full => "PKDateStyleFull",
    }
}

/// Returns a JSON number, whole numbers without a decimal point.
fn number(d: crate::domain::values::money::Decimal) -> Value {
    d.to_fixed(0).parse::<i64>().map_or_else(|_| json!(d.to_f64()), |n| json!(n))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn write_barcode(barcode: &RenderedBarcode) -> Value {
    let format = match barcode.format {
        BarcodeFormat::Qr => "PKBarcodeFormatQR",
        BarcodeFormat::Pdf417 => "PKBarcodeFormatPDF417",
        BarcodeFormat::Aztec => "PKBarcodeFormatAztec",
        BarcodeFormat::Code128 => "PKBarcodeFormatCode128",
    };
    // Scanners expect Latin-1 unless the message can't be written in it.
    let latin = barcode.value.chars().all(|c| u32::from(c) < 256);
    let mut o = json!({
        "format": format,
        "message": barcode.value,
        "messageEncoding": if latin { "iso-8859-1" } else { "utf-8" },
    });
    if let (Some(text), Some(map)) = (&barcode.text, o.as_object_mut()) {
        map.insert("altText".to_owned(), json!(text));
    }
    o
}
