//! Issues a card, or replaces everything that the backend said of it.

use serde_json::Value;

use super::card_change::{Changed, Desk, change, issue, published_for_card};
use super::card_document::CardDocument;
use super::error::ActionError;
use super::put_template::Put;
use crate::app::App;
use crate::domain::card::{Card, State};
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::input::Problems;
use crate::outside::random;
use crate::store::cards::{self, Issued};

/// At which revision a caller expects the card to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// At any, or not at all.
    Anything,
    /// It must exist.
    Exists,
    /// Exactly this one.
    Revision(i64),
}

impl IfMatch {
    /// Checks what there is.
    ///
    /// # Errors
    /// [`ActionError::WrongRevision`] when it is something else.
    pub fn check(self, card: Option<&Card>) -> Result<(), ActionError> {
        let found = card.map(|card| card.revision);
        let fine = match self {
            Self::Anything => true,
            Self::Exists => found.is_some(),
            Self::Revision(expected) => found == Some(expected),
        };
        if fine { Ok(()) } else { Err(ActionError::WrongRevision { found: found.unwrap_or(0) }) }
    }
}

/// Puts a card.
///
/// # Errors
/// Every problem of the document at once; a missing issuer or publication; a wrong revision; a stale sequence.
pub async fn put_card(
    app: &App,
    workspace: &WorkspaceId,
    id: &CardId,
    body: &Value,
    if_match: IfMatch,
) -> Result<(Issued, Put), ActionError> {
    let mut problems = Problems::new();
    let Some(document) = CardDocument::read(body, &mut problems) else {
        return Err(ActionError::Invalid(problems));
    };
    loop {
        let published = published_for_card(app, workspace, &document.template, &problems).await?;
        let content = document.content(&published.template.attributes, &mut problems);
        if !problems.is_empty() {
            return Err(ActionError::Invalid(problems));
        }
        let desk = Desk::open(app, workspace, published).await?;
        let mut tx = app.store.begin().await?;
        let existing = cards::lock(&mut tx, workspace, id).await?;
        if_match.check(existing.as_ref().map(|issued| &issued.card))?;
        if let Some(existing) = existing {
            let changed = change(app, &mut tx, &desk, existing, content, document.sequence).await?;
            let (Changed::Updated(issued) | Changed::Unchanged(issued)) = changed else { continue };
            tx.commit().await?;
            app.wake.notify_one();
            return Ok((issued, Put::Replaced));
        }
        let now = app.now();
        let card = Card {
            workspace: workspace.clone(),
            id: id.clone(),
            serial: random::serial_number(&*app.random, now)?,
            pass_type: desk.issuer.identity.pass_type.clone(),
            content: content.clone(),
            expired_at: (content.state == State::Expired).then_some(now),
            sequence: document.sequence,
            revision: 1,
            position: 0,
            modified: 0,
            page_generation: 1,
            live_message: None,
            created_at: now,
            updated_at: now,
        };
        if let Some(issued) = issue(app, &mut tx, &desk, card).await? {
            tx.commit().await?;
            return Ok((issued, Put::Created));
        }
        // Another request issued it between our look and our insert: now it is a replacement.
    }
}
