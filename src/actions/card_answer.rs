//! How the API shows a card.

use std::collections::HashMap;

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
    let answers = card_answers(app, std::slice::from_ref(issued)).await?;
    answers.into_iter().next().ok_or_else(|| ActionError::Fault("a card has no answer".to_owned()))
}

/// Cards of one workspace as JSON; the number of statements doesn't depend on how many there are.
///
/// # Errors
/// When the database fails.
pub async fn card_answers(app: &App, cards: &[Issued]) -> Result<Vec<Value>, ActionError> {
    let Some(first) = cards.first() else { return Ok(Vec::new()) };
    let workspace = &first.card.workspace;
    let faces: Vec<(&CardId, i64)> = cards.iter().map(|issued| (&issued.card.id, issued.face())).collect();
    let mut reader = app.store.read().await?;
    let devices = devices::of_cards(&mut reader, workspace, &faces).await?;
    let devices: HashMap<CardId, (i64, i64)> = devices.into_iter().map(|(id, all, asked)| (id, (all, asked))).collect();
    drop(reader);
    let mut answers = Vec::with_capacity(cards.len());
    for issued in cards {
        let (devices, asked) = devices.get(&issued.card.id).copied().unwrap_or_default();
        // A fetch names no device: it counts for the devices that asked since the change.
        let current = if issued.is_fetched(issued.face()) { asked } else { 0 };
        answers.push(written(app, issued, json!({"devices": devices, "current": current})).await?);
    }
    Ok(answers)
}

async fn written(app: &App, issued: &Issued, apple: Value) -> Result<Value, ActionError> {
    let card = &issued.card;
    let content = &card.content;
    let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
    let (published, version) = app.shown(issued, &page).await?;
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
            "apple": apple,
            "google": {"saved": false, "current": false},
        },
        "created_at": card.created_at,
        "updated_at": card.updated_at,
    }))
}
