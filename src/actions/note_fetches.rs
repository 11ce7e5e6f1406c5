//! Notes what phones do with their passes: that they asked what changed, and which face they fetched.

use std::collections::BTreeMap;

use serde_json::json;

use super::error::ActionError;
use crate::app::App;
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::store::cards::{self, Issued};
use crate::store::devices::{self, DeviceKey};
use crate::store::{events, workspaces};

/// A card of a workspace, and the face of it that a phone fetched.
pub type Fetched = (WorkspaceId, CardId, i64);

/// Notes that a phone has the card's newest face.
///
/// # Errors
/// When the database fails.
pub async fn note_fetch(app: &App, issued: &Issued) -> Result<(), ActionError> {
    let face = issued.face();
    // Most fetches bring nothing new; only those that do wait for a writer.
    if issued.is_fetched(face) {
        return Ok(());
    }
    let fetched = (issued.card.workspace.clone(), issued.card.id.clone(), face);
    app.fetches.write(fetched, async |fetched| write_fetches(app, fetched).await).await
}

async fn write_fetches(app: &App, fetched: Vec<Fetched>) -> Result<(), ActionError> {
    let mut by_workspace: BTreeMap<WorkspaceId, BTreeMap<CardId, i64>> = BTreeMap::new();
    for (workspace, card, face) in fetched {
        let newest = by_workspace.entry(workspace).or_default().entry(card).or_default();
        *newest = face.max(*newest);
    }
    for (workspace, faces) in by_workspace {
        let mut tx = app.store.begin_batch().await?;
        // The counter first: an erasure holds it when it takes the card away, and this must not wait for the card with
        // the counter still to come.
        let position = workspaces::take_position(&mut tx, &workspace).await?;
        let new = cards::note_fetches(&mut tx, &workspace, &faces, app.now()).await?;
        let told = new.iter().map(|card| app.event(EventKind::CardFetched, Some(card), json!({"wallet": "apple"})));
        let told = told.collect::<Result<Vec<_>, _>>()?;
        events::record(&mut tx, &workspace, position, app.now(), &told).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Notes that a device was told what changed up to a position.
///
/// # Errors
/// When the database fails.
pub async fn note_question(app: &App, key: DeviceKey, position: i64) -> Result<(), ActionError> {
    let write = async |asked: Vec<(DeviceKey, i64)>| {
        let mut newest: BTreeMap<DeviceKey, i64> = BTreeMap::new();
        for (key, position) in asked {
            let known = newest.entry(key).or_default();
            *known = position.max(*known);
        }
        let mut tx = app.store.begin_batch().await?;
        devices::note_asked(&mut tx, &newest, app.now()).await?;
        Ok(tx.commit().await?)
    };
    app.questions.write((key, position), write).await
}
