//! The events of a card or a workspace: recording and reading them.

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
    /// Returns an event that happens now, to be recorded with [`events::record`] by the transaction that causes it.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn event<'c>(
        &self,
        kind: EventKind,
        card: Option<&'c CardId>,
        data: Value,
    ) -> Result<NewEvent<'c>, ActionError> {
        Ok(NewEvent { id: uuid(&*self.random, self.now())?, kind, card, serial: None, data })
    }
}

/// Returns a page of a card's events after a position.
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

/// Returns a page of a workspace's events after the event with the given id; without one, from the first. `pointer`
/// names the id's member in the request.
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
        // While this event exists, none after it was removed before the page was read.
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

/// Whether an id that names no event is taken for one that retention removed: ids begin with their time, and removed
/// ids are not greater than the greatest of them.
fn is_removed(id: &str, greatest: Option<&str>) -> bool {
    let is_ours = uuid::Uuid::try_parse(id).is_ok_and(|uuid| uuid.get_version_num() == 7 && uuid.to_string() == id);
    is_ours && greatest.is_some_and(|greatest| id <= greatest)
}
