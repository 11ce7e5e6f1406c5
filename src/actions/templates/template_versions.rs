//! Lists a template's published versions, and restores one as the draft.

use serde_json::{Value, json};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::retry::retry;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::store::templates;

/// Returns the versions before `before` (all when absent), newest first.
///
/// # Errors
/// When there is no such template.
pub async fn list_versions(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<(i64, Value)>, ActionError> {
    let mut reader = app.store.read().await?;
    if templates::find(&mut reader, workspace, id).await?.is_none() {
        return Err(ActionError::NotFound("template"));
    }
    let versions = templates::versions(&mut reader, workspace, id, before.unwrap_or(i64::MAX), limit).await?;
    let show = |(version, published_at)| (version, json!({"version": version, "published_at": published_at}));
    Ok(versions.into_iter().map(show).collect())
}

/// Makes a version's document and pictures the draft. Cards are unaffected until the draft is published.
///
/// # Errors
/// When there is no such template or version.
pub async fn restore_version(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    version: i64,
) -> Result<(), ActionError> {
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        if templates::lock(&mut tx, workspace, id).await?.is_none() {
            return Err(ActionError::NotFound("template"));
        }
        let document = templates::document(&mut tx, workspace, id, version).await?;
        let document = document.ok_or(ActionError::NotFound("template version"))?;
        templates::put_draft(&mut tx, workspace, id, &document, app.now()).await?;
        templates::restore_images(&mut tx, workspace, id, version).await?;
        let done = (AuditAction::TemplateRestored, id.as_str(), json!({"version": version}));
        record(app, &mut tx, workspace, actor, &[done]).await?;
        Ok(tx.commit().await?)
    })
    .await
}
