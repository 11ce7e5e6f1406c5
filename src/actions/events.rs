//! What happened to a card, or in a workspace: as it is noted, and as it is read.

use serde_json::Value;

use crate::actions::cards::card_view::find_card;
use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::input::Problems;
use crate::platform::random::uuid;
use crate::store::daily_counts;
use crate::store::events::{self, NewEvent, Page, Place};

impl App {
    /// An event of now, to be recorded with [`events::record`] by the transaction that makes it happen.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn event<'c>(
        &self,
        kind: EventKind,
        card: Option<&'c CardId>,
        data: Value,
    ) -> Result<NewEvent<'c>, ActionError> {
        Ok(NewEvent { id: uuid(&*self.random, self.now())?, kind, card, serial: None, data })
    }
}

/// A card's events after a place.
///
/// # Errors
/// When there is no such card.
pub async fn events_of_card(
    app: &App,
    workspace: &WorkspaceId,
    card: &CardId,
    after: Place,
    limit: i64,
) -> Result<Page, ActionError> {
    find_card(app, workspace, card).await?;
    Ok(events::of_card(&mut app.store.read().await?, workspace, card, after, limit).await?)
}

/// A workspace's events after the one of that id; from the first one without. `pointer` names the id's place in the
/// request.
///
/// # Errors
/// A problem at `pointer` when there is no such event; [`ActionError::EventsGone`] when it is older than events are kept.
pub async fn events_after(
    app: &App,
    workspace: &WorkspaceId,
    (pointer, id): (&str, Option<&str>),
    limit: i64,
) -> Result<Page, ActionError> {
    let mut reader = app.store.read().await?;
    let Some(id) = id else { return Ok(events::after(&mut reader, workspace, Place::START, limit).await?) };
    if let Some(after) = events::place_of(&mut reader, workspace, id).await? {
        let page = events::after(&mut reader, workspace, after, limit).await?;
        // While it is there, nothing that comes after it was removed before the page was read.
        if events::place_of(&mut reader, workspace, id).await?.is_some() {
            return Ok(page);
        }
    }
    let mark = daily_counts::mark(&mut reader, workspace).await?;
    if !is_removed(id, mark.and_then(|mark| mark.pruned_id).as_deref()) {
        return Err(Problems::one(pointer, "is not an event of this workspace").into());
    }
    Err(ActionError::EventsGone { oldest: events::oldest_shown(&mut reader, workspace).await? })
}

/// Whether an id that names no event is taken for one that retention removed: ids begin with their moment, and those that were
/// removed are not greater than the greatest of them.
fn is_removed(id: &str, greatest: Option<&str>) -> bool {
    let is_ours = uuid::Uuid::try_parse(id).is_ok_and(|uuid| uuid.get_version_num() == 7 && uuid.to_string() == id);
    is_ours && greatest.is_some_and(|greatest| id <= greatest)
}
