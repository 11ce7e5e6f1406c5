//! A backend's command for a card, and the condition under which it applies.

use serde_json::Value;

use crate::actions::cards::card_request::{CardDocument, CardPatch};
use crate::actions::error::ActionError;
use crate::domain::cards::Card;
use crate::domain::cards::message::Message;
use crate::domain::ids::{CardId, TemplateId};
use crate::domain::input::Problems;

/// The revision at which a caller expects the card to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Any revision, or no card at all.
    Anything,
    /// Any revision, but the card must exist.
    Exists,
    /// One of these revisions.
    Revisions(Vec<i64>),
}

impl IfMatch {
    /// Checks the condition against the stored card.
    ///
    /// # Errors
    /// [`ActionError::WrongRevision`] when the condition doesn't hold.
    pub fn check(&self, card: Option<&Card>) -> Result<(), ActionError> {
        let found = card.map(|card| card.revision);
        let fine = match self {
            Self::Anything => true,
            Self::Exists => found.is_some(),
            Self::Revisions(expected) => found.is_some_and(|found| expected.contains(&found)),
        };
        if fine { Ok(()) } else { Err(ActionError::WrongRevision { found: found.unwrap_or(0) }) }
    }
}

/// The kind of change and its content.
#[derive(Debug)]
pub enum Request {
    /// Creates the card, or replaces it.
    Put(CardDocument),
    /// Changes an existing card.
    Patch(CardPatch),
}

/// A command whose shape was checked.
#[derive(Debug)]
pub struct CardCommand {
    /// The card's id.
    pub id: CardId,
    /// The requested change.
    pub request: Request,
    /// The condition for it.
    pub if_match: IfMatch,
    /// The problems found so far, reported together with those of its values.
    pub problems: Problems,
}

impl CardCommand {
    /// Reads the document of a PUT.
    ///
    /// # Errors
    /// Its problems, when not even the template it names can be read.
    pub fn put(id: CardId, body: Value, if_match: IfMatch) -> Result<Self, ActionError> {
        let mut problems = Problems::new();
        match CardDocument::read(body, &mut problems) {
            Some(document) => Ok(Self { id, request: Request::Put(document), if_match, problems }),
            None => Err(ActionError::Invalid(problems)),
        }
    }

    /// Reads the body of a PATCH.
    ///
    /// # Errors
    /// Its problems, when it is not a merge patch at all.
    pub fn patch(id: CardId, body: Value, if_match: IfMatch) -> Result<Self, ActionError> {
        let mut problems = Problems::new();
        match CardPatch::read(body, &mut problems) {
            Some(patch) => Ok(Self { id, request: Request::Patch(patch), if_match, problems }),
            None => Err(ActionError::Invalid(problems)),
        }
    }

    /// Returns how the change is announced.
    pub fn message(&self) -> Option<&Message> {
        match &self.request {
            Request::Put(document) => document.message.as_ref(),
            Request::Patch(patch) => patch.message.as_ref(),
        }
    }

    /// Returns the template that the command names; a patch need not name one.
    pub fn template(&self) -> Option<&TemplateId> {
        match &self.request {
            Request::Put(document) => Some(&document.template),
            Request::Patch(patch) => patch.template.as_ref(),
        }
    }
}
