//! Who changed what and when: as it is noted, and as it is read.

use serde_json::Value;

use super::error::ActionError;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::WorkspaceId;
use crate::platform::random::uuid;
use crate::store::audit::{self, Filter, NewEntry, Page, Place};
use crate::store::{Tx, workspaces};

/// FetchRecorder in the caller's transaction what `actor` does: an action each, the id of what it is done to, and what else there is
/// to say of it. Takes the workspace's position, so it comes last.
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

/// A workspace's audit list after a place.
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
