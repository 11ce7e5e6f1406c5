//! A member's card: the content that the backend sets, and the card's state.

pub mod change;
pub mod message;

use serde_json::{Map, Value};

use crate::domain::cards::message::MessageText;
use crate::domain::ids::{CardId, FieldKey, SerialNumber, TemplateId, WorkspaceId};
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
    /// Returns the name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }

    /// Reads a state's name.
    ///
    /// # Errors
    /// A sentence with the three names.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "active" => Ok(Self::Active),
            "voided" => Ok(Self::Voided),
            "expired" => Ok(Self::Expired),
            _ => Err("is not a state; expected active, voided or expired"),
        }
    }
}

/// The part of a card that the backend decides; the service sets everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The design.
    pub template: TemplateId,
    /// The language of pages and messages; `None` means the template's first language.
    pub locale: Option<Language>,
    /// The values that were given; an absent attribute has its default. Values of attributes that the template no
    /// longer declares are kept but not shown.
    pub attributes: Map<String, Value>,
    /// Whether the card may be used.
    pub state: State,
    /// When the card ends.
    pub expires_at: Option<Timestamp>,
}

impl Content {
    /// Whether both contents describe the same card: an omitted value equals its default given explicitly.
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

    /// Returns every attribute that the template declares, with the given value, its default, or null.
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
    /// The workspace that it belongs to.
    pub workspace: WorkspaceId,
    /// The backend's number for it.
    pub id: CardId,
    /// The pass's serial number; never changes.
    pub serial: SerialNumber,
    /// The content that the backend set.
    pub content: Content,
    /// When the backend set `expired`; cleared by `active`.
    pub expired_at: Option<Timestamp>,
    /// The backend's own sequence number for changes, as last given.
    pub sequence: Option<i64>,
    /// Counts the backend's changes, from 1.
    pub revision: i64,
    /// The position of its last change in the workspace's order of commits.
    pub position: i64,
    /// When it last changed, in whole seconds since 1970; every change raises it by at least one.
    pub modified: i64,
    /// Counts the public addresses it has had.
    pub page_generation: i64,
    /// The one field whose change message phones may show for this content version.
    pub live_message: Option<FieldKey>,
    /// The backend's last text message; it stands on the card's back.
    pub message: Option<MessageText>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When the backend last changed it.
    pub updated_at: Timestamp,
}

/// A template's newest published version, reduced to what concerns every card of the template.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The version's number.
    pub version: i64,
    /// The position of its publishing in the workspace's order of commits.
    pub position: i64,
    /// When it was published, in whole seconds since 1970; later than every earlier change of its cards.
    pub modified: i64,
}

impl Card {
    /// Returns an active card with these values that stands in no database: for checks, previews and tests.
    pub fn sample(attributes: Map<String, Value>, now: Timestamp) -> Self {
        Self {
            workspace: WorkspaceId::trusted("default".to_owned()),
            id: CardId::trusted("M-1001".to_owned()),
            serial: SerialNumber::trusted("00000000-0000-7000-8000-000000000000".to_owned()),
            content: Content {
                template: TemplateId::trusted("sample".to_owned()),
                locale: None,
                attributes,
                state: State::Active,
                expires_at: None,
            },
            expired_at: None,
            sequence: None,
            revision: 1,
            position: 1,
            modified: now.seconds(),
            page_generation: 1,
            live_message: None,
            message: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// Returns the content version (the contract's face number) that a wallet must reach. It grows with the card's
    /// changes and with each publishing of its template, so that publishing rewrites no card's row. An erased card
    /// keeps its last one.
    pub fn face(&self, publication: &Publication) -> i64 {
        if self.id.is_erased() { self.position } else { self.position.max(publication.position) }
    }

    /// Returns the content version's `Last-Modified` in whole seconds since 1970.
    pub fn face_modified(&self, publication: &Publication) -> i64 {
        if self.id.is_erased() { self.modified } else { self.modified.max(publication.modified) }
    }

    /// Whether the card expired because its end passed, rather than because the backend expired it before.
    pub fn is_expired_by_its_end(&self) -> bool {
        let ended = self.content.expires_at.zip(self.expired_at).is_some_and(|(end, expired)| end <= expired);
        self.content.state == State::Expired && ended
    }

    /// Returns when the pass ends: at the announced end, or when the backend expired the card if that is earlier.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let expired = self.expired_at.filter(|_| self.content.state == State::Expired);
        [self.content.expires_at, expired].into_iter().flatten().min()
    }

    /// Returns every attribute that the template declares, with the card's value, its default, or null.
    pub fn shown_attributes(&self, template: &Template) -> Map<String, Value> {
        self.content.shown(template)
    }
}
