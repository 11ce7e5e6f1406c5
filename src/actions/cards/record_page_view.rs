//! FetchRecorder that a card's page was opened: after the page was answered, so that nobody waits for it and no page fails by it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::cards::Card;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, SerialNumber, WorkspaceId};
use crate::store::events::{self, NewEvent};
use crate::store::{Session, workspaces};

/// A page that is opened again within this time is one visit.
const VISIT: Duration = Duration::from_secs(600);

/// How many openings may be waiting to be noted.
pub const PAGE_NOTES: usize = 32;

/// FetchRecorder it in the background. In a rush, some are not noted.
pub fn record_page_view(app: &Arc<App>, card: &Card) {
    let Ok(permit) = Arc::clone(&app.page_notes).try_acquire_owned() else { return };
    let (app, workspace) = (Arc::clone(app), card.workspace.clone());
    let (id, serial) = (card.id.clone(), card.serial.clone());
    tokio::spawn(async move {
        if let Err(error) = note(&app, &workspace, &id, &serial).await
            && let Some(left_out) = app.strangers_lines.failures.next(app.now())
        {
            tracing::warn!(%error, left_out, "an opened page could not be noted");
        }
        drop(permit);
    });
}

async fn note(app: &App, workspace: &WorkspaceId, card: &CardId, serial: &SerialNumber) -> Result<(), ActionError> {
    // Most openings are repeated ones; only a first one waits for a writer.
    if recently(app, &mut app.store.read().await?, workspace, card).await? {
        return Ok(());
    }
    let mut tx = app.store.begin().await?;
    let position = workspaces::next_position(&mut tx, workspace).await?;
    // Looked at again behind the counter: of two nodes that come this far at once, the second sees the first's event.
    if recently(app, &mut tx, workspace, card).await? {
        return Ok(());
    }
    let event = app.event(EventKind::CardPageOpened, Some(card), json!({}))?;
    let event = NewEvent { serial: Some(serial), ..event };
    events::record(&mut tx, workspace, &Actor::System, position, app.now(), &[event]).await?;
    Ok(tx.commit().await?)
}

async fn recently(
    app: &App,
    session: &mut impl Session,
    workspace: &WorkspaceId,
    card: &CardId,
) -> Result<bool, ActionError> {
    let (last, now) = (events::page_opened(session, workspace, card).await?, app.now());
    // One that lies in the future was noted before the clock went back.
    Ok(last.is_some_and(|last| last <= now && now.since(last) < VISIT))
}
