//! The message of a change: a field that announces it, a text of the backend's own, or nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::ids::FieldKey;
use crate::domain::input::{Lines, Node, Problems};
use crate::domain::render::Localised;
use crate::domain::templates::Template;
use crate::domain::values::locale::Language;

/// The key of the field that shows the backend's own text. No template field can have it, because their keys never
/// contain `.`.
pub const MESSAGE_KEY: &str = "passloom.message";

/// Returns [`MESSAGE_KEY`] as a field key.
pub fn message_key() -> FieldKey {
    FieldKey::trusted(MESSAGE_KEY.to_owned())
}

/// The longest text of the backend's own, in characters.
const MAX_TEXT: usize = 1024;
/// An invisible character that makes a repeated text differ from the one before: phones announce only what differs.
const AGAIN: char = '\u{200B}';

/// How a change is announced; without a message, the template's order decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The field announces itself, if it changed.
    Field(FieldKey),
    /// The text is announced, and stays on the card's back until the next one.
    Text(MessageText),
    /// Nothing is announced.
    Silent,
}

impl Message {
    /// Reads the member `message` of a change.
    pub fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = node.object(problems)?;
        let (field, text) = (object.get("field"), object.get("text"));
        let silent = object.get("silent");
        object.finish(problems);
        let given = [&field, &text, &silent].into_iter().flatten().count();
        if given != 1 {
            problems.add(&node.pointer, format!("has {given} of field, text and silent; expected one of them"));
            return None;
        }
        if let Some(node) = field {
            return node.parsed(problems, FieldKey::parse).map(Self::Field);
        }
        if let Some(node) = text {
            return MessageText::read(&node, problems).map(Self::Text);
        }
        silent?.boolean(problems)?.then_some(Self::Silent)
    }

    /// Checks against the template that the field exists and can announce itself.
    pub fn check(&self, template: &Template, problems: &mut Problems) {
        let Self::Field(key) = self else { return };
        match template.all_fields().find(|(_, field)| field.key == *key) {
            None => problems.add("/message/field", "is not the key of a field of the template"),
            Some((_, field)) if field.change_message.is_none() => {
                problems.add("/message/field", "is a field without change_message, which phones don't announce");
            }
            Some(_) => {}
        }
    }

    /// Returns the backend's own text, if this is one.
    pub fn text(&self) -> Option<&MessageText> {
        match self {
            Self::Text(text) => Some(text),
            Self::Field(_) | Self::Silent => None,
        }
    }
}

/// A text of the backend's own, the same in all languages or one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageText {
    texts: Texts,
    /// Whether it must differ from the same text before it.
    again: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Texts {
    Same(String),
    /// At least one language.
    ByLanguage(BTreeMap<Language, String>),
}

impl MessageText {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if node.value.is_string() {
            let text = node.filled(problems, MAX_TEXT, Lines::Many)?;
            return Some(Self { texts: Texts::Same(text.to_owned()), again: false });
        }
        if !node.value.is_object() {
            problems.add(&node.pointer, "is neither a string nor an object of texts by language");
            return None;
        }
        let mut texts = BTreeMap::new();
        let members = node.members(problems, 50)?;
        if members.is_empty() {
            problems.add(&node.pointer, "is empty; expected a text in at least one language");
        }
        for (tag, node) in members {
            match Language::parse(tag) {
                Ok(language) => {
                    let text = node.filled(problems, MAX_TEXT, Lines::Many);
                    texts.extend(text.map(|text| (language, text.to_owned())));
                }
                Err(e) => problems.add(node.pointer, e),
            }
        }
        (!texts.is_empty()).then_some(Self { texts: Texts::ByLanguage(texts), again: false })
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn stored(value: &Value) -> Option<Self> {
        let again = value.get("again")?.as_bool()?;
        let text = Self::read(&Node::root(value.get("text")?), &mut Problems::new())?;
        Some(Self { again, ..text })
    }

    /// Returns the JSON in which it is stored.
    pub fn to_json(&self) -> Value {
        let text = match &self.texts {
            Texts::Same(text) => json!(text),
            Texts::ByLanguage(texts) => {
                Value::Object(texts.iter().map(|(language, text)| (language.to_string(), json!(text))).collect())
            }
        };
        json!({"text": text, "again": self.again})
    }

    /// Whether both have the same texts, regardless of `again`.
    pub fn says(&self, other: &Self) -> bool {
        self.texts == other.texts
    }

    /// Returns this text as the successor of `before`: if both say the same, it differs invisibly, so that phones
    /// announce it again.
    pub fn after(&self, before: Option<&Self>) -> Self {
        let again = before.is_some_and(|before| before.says(self) && !before.again);
        Self { texts: self.texts.clone(), again }
    }

    /// Returns the text in each of the template's languages. A language without a text gets that of the first language,
    /// or any.
    pub fn localised<'t>(&self, languages: &[Language]) -> Localised<'t> {
        let end = if self.again { AGAIN.to_string() } else { String::new() };
        match &self.texts {
            Texts::Same(text) => Localised::Plain(format!("{text}{end}")),
            Texts::ByLanguage(texts) => {
                let given: Vec<Language> = texts.keys().cloned().collect();
                let best = |language: &Language| texts.get(given.get(language.best_of(&given)?)?);
                let other = languages.first().and_then(best).or_else(|| texts.values().next());
                let text = |language| best(language).or(other).map_or("", String::as_str);
                localised(
                    "message.value",
                    languages.iter().map(|language| format!("{}{end}", text(language))).collect(),
                )
            }
        }
    }
}

/// Returns the label above the backend's own text, in each of the template's languages.
pub fn label<'t>(languages: &[Language]) -> Localised<'t> {
    let word = |language: &Language| match language.base() {
        "cs" => "Zpráva",
        "da" => "Besked",
        "de" => "Nachricht",
        "es" => "Mensaje",
        "et" => "Sõnum",
        "fi" => "Viesti",
        "it" => "Messaggio",
        "lt" => "Žinutė",
        "lv" => "Ziņa",
        "nb" | "no" => "Melding",
        "nl" => "Bericht",
        "pl" => "Wiadomość",
        "pt" => "Mensagem",
        "ru" => "Сообщение",
        "sv" => "Meddelande",
        "uk" => "Повідомлення",
        _ => "Message",
    };
    localised("message.label", languages.iter().map(|language| word(language).to_owned()).collect())
}

fn localised<'t>(key: &'static str, texts: Vec<String>) -> Localised<'t> {
    match texts.split_first() {
        Some((first, rest)) if rest.iter().any(|text| text != first) => Localised::PerCard { key, texts },
        Some((first, _)) => Localised::Plain(first.clone()),
        None => Localised::Plain(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Message, Vec<String>> {
        let mut problems = Problems::new();
        let message = Message::read(&Node { value: &value, pointer: "/message".to_owned() }, &mut problems);
        problems.or(message).map_err(|p| p.into_vec().into_iter().map(|p| p.pointer).collect())
    }

    fn texts(value: Value, languages: &[&str]) -> Vec<String> {
        let languages: Vec<_> = languages.iter().map(|tag| Language::parse(tag).expect("a tag")).collect();
        let text = read(json!({"text": value})).expect("valid").text().cloned().expect("a text");
        let stored = MessageText::stored(&text.to_json()).expect("it is read back");
        assert_eq!(stored, text);
        let text = stored.localised(&languages);
        (0..languages.len()).map(|place| text.in_language(place).to_owned()).collect()
    }

    #[test]
    fn one_of_field_text_and_silent_is_taken() {
        assert_eq!(read(json!({"field": "news"})), Ok(Message::Field(FieldKey::trusted("news".to_owned()))));
        assert_eq!(read(json!({"silent": true, "text": null})), Ok(Message::Silent));
        for (wrong, at) in [
            (json!({}), "/message"),
            (json!({"field": "news", "silent": true}), "/message"),
            (json!({"text": "a", "silent": false}), "/message"),
            (json!("hello"), "/message"),
            (json!({"text": " "}), "/message/text"),
            (json!({"text": 7}), "/message/text"),
            (json!({"text": {}}), "/message/text"),
            (json!({"text": {"english": "a"}}), "/message/text/english"),
            (json!({"text": {"en": ""}}), "/message/text/en"),
            (json!({"text": "a".repeat(1025)}), "/message/text"),
            (json!({"field": "a b"}), "/message/field"),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err().first().map(String::as_str), Some(at), "{wrong}");
        }
    }

    #[test]
    fn each_language_has_its_text_else_the_firsts_else_any() {
        assert_eq!(texts(json!("Hi"), &["en", "lv"]), ["Hi", "Hi"]);
        assert_eq!(texts(json!({"en": "Hi", "lv": "Sveiki"}), &["en", "lv", "ru"]), ["Hi", "Sveiki", "Hi"]);
        assert_eq!(texts(json!({"lv": "Sveiki"}), &["en", "lv-LV"]), ["Sveiki", "Sveiki"]);
    }

    #[test]
    fn the_same_text_again_differs_unseen() {
        let first = read(json!({"text": "Thanks"})).expect("valid").text().cloned().expect("a text");
        let second = first.after(Some(&first));
        let third = first.after(Some(&second));
        assert!(second.says(&first) && second != first && third == first);
    }
}
