//! The audit list, who changed what and when: recording and reading it.

use serde_json::Value;

use super::error::ActionError;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::WorkspaceId;
use crate::platform::random::uuid;
use crate::store::audit::{self, Filter, NewEntry, Page, Place};
use crate::store::{Tx, workspaces};

/// Records in the caller's transaction what `actor` does: for each action its kind, the id of the thing it is done to,
/// and further data. Takes the workspace's next position, so it comes last.
///
/// # Errors
/// When the database fails.
pub async fn record(
    app: &App,
    tx: &mut Tx,
    workspace: &WorkspaceId,
    actor: &Actor,
    done: &[(AuditAction, &str, Value)],
) -> Result<(), ActionError> {
    if done.is_empty() {
        return Ok(());
    }
    let now = app.now();
    let entries = done.iter().map(|(action, subject, data)| {
        Ok(NewEntry { id: uuid(&*app.random, now)?, action: *action, subject, data: data.clone() })
    });
    let entries = entries.collect::<Result<Vec<_>, ActionError>>()?;
    let position = workspaces::next_position(tx, workspace).await?;
    Ok(audit::record(tx, workspace, actor, position, now, &entries).await?)
}

/// Returns a page of a workspace's audit list after a position.
///
/// # Errors
/// When the database fails.
pub async fn audit_list(
    app: &App,
    workspace: &WorkspaceId,
    filter: &Filter,
    after: Place,
    limit: usize,
) -> Result<Page, ActionError> {
    Ok(audit::after(&mut app.store.read().await?, workspace, filter, after, limit).await?)
}
