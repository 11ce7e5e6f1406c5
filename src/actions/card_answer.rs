//! How the API shows a card.

use serde_json::{Value, json};

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::store::cards::{self, Issued};
use crate::store::devices;

/// The card of that id.
///
/// # Errors
/// When there is none.
pub async fn find_card(app: &App, workspace: &WorkspaceId, id: &CardId) -> Result<Issued, ActionError> {
    let card = cards::find(&mut app.store.read().await?, workspace, id).await?;
    card.ok_or(ActionError::NotFound("card"))
}

/// The card as JSON, with its addresses and how many phones show its newest face.
///
/// # Errors
/// When the database fails.
pub async fn card_answer(app: &App, issued: &Issued) -> Result<Value, ActionError> {
    let card = &issued.card;
    let content = &card.content;
    let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
    let (published, version) = app.shown(issued, &page).await?;
    let mut reader = app.store.read().await?;
    let face = issued.face();
    let (devices, asked) = devices::of_card(&mut reader, card, face).await?;
    // A fetch names no device: it counts for the devices that asked since the change.
    let current = if cards::fetched(&mut reader, card).await? >= face { asked } else { 0 };
    let locale = content.locale.as_ref().or(published.template.languages.first());
    Ok(json!({
        "id": card.id,
        "template": content.template,
        "template_version": version,
        "serial_number": card.serial,
        "state": content.state,
        "revision": card.revision,
        "locale": locale,
        "attributes": card.shown_attributes(&published.template),
        "expires_at": content.expires_at,
        "sequence": card.sequence,
        "urls": {
            "page": page,
            "apple": format!("{page}/card.pkpass"),
            "google": format!("{page}/google"),
        },
        "wallets": {
            "apple": {"devices": devices, "current": current},
            "google": {"saved": false, "current": false},
        },
        "created_at": card.created_at,
        "updated_at": card.updated_at,
    }))
}
