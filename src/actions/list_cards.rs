//! The cards of a workspace, in the order in which they last changed.

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;
use crate::store::cards::{self, Filter, Issued};

/// A page of the list, and whether there are more.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Cards {
    pub cards: Vec<Issued>,
    pub more: bool,
}

/// Up to `limit` cards after a place: a card's `updated_at` and id. An empty id stands before every card of that moment.
///
/// # Errors
/// When the database fails.
pub async fn list_cards(
    app: &App,
    workspace: &WorkspaceId,
    filter: &Filter,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Cards, ActionError> {
    let mut cards = cards::list(&mut app.store.read().await?, workspace, filter, after, limit + 1).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = cards.len() > limit;
    cards.truncate(limit);
    Ok(Cards { cards, more })
}
