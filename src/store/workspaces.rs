//! Workspaces and their order of commits.

use super::types::one_row;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;
use crate::domain::values::zone::Zone;

statements! {
    INSERT = "INSERT INTO workspaces (id, name, position, changed_at, secret, created_at) VALUES ($1, $2, 0, 0, $3, $4) ON CONFLICT (id) DO NOTHING";
    SET_TIME_ZONE = "UPDATE workspaces SET time_zone = $2 WHERE id = $1";
    TIME_ZONE = "SELECT time_zone FROM workspaces WHERE id = $1";
    SECRET = "SELECT secret FROM workspaces WHERE id = $1";
    TAKE_POSITION = "UPDATE workspaces SET position = position + 1 WHERE id = $1 RETURNING position";
    TAKE_PLACE = "UPDATE workspaces SET position = position + 1,
            changed_at = CASE WHEN changed_at < $2 THEN $2 ELSE changed_at + 1 END
        WHERE id = $1 RETURNING position, changed_at";
    RAISE_EPOCH = "UPDATE workspaces SET position = (position / $2 + 1) * $2 WHERE id = $1 RETURNING position";
    ALL = "SELECT id FROM workspaces ORDER BY id";
    POSITION = "SELECT position FROM workspaces WHERE id = $1";
    HOLD = "SELECT id FROM workspaces WHERE id = $1" + " FOR NO KEY UPDATE";
}

/// Adds a workspace unless it exists; returns whether it was added. `secret` is encrypted.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    tx: &mut Tx,
    id: &WorkspaceId,
    name: &str,
    secret: &[u8],
    now: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, INSERT, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(name).bind(secret).bind(now).execute(c).await?;
        Ok(done.rows_affected() == 1)
    })
}

/// Sets a workspace's own time zone.
///
/// # Errors
/// When the database fails.
pub async fn set_time_zone(tx: &mut Tx, id: &WorkspaceId, zone: &Zone) -> Result<(), StoreError> {
    on_db!(tx, SET_TIME_ZONE, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(zone.as_str()).execute(c).await?;
        one_row(done.rows_affected(), "workspaces")
    })
}

/// Returns the name of a workspace's own time zone, if it has one.
///
/// # Errors
/// When the database fails.
pub async fn time_zone(session: &mut impl Session, id: &WorkspaceId) -> Result<Option<String>, StoreError> {
    on_db!(session, TIME_ZONE, |sql, c| {
        let found: Option<Option<String>> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        Ok(found.flatten())
    })
}

/// Returns a workspace's encrypted secret; `None` when there is no such workspace.
///
/// # Errors
/// When the database fails.
pub async fn secret(session: &mut impl Session, id: &WorkspaceId) -> Result<Option<Vec<u8>>, StoreError> {
    on_db!(session, SECRET, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// Returns the next position in the workspace's order of commits. Positions become visible in the order in which they
/// were taken, because the counter's row stays locked until this transaction ends. Take it as late as possible.
///
/// # Errors
/// When the database fails.
pub async fn next_position(tx: &mut Tx, id: &WorkspaceId) -> Result<i64, StoreError> {
    on_db!(tx, TAKE_POSITION, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Returns the next position for a change of cards, like [`next_position`], with the time to store as `updated_at`.
/// That time grows with the position, even when the clock goes back, so `updated_since` misses nothing that commits
/// later.
///
/// # Errors
/// When the database fails.
pub async fn reserve_sequence(tx: &mut Tx, id: &WorkspaceId, now: Timestamp) -> Result<(i64, Timestamp), StoreError> {
    on_db!(tx, TAKE_PLACE, |sql, c| {
        let place: Option<(i64, Timestamp)> = sqlx::query_as(sql).bind(id).bind(now).fetch_optional(c).await?;
        place.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Returns the first position of the workspace's next epoch, taken as by [`next_position`]; `epoch` is the number of
/// positions in an epoch.
///
/// # Errors
/// When the database fails.
pub async fn raise_epoch(tx: &mut Tx, id: &WorkspaceId, epoch: i64) -> Result<i64, StoreError> {
    on_db!(tx, RAISE_EPOCH, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).bind(epoch).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Returns every workspace.
///
/// # Errors
/// When the database fails.
pub async fn all(session: &mut impl Session) -> Result<Vec<WorkspaceId>, StoreError> {
    on_db!(session, ALL, |sql, c| Ok(sqlx::query_scalar(sql).fetch_all(c).await?))
}

/// Returns the newest position whose transaction, like every earlier one, is visible to reads after this one.
///
/// # Errors
/// When the database fails.
pub async fn position(session: &mut impl Session, id: &WorkspaceId) -> Result<i64, StoreError> {
    on_db!(session, POSITION, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Locks a workspace until the transaction ends: transactions that want a position wait.
///
/// # Errors
/// When the database fails.
pub async fn hold(tx: &mut Tx, id: &WorkspaceId) -> Result<(), StoreError> {
    on_db!(tx, HOLD, |sql, c| {
        sqlx::query(sql).bind(id).fetch_optional(c).await?;
        Ok(())
    })
}
