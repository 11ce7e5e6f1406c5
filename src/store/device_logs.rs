//! Log entries that phones send, one row for each form of message.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    // A new form is stored while the workspace has fewer than the most; a known one is always counted.
    NOTE = "INSERT INTO device_logs (workspace_id, form, pass_type_id, message, count, first_at, last_at, serial_number, device)
        SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT),
            CAST($6 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS TEXT), CAST($8 AS TEXT)
        WHERE (SELECT COUNT(*) FROM device_logs WHERE workspace_id = $1) < $9
            OR EXISTS (SELECT 1 FROM device_logs WHERE workspace_id = $1 AND form = $2)
        ON CONFLICT (workspace_id, form) DO UPDATE SET count = device_logs.count + excluded.count, last_at = excluded.last_at,
            serial_number = COALESCE(excluded.serial_number, device_logs.serial_number),
            device = COALESCE(excluded.device, device_logs.device)";
    NEWEST = "SELECT form, pass_type_id, message, count, first_at, last_at, serial_number, device FROM device_logs
        WHERE workspace_id = $1 AND (last_at < $2 OR (last_at = $2 AND form > $3)) ORDER BY last_at DESC, form LIMIT $4";
    FORGET = "DELETE FROM device_logs WHERE last_at < $1 OR (workspace_id, form) IN (
        SELECT workspace_id, form FROM (SELECT workspace_id, form,
            ROW_NUMBER() OVER (PARTITION BY workspace_id ORDER BY last_at DESC, form) AS place FROM device_logs) AS placed
        WHERE place > $2)";
    ONLY_PASS_TYPE = "SELECT MIN(id) FROM issuers WHERE wallet = 'apple' HAVING COUNT(*) = 1";
}

/// A group of messages of the same form.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Group {
    /// The form's fingerprint.
    pub form: String,
    /// The pass type.
    pub pass_type_id: PassTypeId,
    /// The message, with placeholders for what differs between messages of the form.
    pub message: String,
    /// The number of messages.
    pub count: i64,
    /// When the first one came.
    pub first_at: Timestamp,
    /// When the last one came.
    pub last_at: Timestamp,
    /// The serial number in the last one.
    pub serial_number: Option<String>,
    /// The short form of the device in the last one.
    pub device: Option<String>,
}

/// Adds a group's messages to the counts; ignores a new group when the workspace has `most` already.
///
/// # Errors
/// When the database fails.
pub async fn note(tx: &mut Tx, workspace: &WorkspaceId, group: &Group, most: i64) -> Result<(), StoreError> {
    on_db!(tx, NOTE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(&group.form).bind(&group.pass_type_id).bind(&group.message);
        let query = query.bind(group.count).bind(group.last_at).bind(&group.serial_number).bind(&group.device);
        query.bind(most).execute(c).await?;
        Ok(())
    })
}

/// Returns the groups whose last message came before `after`, newest first.
///
/// # Errors
/// When the database fails.
pub async fn newest(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<Group>, StoreError> {
    on_db!(session, NEWEST, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(after.0).bind(after.1).bind(limit).fetch_all(c).await?)
    })
}

/// Deletes groups whose last message came before `oldest`, and in each workspace all but the `most` newest.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, oldest: Timestamp, most: i64) -> Result<u64, StoreError> {
    on_db!(tx, FORGET, |sql, c| Ok(sqlx::query(sql).bind(oldest).bind(most).execute(c).await?.rows_affected()))
}

/// Returns the pass type when there is only one.
///
/// # Errors
/// When the database fails.
pub async fn only_pass_type(session: &mut impl Session) -> Result<Option<PassTypeId>, StoreError> {
    on_db!(session, ONLY_PASS_TYPE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_optional(c).await?))
}
