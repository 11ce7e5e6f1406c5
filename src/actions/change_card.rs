//! Changes a card by a merge patch.

use serde_json::Value;

use super::card_change::{Changed, Desk, change, published_for_card};
use super::card_document::CardPatch;
use super::error::ActionError;
use super::put_card::IfMatch;
use crate::app::App;
use crate::domain::ids::{CardId, WorkspaceId};
use crate::domain::input::Problems;
use crate::store::cards::{self, Issued};

/// Patches a card.
///
/// # Errors
/// When the card is unknown, every problem of the patch at once, a wrong revision, a stale sequence.
pub async fn change_card(
    app: &App,
    workspace: &WorkspaceId,
    id: &CardId,
    body: &Value,
    if_match: IfMatch,
) -> Result<Issued, ActionError> {
    let mut problems = Problems::new();
    let patch = CardPatch::read(body, &mut problems);
    // Which template checks the values is read before the transaction, which makes ready nothing slow; should the
    // card move to another template meanwhile, it is looked up anew.
    let mut seen =
        cards::find(&mut app.store.read().await?, workspace, id).await?.ok_or(ActionError::NotFound("card"))?;
    let Some(patch) = patch else {
        return Err(ActionError::Invalid(problems));
    };
    loop {
        let mut problems = problems.clone();
        let template = patch.template.as_ref().unwrap_or(&seen.card.content.template);
        let published = published_for_card(app, workspace, template, &problems).await?;
        // What is wrong with the patch is told before what the workspace lacks.
        patch.apply(&seen.card.content, &published.template.attributes, &mut problems);
        if !problems.is_empty() {
            return Err(ActionError::Invalid(problems));
        }
        let desk = Desk::open(app, workspace, published.clone()).await?;
        let mut tx = app.store.begin().await?;
        let issued = cards::lock(&mut tx, workspace, id).await?.ok_or(ActionError::NotFound("card"))?;
        if issued.card.content.template != seen.card.content.template {
            seen = issued;
            continue;
        }
        if_match.check(Some(&issued.card))?;
        let content = patch.apply(&issued.card.content, &published.template.attributes, &mut problems);
        if !problems.is_empty() {
            return Err(ActionError::Invalid(problems));
        }
        let changed = change(app, &mut tx, &desk, issued, content, patch.sequence).await?;
        let (Changed::Updated(issued) | Changed::Unchanged(issued)) = changed else { continue };
        crate::outside::crash::point("before-change-commit");
        tx.commit().await?;
        crate::outside::crash::point("after-change-commit");
        app.wake.notify_one();
        return Ok(issued);
    }
}
