//! Published templates whose cards' devices have still to be marked. Publishing writes one row here instead of one for
//! each card; a job goes through the cards at a limited rate.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    START = "INSERT INTO refreshes (workspace_id, template_id, last_card_id, started_at) VALUES ($1, $2, '', $3)
        ON CONFLICT (workspace_id, template_id) DO UPDATE SET last_card_id = '',
            started_at = excluded.started_at";
    // A time too far ahead was set before the clock went back.
    SET_FIRST = "UPDATE refreshes SET first_position = COALESCE(first_position, $3) WHERE workspace_id = $1 AND template_id = $2";
    NEXT = "SELECT workspace_id, template_id, last_card_id, first_position FROM refreshes WHERE next_at <= $1 OR next_at > $2
        ORDER BY CASE WHEN next_at > $2 THEN 0 ELSE next_at END, started_at LIMIT 1";
    CLAIM = "SELECT workspace_id, template_id, last_card_id, first_position FROM refreshes WHERE next_at <= $1 OR next_at > $2
        ORDER BY CASE WHEN next_at > $2 THEN 0 ELSE next_at END, started_at LIMIT 1" + " FOR UPDATE SKIP LOCKED";
    CARDS = "SELECT c.id FROM cards c WHERE c.workspace_id = $1 AND c.template_id = $2 AND c.id > $3 AND c.erased_at IS NULL
        AND EXISTS (SELECT 1 FROM registrations r WHERE r.workspace_id = c.workspace_id AND r.card_id = c.id)
        ORDER BY c.id LIMIT $4";
    ADVANCE = "UPDATE refreshes SET last_card_id = $3, next_at = $4 WHERE workspace_id = $1 AND template_id = $2";
    FINISH = "DELETE FROM refreshes WHERE workspace_id = $1 AND template_id = $2";
    IS_UNDER_WAY = "SELECT COUNT(*) FROM refreshes WHERE workspace_id = $1 AND template_id = $2";
    UNFINISHED = "SELECT COUNT(*) AS count, COALESCE(MIN(CASE WHEN next_at > $1 THEN 0 ELSE next_at END), 0) AS next_at
        FROM refreshes";
}

/// Begins, or begins again, to refresh a template's cards. Call it before taking the workspace's position: a refresh
/// locks this row while it waits for devices, and the transactions that hold those wait for the position.
///
/// # Errors
/// When the database fails.
pub async fn start(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    template: &TemplateId,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, START, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(template).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Records the publishing that a refresh was begun for, unless it still covers an earlier one.
///
/// # Errors
/// When the database fails.
pub async fn set_first(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    template: &TemplateId,
    position: i64,
) -> Result<(), StoreError> {
    on_db!(tx, SET_FIRST, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(template).bind(position).execute(c).await?;
        Ok(())
    })
}

/// A refresh under way.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Refresh {
    pub workspace_id: WorkspaceId,
    pub template_id: TemplateId,
    pub last_card_id: String,
    /// The first publishing that it covers; unknown for a refresh that began before this was recorded, or after a
    /// restore.
    pub first_position: Option<i64>,
}

/// Returns the refresh that [`claim`] would lock if no other node has one locked.
///
/// # Errors
/// When the database fails.
pub async fn next(
    session: &mut impl Session,
    now: Timestamp,
    too_late: Timestamp,
) -> Result<Option<Refresh>, StoreError> {
    on_db!(session, NEXT, |sql, c| Ok(sqlx::query_as(sql).bind(now).bind(too_late).fetch_optional(c).await?))
}

/// Returns the refresh that has waited longest of those that may continue now and that no other node has locked; it is
/// locked until the transaction ends. One scheduled for later than `too_late` may continue, too.
///
/// # Errors
/// When the database fails.
pub async fn claim(tx: &mut Tx, now: Timestamp, too_late: Timestamp) -> Result<Option<Refresh>, StoreError> {
    on_db!(tx, CLAIM, |sql, c| Ok(sqlx::query_as(sql).bind(now).bind(too_late).fetch_optional(c).await?))
}

/// Returns the next cards of a refresh that a device holds, ordered by id.
///
/// # Errors
/// When the database fails.
pub async fn next_cards(session: &mut impl Session, refresh: &Refresh, limit: i64) -> Result<Vec<CardId>, StoreError> {
    on_db!(session, CARDS, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&refresh.workspace_id).bind(&refresh.template_id);
        Ok(query.bind(&refresh.last_card_id).bind(limit).fetch_all(c).await?)
    })
}

/// Records the last card whose devices were marked, and when the refresh may continue.
///
/// # Errors
/// When the database fails.
pub async fn advance(tx: &mut Tx, refresh: &Refresh, last: &CardId, next_at: Timestamp) -> Result<(), StoreError> {
    on_db!(tx, ADVANCE, |sql, c| {
        let query = sqlx::query(sql).bind(&refresh.workspace_id).bind(&refresh.template_id);
        query.bind(last).bind(next_at).execute(c).await?;
        Ok(())
    })
}

/// Ends a refresh.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, refresh: &Refresh) -> Result<(), StoreError> {
    cancel(tx, &refresh.workspace_id, &refresh.template_id).await
}

/// Ends the refresh of a template, if there is one.
///
/// # Errors
/// When the database fails.
pub async fn cancel(tx: &mut Tx, workspace: &WorkspaceId, template: &TemplateId) -> Result<(), StoreError> {
    on_db!(tx, FINISH, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(template).execute(c).await?;
        Ok(())
    })
}

/// Whether a template's cards are being refreshed.
///
/// # Errors
/// When the database fails.
pub async fn is_under_way(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    template: &TemplateId,
) -> Result<bool, StoreError> {
    on_db!(session, IS_UNDER_WAY, |sql, c| {
        let count: i64 = sqlx::query_scalar(sql).bind(workspace).bind(template).fetch_one(c).await?;
        Ok(count > 0)
    })
}

/// The refreshes under way.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Unfinished {
    /// The number of refreshes.
    pub count: i64,
    /// When the first of them may continue.
    pub next_at: Timestamp,
}

/// Returns the refreshes under way. A time after `too_late` counts as past.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(session: &mut impl Session, too_late: Timestamp) -> Result<Unfinished, StoreError> {
    on_db!(session, UNFINISHED, |sql, c| Ok(sqlx::query_as(sql).bind(too_late).fetch_one(c).await?))
}
