//! Workspaces, their order of commits, and the pass types that belong to them.

use super::types::one_row;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::values::zone::Zone;

statements! {
    INSERT = "INSERT INTO workspaces (id, name, position, secret, created_at) VALUES ($1, $2, 0, $3, $4) ON CONFLICT (id) DO NOTHING";
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
    CLAIM_PASS_TYPE = "INSERT INTO pass_types (id, workspace_id, team, created_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (id) DO UPDATE SET team = excluded.team WHERE pass_types.workspace_id = excluded.workspace_id";
    HOLD = "SELECT id FROM workspaces WHERE id = $1" + " FOR NO KEY UPDATE";
    HOLD_PASS_TYPE = "SELECT workspace_id FROM pass_types WHERE id = $1" + " FOR NO KEY UPDATE";
    MOVE_PASS_TYPE = "UPDATE pass_types SET workspace_id = $2, team = $3 WHERE id = $1";
    PASS_ABOVE = "UPDATE workspaces SET position = (SELECT MAX(o.position) FROM workspaces o WHERE o.id = $1 OR o.id = $2) WHERE id = $1";
    PASS_TYPE_OWNER = "SELECT workspace_id FROM pass_types WHERE id = $1";
}

/// Adds a workspace unless it is there, and says whether it did. `secret` is encrypted.
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

/// Gives a workspace a time zone of its own.
///
/// # Errors
/// When the database fails.
pub async fn set_time_zone(tx: &mut Tx, id: &WorkspaceId, zone: &Zone) -> Result<(), StoreError> {
    on_db!(tx, SET_TIME_ZONE, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(zone.as_str()).execute(c).await?;
        one_row(done.rows_affected(), "workspaces")
    })
}

/// The name of a workspace's own time zone, when it has one.
///
/// # Errors
/// When the database fails.
pub async fn time_zone(session: &mut impl Session, id: &WorkspaceId) -> Result<Option<String>, StoreError> {
    on_db!(session, TIME_ZONE, |sql, c| {
        let found: Option<Option<String>> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        Ok(found.flatten())
    })
}

/// A workspace's encrypted secret; `None` when there is no such workspace.
///
/// # Errors
/// When the database fails.
pub async fn secret(session: &mut impl Session, id: &WorkspaceId) -> Result<Option<Vec<u8>>, StoreError> {
    on_db!(session, SECRET, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// The next place in the workspace's order of commits: positions are visible in the order in which they were taken,
/// because the counter's row stays locked until this transaction ends. Take it as late as possible.
///
/// # Errors
/// When the database fails.
pub async fn next_position(tx: &mut Tx, id: &WorkspaceId) -> Result<i64, StoreError> {
    on_db!(tx, TAKE_POSITION, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Like [`next_position`] for a change of cards: also the moment that they carry as `updated_at`, which grows with the
/// position, also when the clock goes back. So `updated_since` misses nothing that commits later.
///
/// # Errors
/// When the database fails.
pub async fn reserve_sequence(tx: &mut Tx, id: &WorkspaceId, now: Timestamp) -> Result<(i64, Timestamp), StoreError> {
    on_db!(tx, TAKE_PLACE, |sql, c| {
        let place: Option<(i64, Timestamp)> = sqlx::query_as(sql).bind(id).bind(now).fetch_optional(c).await?;
        place.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// The first place of the next epoch of so many positions in the workspace's order of commits, taken as by
/// [`next_position`].
///
/// # Errors
/// When the database fails.
pub async fn raise_epoch(tx: &mut Tx, id: &WorkspaceId, epoch: i64) -> Result<i64, StoreError> {
    on_db!(tx, RAISE_EPOCH, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).bind(epoch).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// Every workspace.
///
/// # Errors
/// When the database fails.
pub async fn all(session: &mut impl Session) -> Result<Vec<WorkspaceId>, StoreError> {
    on_db!(session, ALL, |sql, c| Ok(sqlx::query_scalar(sql).fetch_all(c).await?))
}

/// The newest position whose transaction, and therefore every earlier one, is visible to what is read after this.
///
/// # Errors
/// When the database fails.
pub async fn position(session: &mut impl Session, id: &WorkspaceId) -> Result<i64, StoreError> {
    on_db!(session, POSITION, |sql, c| {
        let position: Option<i64> = sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?;
        position.ok_or(StoreError::RowGone("workspaces"))
    })
}

/// FetchRecorder that a pass type belongs to a workspace. A pass type belongs to one workspace only, since phones keep one
/// update tag per pass type.
///
/// # Errors
/// [`StoreError::RowGone`] when it belongs to another workspace.
pub async fn claim_pass_type(
    tx: &mut Tx,
    id: &PassTypeId,
    workspace: &WorkspaceId,
    team: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, CLAIM_PASS_TYPE, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(workspace).bind(team).bind(now).execute(c).await?;
        one_row(done.rows_affected(), "pass_types")
    })
}

/// The workspace to which a pass type belongs.
///
/// # Errors
/// When the database fails.
pub async fn pass_type_owner(session: &mut impl Session, id: &PassTypeId) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, PASS_TYPE_OWNER, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// Holds a workspace until the transaction ends: whatever takes its place in the order of commits waits.
///
/// # Errors
/// When the database fails.
pub async fn hold(tx: &mut Tx, id: &WorkspaceId) -> Result<(), StoreError> {
    on_db!(tx, HOLD, |sql, c| {
        sqlx::query(sql).bind(id).fetch_optional(c).await?;
        Ok(())
    })
}

/// As [`pass_type_owner`], and nobody else is given the pass type until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn hold_pass_type(tx: &mut Tx, id: &PassTypeId) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(tx, HOLD_PASS_TYPE, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// Gives a pass type to another workspace. Its positions go on above those of the former: phones keep one update tag for each
/// pass type, whoever has it. Both workspaces are held.
///
/// # Errors
/// When the database fails.
pub async fn move_pass_type(
    tx: &mut Tx,
    id: &PassTypeId,
    from: &WorkspaceId,
    to: &WorkspaceId,
    team: &str,
) -> Result<(), StoreError> {
    on_db!(tx, MOVE_PASS_TYPE, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(to).bind(team).execute(c).await?;
        one_row(done.rows_affected(), "pass_types")?;
    });
    on_db!(tx, PASS_ABOVE, |sql, c| {
        sqlx::query(sql).bind(to).bind(from).execute(c).await?;
        Ok(())
    })
}
