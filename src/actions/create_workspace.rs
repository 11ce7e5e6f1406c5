//! Adds a workspace with its first key.

use serde_json::Value;

use super::api_keys::{IssuedKey, MAX_NAME, Scope, add_key};
use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::domain::input::{Lines, Node, Problems};

/// The name of the key that comes with a workspace.
const FIRST_KEY: &str = "first";

/// Adds the workspace of `{"id", "name"}`; it and its first key, which allows everything there.
///
/// # Errors
/// Every problem of the document at once; [`ActionError::Exists`] when the id is taken.
pub async fn create_workspace(app: &App, body: &Value) -> Result<(WorkspaceId, String, IssuedKey), ActionError> {
    let mut problems = Problems::new();
    let read = read(body, &mut problems);
    let (id, name) = problems.or(read)?;
    let mut tx = app.store.begin().await?;
    if !app.add_workspace(&mut tx, &id, &name).await? {
        return Err(ActionError::Exists("workspace"));
    }
    let key = add_key(app, &mut tx, &id, FIRST_KEY, &[Scope::Admin]).await?;
    tx.commit().await?;
    Ok((id, name, key))
}

fn read(body: &Value, problems: &mut Problems) -> Option<(WorkspaceId, String)> {
    let mut object = Node::root(body).object(problems)?;
    let id = object.required("id", problems).and_then(|node| node.parsed(problems, WorkspaceId::parse));
    let name = object.required("name", problems).and_then(|node| node.filled(problems, MAX_NAME, Lines::One));
    object.finish(problems);
    Some((id?, name?.to_owned()))
}
