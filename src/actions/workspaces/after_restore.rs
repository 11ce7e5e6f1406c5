//! Prepares the workspaces after the database was restored from a backup: phones received newer data since the backup
//! than the database knows of, so their tags and dates must no longer count.
//!
//! The workspace's positions continue in a new epoch, which forms their high digits: no earlier tag is as large. Every
//! published template gets a position in it, with a `Last-Modified` later than any that was sent. So every card has a
//! new face, is listed to every phone whatever its tag, and is fetched whatever its date.

use std::time::Duration;

use crate::actions::error::ActionError;
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;
use crate::store::fan_outs::{self, FanOutKey};
use crate::store::{Store, templates, workspaces};

/// The number of positions in an epoch. A workspace would need years at a hundred thousand changes a second to use them
/// up.
pub const EPOCH: i64 = 10_000_000_000_000;
/// How far `Last-Modified` may be ahead of the clock: it grows by a second with every change.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Raises the epoch of every workspace; returns how many there are.
///
/// # Errors
/// When the database fails. Epochs raised before that stay raised; repeating it does no harm.
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
        // In the same lock order as publishing.
        templates::lock(&mut tx, workspace, template).await?;
        fan_outs::start(&mut tx, &FanOutKey::publishing(workspace, template), now).await?;
    }
    let position = workspaces::raise_epoch(&mut tx, workspace, EPOCH).await?;
    for template in &published {
        templates::place_anew(&mut tx, workspace, template, position, now.plus(AHEAD).seconds()).await?;
    }
    Ok(tx.commit().await?)
}
