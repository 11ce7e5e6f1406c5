//! Replaces a template's draft.

use serde_json::{Value, json};

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::template::Template;
use crate::store::templates;

/// Whether a PUT made something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was absent.
    Created,
    /// It stood.
    Replaced,
}

/// Stores a template document as the draft, after checking its form; whether it could be published is `check`'s business.
///
/// # Errors
/// Every problem of the document at once; nothing is stored then.
pub async fn put_template(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    document: &Value,
) -> Result<Put, ActionError> {
    // A large document has many expressions to compile: off the async threads, and one at a time with the pictures.
    let permit = app.decoding.clone().acquire_owned().await.map_err(|_| ActionError::ShuttingDown)?;
    let parsed = document.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let result = Template::parse(&parsed).map(|_| ());
        drop(permit);
        result
    });
    checked.await.map_err(|_| ActionError::Fault("reading a template panicked".to_owned()))??;
    let mut tx = app.store.begin().await?;
    let before = templates::lock(&mut tx, workspace, id).await?;
    templates::put_draft(&mut tx, workspace, id, document, app.now()).await?;
    tx.commit().await?;
    Ok(if before.is_some() { Put::Replaced } else { Put::Created })
}

/// The draft document with its id and the number of the newest published version.
///
/// # Errors
/// When there is no such template.
pub async fn get_template(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<Value, ActionError> {
    let row = templates::find(&mut app.store.read().await?, workspace, id).await?;
    let row = row.ok_or(ActionError::NotFound("template"))?;
    let mut document = json!({"id": id, "published_version": row.version});
    if let (Some(map), Value::Object(draft)) = (document.as_object_mut(), row.draft.0) {
        map.extend(draft);
    }
    Ok(document)
}
