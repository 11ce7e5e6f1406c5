//! What a backend wishes for a card, and on which condition.

use serde_json::Value;

use crate::actions::cards::card_request::{CardDocument, CardPatch};
use crate::actions::error::ActionError;
use crate::domain::cards::Card;
use crate::domain::cards::message::Message;
use crate::domain::ids::{CardId, TemplateId};
use crate::domain::input::Problems;

/// At which revision a caller expects the card to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// At any, or not at all.
    Anything,
    /// It must exist.
    Exists,
    /// One of these.
    Revisions(Vec<i64>),
}

impl IfMatch {
    /// Checks what there is.
    ///
    /// # Errors
    /// [`ActionError::WrongRevision`] when it is something else.
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

/// What is wished for a card.
#[derive(Debug)]
pub enum Request {
    /// That it be so, whether it is there or not.
    Put(CardDocument),
    /// That it change so.
    Patch(CardPatch),
}

/// A wish whose shape was read.
#[derive(Debug)]
pub struct CardCommand {
    /// For which card.
    pub id: CardId,
    /// What.
    pub request: Request,
    /// On which condition.
    pub if_match: IfMatch,
    /// What is wrong with it so far; told together with what its values break.
    pub problems: Problems,
}

impl CardCommand {
    /// Reads the document of a PUT.
    ///
    /// # Errors
    /// Its problems, when it can't even be told which template it names.
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
    /// Its problems, when it is no patch at all.
    pub fn patch(id: CardId, body: Value, if_match: IfMatch) -> Result<Self, ActionError> {
        let mut problems = Problems::new();
        match CardPatch::read(body, &mut problems) {
            Some(patch) => Ok(Self { id, request: Request::Patch(patch), if_match, problems }),
            None => Err(ActionError::Invalid(problems)),
        }
    }

    /// How it is to be announced.
    pub fn message(&self) -> Option<&Message> {
        match &self.request {
            Request::Put(document) => document.message.as_ref(),
            Request::Patch(patch) => patch.message.as_ref(),
        }
    }

    /// The template that it names; a patch need not name any.
    pub fn template(&self) -> Option<&TemplateId> {
        match &self.request {
            Request::Put(document) => Some(&document.template),
            Request::Patch(patch) => patch.template.as_ref(),
        }
    }
}
