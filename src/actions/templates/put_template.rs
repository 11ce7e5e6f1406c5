//! Creates, replaces, returns and deletes template documents.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::retry::retry;
use crate::actions::templates::draft::parse;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::values::zone::Zone;
use crate::platform::random;
use crate::store::templates::{self, Listed};
use crate::store::types::Json;

/// The most bytes of a document, whether sent or imported.
pub const LARGEST_DOCUMENT: usize = 1024 * 1024;

/// Whether a PUT created or replaced the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The template didn't exist.
    Created,
    /// The template existed.
    Replaced,
}

/// The members that a GET adds to the document. A client may send them back; they are not part of the draft.
const ADDED: [&str; 2] = ["id", "published_version"];

/// Stores a template document as the draft after checking its form. Whether it could be published is left to `check`.
///
/// # Errors
/// Every problem of the document at once; then nothing is stored.
pub async fn put_template(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    mut draft: Value,
) -> Result<Put, ActionError> {
    let [given, _] = take_added(&mut draft);
    let other = given.filter(|given| given.as_str() != Some(id.as_str()));
    let other = other.map(|_| Problems::one("/id", format!("is not {id}, which the address names; leave it out")));
    let draft = Arc::new(draft);
    checked(app, &draft, other.unwrap_or_default()).await?;
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        let before = templates::lock(&mut tx, workspace, id).await?;
        templates::put_draft(&mut tx, workspace, id, &draft, app.now()).await?;
        let done = (AuditAction::TemplatePut, id.as_str(), json!({"created": before.is_none()}));
        record(app, &mut tx, workspace, actor, &[done]).await?;
        tx.commit().await?;
        Ok(if before.is_some() { Put::Replaced } else { Put::Created })
    })
    .await
}

/// Creates a template from a document, under the `id` in it or a generated one.
///
/// # Errors
/// Every problem of the document at once; [`ActionError::TemplateExists`] when that id is in use.
pub async fn create_template(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    mut draft: Value,
) -> Result<TemplateId, ActionError> {
    let mut problems = Problems::new();
    let id = match take_added(&mut draft) {
        [None | Some(Value::Null), _] => Some(Ok(new_id(app)?)),
        [Some(Value::String(id)), _] => Some(TemplateId::parse(&id)),
        [Some(_), _] => None,
    };
    let id = match id {
        Some(Ok(id)) => Some(id),
        Some(Err(e)) => {
            problems.add("/id", e.to_string());
            None
        }
        None => {
            problems.add("/id", "is not a string");
            None
        }
    };
    let draft = Arc::new(draft);
    checked(app, &draft, problems).await?;
    let id = id.ok_or_else(|| Problems::one("/id", "is not a template id"))?;
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        if !templates::insert_draft(&mut tx, workspace, &id, &draft, app.now()).await? {
            return Err(ActionError::TemplateExists);
        }
        let done = (AuditAction::TemplatePut, id.as_str(), json!({"created": true}));
        record(app, &mut tx, workspace, actor, &[done]).await?;
        Ok(tx.commit().await?)
    })
    .await?;
    Ok(id)
}

/// Returns a new id: `tpl_` and 72 random bits.
pub(super) fn new_id(app: &App) -> Result<TemplateId, ActionError> {
    let id = format!("tpl_{}", URL_SAFE_NO_PAD.encode(random::bytes::<9>(&*app.random)?));
    TemplateId::parse(&id).map_err(|e| ActionError::Fault(e.to_string()))
}

pub(super) fn take_added(document: &mut Value) -> [Option<Value>; 2] {
    let mut map = document.as_object_mut();
    ADDED.map(|name| map.as_mut().and_then(|map| map.shift_remove(name)))
}

/// Reports all problems of a document, those found before first.
pub(super) async fn checked(app: &App, draft: &Arc<Value>, mut before: Problems) -> Result<(), ActionError> {
    match parse(app, Arc::clone(draft), Zone::utc().clone()).await {
        Ok(_) if before.is_empty() => Ok(()),
        Ok(_) => Err(before.into()),
        Err(ActionError::Invalid(found)) => {
            before.extend(found);
            Err(before.into())
        }
        Err(error) => Err(error),
    }
}

/// Returns the draft document with its id and the number of the newest published version.
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

/// Returns the workspace's templates after `after`, by id, each as it is shown in a list.
///
/// # Errors
/// When the database fails.
pub async fn list_templates(
    app: &App,
    workspace: &WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<(TemplateId, Value)>, ActionError> {
    let show = |listed: Listed| {
        let given = |member: Option<Json<Value>>| member.map(|Json(value)| value);
        let shown = json!({
            "id": listed.id,
            "name": given(listed.name),
            "organization": given(listed.organization),
            "kind": given(listed.kind).filter(Value::is_string).unwrap_or_else(|| json!("generic")),
            "style": given(listed.style),
            "published_version": listed.version,
            "created_at": listed.created_at,
            "updated_at": listed.updated_at,
        });
        (listed.id, shown)
    };
    let listed = templates::list(&mut app.store.read().await?, workspace, after, limit).await?;
    Ok(listed.into_iter().map(show).collect())
}

/// Deletes a template with everything that belongs to it.
///
/// # Errors
/// When there is no such template, or it has cards.
pub async fn delete_template(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
) -> Result<(), ActionError> {
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        match templates::delete(&mut tx, workspace, id).await? {
            Some(true) => {
                let done = (AuditAction::TemplateDeleted, id.as_str(), json!({}));
                record(app, &mut tx, workspace, actor, &[done]).await?;
                Ok(tx.commit().await?)
            }
            Some(false) => Err(ActionError::TemplateInUse),
            None => Err(ActionError::NotFound("template")),
        }
    })
    .await
}
