//! Lists the cards of a workspace, in the order in which they last changed.

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;
use crate::store::cards::{self, Filter, Page};

/// Returns up to `limit` cards, fewer when they are large, after a position: a card's `updated_at` and id. An empty id
/// sorts before every card of that time.
///
/// # Errors
/// When the database fails.
pub async fn list_cards(
    app: &App,
    workspace: &WorkspaceId,
    filter: &Filter,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Page, ActionError> {
    Ok(cards::list(&mut app.store.read().await?, workspace, filter, after, limit).await?)
}
