//! After the database was restored from a backup: what phones were given since the backup is newer than what the database
//! knows of, so their tags and dates must not count any more.
//!
//! The workspace's order of commits goes on in a new epoch, which stands in the high digits of its positions: no tag of
//! before is as large. Every published template is placed in it, with a Last-Modified later than any that was given out,
//! so that every card has a new face, is listed to every phone whatever its tag, and is fetched whatever its date.

use std::time::Duration;

use crate::actions::error::ActionError;
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;
use crate::store::{Store, refreshes, templates, workspaces};

/// Positions of one epoch; a workspace would need years at a hundred thousand changes a second to use them up.
pub const EPOCH: i64 = 10_000_000_000_000;
/// Last-Modified grows by a second with every change, so it may have run ahead of the clock by as many as there were.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Raises the epoch of every workspace; how many there are.
///
/// # Errors
/// When the database fails. What was raised stays; doing it again does no harm.
pub async fn after_restore(store: &Store, now: Timestamp) -> Result<usize, ActionError> {
    let all = workspaces::all(&mut store.read().await?).await?;
    for workspace in &all {
        raise(store, workspace, now).await?;
    }
    Ok(all.len())
}

async fn raise(store: &Store, workspace: &WorkspaceId, now: Timestamp) -> Result<(), ActionError> {
    let mut tx = store.begin().await?;
    let published = templates::published(&mut tx, workspace).await?;
    for template in &published {
        // In the order in which a publishing takes them.
        templates::lock(&mut tx, workspace, template).await?;
        refreshes::start(&mut tx, workspace, template, now).await?;
    }
    let position = workspaces::raise_epoch(&mut tx, workspace, EPOCH).await?;
    for template in &published {
        templates::place_anew(&mut tx, workspace, template, position, now.plus(AHEAD).seconds()).await?;
    }
    Ok(tx.commit().await?)
}
