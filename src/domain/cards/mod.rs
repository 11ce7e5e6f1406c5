//! A member's card: what the backend said of it, and where it stands in its life.

pub mod change;
pub mod message;

use serde_json::{Map, Value};

use crate::domain::cards::message::MessageText;
use crate::domain::ids::{CardId, FieldKey, PassTypeId, SerialNumber, TemplateId, WorkspaceId};
use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::domain::values::attribute::Attribute;
use crate::domain::values::locale::Language;

/// Whether a card may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In use.
    Active,
    /// Withdrawn by the backend.
    Voided,
    /// Past its time.
    Expired,
}

impl State {
    /// The word in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// A sentence with the three words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "active" => Ok(Self::Active),
            "voided" => Ok(Self::Voided),
            "expired" => Ok(Self::Expired),
            _ => Err("is not a state; expected active, voided or expired"),
        }
    }
}

/// What the backend decides about a card; everything else is ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The design.
    pub template: TemplateId,
    /// The language of pages and messages; `None` is the template's first.
    pub locale: Option<Language>,
    /// The values that were given; attributes that are absent have their default. Values of attributes that the
    /// template no longer declares are kept, hidden.
    pub attributes: Map<String, Value>,
    /// Whether it may be used.
    pub state: State,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl Content {
    /// Whether a card would be the same with the other content: what is left out is as good as its default said aloud.
    pub fn means(&self, other: &Self, template: &Template) -> bool {
        let language = |content: &Self| content.locale.clone().or_else(|| template.languages.first().cloned());
        let declared = |name: &String| template.attributes.iter().any(|attribute| attribute.name.as_str() == name);
        let hidden = |content: &Self| -> Map<String, Value> {
            let values = content.attributes.iter().filter(|(name, _)| !declared(name));
            values.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        self.template == other.template
            && self.state == other.state
            && self.expires_at == other.expires_at
            && language(self) == language(other)
            && self.shown(template) == other.shown(template)
            && hidden(self) == hidden(other)
    }

    /// Every attribute that the template declares with the value that was given, its default, or null.
    fn shown(&self, template: &Template) -> Map<String, Value> {
        let value = |attribute: &Attribute| {
            let given = self.attributes.get(attribute.name.as_str());
            given.or(attribute.default.as_ref()).cloned().unwrap_or(Value::Null)
        };
        template.attributes.iter().map(|a| (a.name.as_str().to_owned(), value(a))).collect()
    }
}

/// An issued card.
#[derive(Debug, Clone)]
pub struct Card {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The backend's number.
    pub id: CardId,
    /// The pass's number; never changes.
    pub serial: SerialNumber,
    /// The identity under which it was issued; never changes.
    pub pass_type: PassTypeId,
    /// What the backend decided.
    pub content: Content,
    /// When the backend said `expired`; cleared by `active`.
    pub expired_at: Option<Timestamp>,
    /// The backend's own order of changes, as last given.
    pub sequence: Option<i64>,
    /// Counts the backend's changes, from 1.
    pub revision: i64,
    /// The place of its last change in the workspace's order of commits.
    pub position: i64,
    /// When it last changed, in whole seconds; grows with every change by at least one.
    pub modified: i64,
    /// Counts the public addresses it has had.
    pub page_generation: i64,
    /// The one field whose change message phones may show for this face.
    pub live_message: Option<FieldKey>,
    /// The last text of the backend's own; it stands on the card's back.
    pub message: Option<MessageText>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When the backend last changed it.
    pub updated_at: Timestamp,
}

/// A template's newest published version, as far as every card of it is concerned.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The version's number.
    pub version: i64,
    /// The place of its publishing in the workspace's order of commits.
    pub position: i64,
    /// When it was published, in whole seconds; later than every change of its cards before.
    pub modified: i64,
}

impl Card {
    /// The face a wallet must reach: it grows with the card's changes and with its template's publishing, and no
    /// publishing rewrites a card's row. An erased card has its last one.
    pub fn face(&self, publication: &Publication) -> i64 {
        if self.id.is_erased() { self.position } else { self.position.max(publication.position) }
    }

    /// The face's `Last-Modified` in whole seconds.
    pub fn face_modified(&self, publication: &Publication) -> i64 {
        if self.id.is_erased() { self.modified } else { self.modified.max(publication.modified) }
    }

    /// Whether it is expired because its end has passed, rather than because the backend said so before.
    pub fn is_expired_by_its_end(&self) -> bool {
        let ended = self.content.expires_at.zip(self.expired_at).is_some_and(|(end, expired)| end <= expired);
        self.content.state == State::Expired && ended
    }

    /// When the pass ends: the earlier of the announced end and of the backend's word.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let said = self.expired_at.filter(|_| self.content.state == State::Expired);
        [self.content.expires_at, said].into_iter().flatten().min()
    }

    /// Every attribute that the template declares with the card's value, its default, or null.
    pub fn shown_attributes(&self, template: &Template) -> Map<String, Value> {
        self.content.shown(template)
    }
}
