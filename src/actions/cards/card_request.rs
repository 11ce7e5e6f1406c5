//! The backend's requests about a card: the document of a PUT, the merge patch of a PATCH.

use serde_json::{Map, Value};

use crate::domain::cards::message::Message;
use crate::domain::cards::{Card, Content, State};
use crate::domain::ids::TemplateId;
use crate::domain::input::{Node, Object, Problems};
use crate::domain::time::Timestamp;
use crate::domain::values::attribute::{Attribute, check_values, value_pointer};
use crate::domain::values::locale::Language;

/// A document whose shape was checked; its attributes are checked once the template is known.
#[derive(Debug)]
pub struct CardDocument {
    /// The card's template.
    pub template: TemplateId,
    /// The backend's own sequence number of the change.
    pub sequence: Option<i64>,
    /// How the change is announced.
    pub message: Option<Message>,
    locale: Option<Language>,
    state: State,
    expires_at: Option<Timestamp>,
    attributes: Option<Value>,
}

fn state(node: &Node<'_>, problems: &mut Problems) -> Option<State> {
    node.parsed(problems, State::parse)
}

fn time(node: &Node<'_>, problems: &mut Problems) -> Option<Timestamp> {
    node.parsed(problems, |text| {
        Timestamp::parse_rfc3339(text)
            .ok_or("is not a time of RFC 3339 of the years 1 to 9999; expected for example 2026-12-31T18:00:00Z")
    })
}

fn sequence(object: &mut Object<'_>, problems: &mut Problems) -> Option<i64> {
    object.get("sequence").and_then(|n| n.long(problems))
}

fn take_attributes(body: &mut Value) -> Option<Value> {
    body.as_object_mut()?.shift_remove("attributes")
}

fn attributes_node(given: &Value) -> Node<'_> {
    Node { value: given, pointer: "/attributes".to_owned() }
}

impl CardDocument {
    /// Reads the document of a PUT. Omitted members get their defaults.
    pub fn read(mut body: Value, problems: &mut Problems) -> Option<Self> {
        let mut object = Node::root(&body).object(problems)?;
        let template = object.required("template", problems).and_then(|n| n.parsed(problems, TemplateId::parse));
        let locale = object.get("locale").and_then(|n| n.parsed(problems, Language::parse_known));
        if let Some(node) = object.get("attributes") {
            node.members(problems, 200);
        }
        let state = object.get("state").and_then(|n| state(&n, problems)).unwrap_or(State::Active);
        let expires_at = object.get("expires_at").and_then(|n| time(&n, problems));
        let sequence = sequence(&mut object, problems);
        let message = object.get("message").and_then(|n| Message::read(&n, problems));
        object.finish(problems);
        let attributes = take_attributes(&mut body).filter(|given| !given.is_null());
        Some(Self { template: template?, sequence, message, locale, state, expires_at, attributes })
    }

    /// Returns the card's content, its attributes checked against the template's.
    pub fn content(&self, declared: &[Attribute], problems: &mut Problems) -> Content {
        let mut attributes = Map::new();
        if let Some(given) = &self.attributes {
            attributes = check_values(&attributes_node(given), declared, problems);
        }
        Content {
            template: self.template.clone(),
            locale: self.locale.clone(),
            attributes,
            state: self.state,
            expires_at: self.expires_at,
        }
    }
}

/// A merge patch (RFC 7396) whose shape was checked. An outer `None` leaves a member as it is, an inner one removes it.
#[derive(Debug)]
pub struct CardPatch {
    /// The template to change to.
    pub template: Option<TemplateId>,
    /// The backend's own sequence number of the change.
    pub sequence: Option<i64>,
    /// How the change is announced.
    pub message: Option<Message>,
    locale: Option<Option<Language>>,
    state: Option<State>,
    expires_at: Option<Option<Timestamp>>,
    attributes: Option<Value>,
}

impl CardPatch {
    /// Reads the body of a PATCH.
    pub fn read(mut body: Value, problems: &mut Problems) -> Option<Self> {
        let mut object = Node::root(&body).object(problems)?;
        let template = object.given("template").and_then(|n| n.parsed(problems, TemplateId::parse));
        let locale = object.given("locale").map(|n| match n.value {
            Value::Null => None,
            _ => n.parsed(problems, Language::parse_known),
        });
        let state = object.given("state").and_then(|n| match n.value {
            Value::Null => Some(State::Active),
            _ => state(&n, problems),
        });
        let expires_at = object.given("expires_at").map(|n| match n.value {
            Value::Null => None,
            _ => time(&n, problems),
        });
        if let Some(node) = object.given("attributes").filter(|n| !n.value.is_null()) {
            node.members(problems, 200);
        }
        let sequence = sequence(&mut object, problems);
        let message = object.get("message").and_then(|n| Message::read(&n, problems));
        object.finish(problems);
        let attributes = take_attributes(&mut body);
        Some(Self { template, sequence, message, locale, state, expires_at, attributes })
    }

    /// Returns the card's content with the patch applied; given attributes are checked against the template's. A null
    /// value goes back to the default.
    pub fn apply(&self, card: &Card, declared: &[Attribute], problems: &mut Problems, now: Timestamp) -> Content {
        let content = &card.content;
        let mut patched = content.clone();
        if let Some(template) = &self.template
            && *template != content.template
        {
            patched.template = template.clone();
            // Kept values must fit the new design, too; those it doesn't declare stay, hidden.
            let given = |name: &str| self.attributes.as_ref().is_some_and(|values| values.get(name).is_some());
            for attribute in declared.iter().filter(|a| !given(a.name.as_str())) {
                if let Some(value) = content.attributes.get(attribute.name.as_str()).filter(|v| !v.is_null()) {
                    let kept = Node { value, pointer: value_pointer(&attribute.name) };
                    attribute.kind.check(&kept, problems);
                }
            }
        }
        if let Some(locale) = &self.locale {
            patched.locale = locale.clone();
        }
        if let Some(state) = self.state {
            patched.state = state;
        }
        match self.expires_at {
            Some(expires_at) => {
                patched.expires_at = expires_at;
                // The end that expired the card no longer applies. A new end that has passed, too, expires it again.
                if self.state.is_none() && card.is_expired_by_its_end() {
                    patched.state = State::Active;
                }
            }
            // Making an expired card active again removes the end that expired it.
            None if self.state == Some(State::Active) && content.state == State::Expired => {
                patched.expires_at = content.expires_at.filter(|end| *end > now);
            }
            None => {}
        }
        if let Some(values) = &self.attributes {
            if values.is_null() {
                patched.attributes = Map::new();
            } else {
                for (name, value) in check_values(&attributes_node(values), declared, problems) {
                    if value.is_null() {
                        patched.attributes.shift_remove(&name);
                    } else {
                        patched.attributes.insert(name, value);
                    }
                }
            }
        }
        patched
    }
}
