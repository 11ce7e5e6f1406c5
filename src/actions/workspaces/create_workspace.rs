//! Adds a workspace with its first key.

use serde_json::{Value, json};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::keys::{IssuedKey, MAX_NAME, Scope, add_key};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::WorkspaceId;
use crate::domain::input::{Lines, Node, Problems};
use crate::domain::values::zone::Zone;
use crate::store::workspaces;

/// The name of the key that comes with a workspace.
const FIRST_KEY: &str = "first";

/// A new workspace.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NewWorkspace {
    pub id: WorkspaceId,
    pub name: String,
    /// The time zone in which times are written as text, when one was given.
    pub time_zone: Option<Zone>,
    /// Its first key, which has every scope there.
    pub key: IssuedKey,
}

/// Adds the workspace described by `{"id", "name", "time_zone"}`, with its first key.
///
/// # Errors
/// Every problem of the document at once; [`ActionError::Exists`] when the id is in use.
pub async fn create_workspace(app: &App, actor: &Actor, body: &Value) -> Result<NewWorkspace, ActionError> {
    let mut problems = Problems::new();
    let read = read(body, &mut problems);
    let (id, name, own_zone) = problems.or(read)?;
    let mut tx = app.store.begin().await?;
    if !app.add_workspace(&mut tx, &id, &name).await? {
        return Err(ActionError::Exists("workspace"));
    }
    if let Some(zone) = &own_zone {
        workspaces::set_time_zone(&mut tx, &id, zone).await?;
    }
    let key = add_key(app, &mut tx, &id, FIRST_KEY, &[Scope::Admin]).await?;
    // This entry begins the new workspace's own audit list.
    let made = (AuditAction::WorkspaceCreated, id.as_str(), json!({}));
    record(app, &mut tx, &id, actor, &[made, key.told()]).await?;
    tx.commit().await?;
    Ok(NewWorkspace { id, name, time_zone: own_zone, key })
}

fn read(body: &Value, problems: &mut Problems) -> Option<(WorkspaceId, String, Option<Zone>)> {
    let mut object = Node::root(body).object(problems)?;
    let id = object.required("id", problems).and_then(|node| node.parsed(problems, WorkspaceId::parse));
    let name = object.required("name", problems).and_then(|node| node.filled(problems, MAX_NAME, Lines::One));
    let time_zone = object.get("time_zone").and_then(|node| node.parsed(problems, Zone::parse));
    object.finish(problems);
    Some((id?, name?.to_owned(), time_zone))
}
