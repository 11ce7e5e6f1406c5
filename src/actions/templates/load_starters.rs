//! Loads the starter templates into a workspace, through the same steps as any other template.

use serde_json::json;

use crate::actions::cards::command::{CardCommand, IfMatch};
use crate::actions::cards::put_cards::put_card;
use crate::actions::error::ActionError;
use crate::actions::templates::images::{ImagePlace, put_image};
use crate::actions::templates::publish_template::publish_template;
use crate::actions::templates::put_template::put_template;
use crate::actions::templates::starters;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::store::cards::Issued;
use crate::store::templates;

/// The id of the sandbox's card.
pub const DEMO_CARD: &str = "demo";

/// Stores and publishes every starter that the workspace doesn't have yet. Existing ones are not touched, as users may
/// have changed them.
///
/// # Errors
/// When a starter is broken or the database fails.
pub async fn load_starters(app: &App, workspace: &WorkspaceId) -> Result<(), ActionError> {
    let fault = |e: &dyn std::fmt::Display| ActionError::Fault(e.to_string());
    let mut missing = Vec::new();
    for id in starters::ids() {
        let id = TemplateId::parse(&id).map_err(|e| fault(&e))?;
        let row = templates::find(&mut app.store.read().await?, workspace, &id).await?;
        if row.is_none_or(|row| row.version.is_none()) {
            missing.push(id);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let drawn = tokio::task::spawn_blocking(starters::all).await.map_err(|e| fault(&e))?.map_err(|e| fault(&e))?;
    for starter in drawn {
        let id = TemplateId::parse(&starter.id).map_err(|e| fault(&e))?;
        if !missing.contains(&id) {
            continue;
        }
        put_template(app, workspace, &Actor::System, &id, starter.document.clone()).await?;
        for image in starter.images {
            let place = ImagePlace::parse(&image.role, None, image.tier.as_deref())?;
            put_image(app, workspace, &Actor::System, &id, &place, image.png.into()).await?;
        }
        let version = publish_template(app, workspace, &Actor::System, &id).await?.version;
        tracing::info!(template = %id, version, "loaded a starter template");
    }
    Ok(())
}

/// Returns the card that the sandbox shows first; issues it when it doesn't exist.
///
/// # Errors
/// When it can't be issued.
pub async fn demo_card(app: &App, workspace: &WorkspaceId) -> Result<Issued, ActionError> {
    let id = CardId::parse(DEMO_CARD).map_err(|e| ActionError::Fault(e.to_string()))?;
    if let Ok(issued) = crate::actions::cards::card_view::find_card(app, workspace, &id).await {
        return Ok(issued);
    }
    let document = json!({
        "template": "bakery-points", "locale": "en",
        "attributes": {"points": 120, "balance": "1.20", "tier": "silver", "name": "Anna"},
    });
    Ok(put_card(app, workspace, &Actor::System, CardCommand::put(id, document, IfMatch::Anything)?).await?.0)
}
