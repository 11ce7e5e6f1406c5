//! Records that a card's page was opened, after the page was answered, so that recording neither delays a page nor
//! fails it.

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

/// Openings of a page within this time are one visit.
const VISIT: Duration = Duration::from_secs(600);

/// How many openings may be waiting to be recorded.
pub const PAGE_NOTES: usize = 32;

/// Records it in the background. Under load, some openings are not recorded.
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
    // Most openings are repeats; only the first of a visit waits for a writer.
    if recently(app, &mut app.store.read().await?, workspace, card).await? {
        return Ok(());
    }
    let mut tx = app.store.begin().await?;
    let position = workspaces::next_position(&mut tx, workspace).await?;
    // Checked again after the counter was taken: if two nodes get here at once, the second sees the first's event.
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
    // One that lies in the future was recorded before the clock went back.
    Ok(last.is_some_and(|last| last <= now && now.since(last) < VISIT))
}
