//! Requests with an Idempotency-Key, and their stored answers.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;

statements! {
    CLAIM = "INSERT INTO idempotent_requests (workspace_id, idempotency_key, fingerprint, token, started_at, answer)
        VALUES ($1, $2, $3, $4, $5, NULL)
        ON CONFLICT (workspace_id, idempotency_key) DO UPDATE SET
            fingerprint = excluded.fingerprint, token = excluded.token, started_at = excluded.started_at, answer = NULL
        WHERE idempotent_requests.started_at <= $6
            OR (idempotent_requests.answer IS NULL AND idempotent_requests.started_at <= $7
                AND idempotent_requests.fingerprint = excluded.fingerprint)";
    FIND = "SELECT fingerprint, answer FROM idempotent_requests WHERE workspace_id = $1 AND idempotency_key = $2";
    FINISH = "UPDATE idempotent_requests SET answer = $4 WHERE workspace_id = $1 AND idempotency_key = $2 AND token = $3";
    ABANDON = "DELETE FROM idempotent_requests WHERE workspace_id = $1 AND idempotency_key = $2 AND token = $3";
    PRUNE = "DELETE FROM idempotent_requests WHERE started_at <= $1";
}

/// A request with an Idempotency-Key; `token` names the attempt.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Attempt {
    pub workspace: WorkspaceId,
    pub key: String,
    pub fingerprint: Vec<u8>,
    pub token: String,
}

/// Claims the key for this attempt: when it is free, when its request is older than `forgotten`, or when the same
/// request has been unanswered since `given_up`. Returns false when another attempt has it.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &mut Tx,
    attempt: &Attempt,
    now: Timestamp,
    forgotten: Timestamp,
    given_up: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, CLAIM, |sql, c| {
        let query = sqlx::query(sql).bind(&attempt.workspace).bind(&attempt.key).bind(&attempt.fingerprint);
        let query = query.bind(&attempt.token).bind(now).bind(forgotten).bind(given_up);
        Ok(query.execute(c).await?.rows_affected() == 1)
    })
}

/// Returns the request stored under the key, and its answer, encrypted.
///
/// # Errors
/// When the database fails.
#[allow(clippy::type_complexity)]
pub async fn find(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    key: &str,
) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, StoreError> {
    on_db!(session, FIND, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(key).fetch_optional(c).await?))
}

/// Stores the answer.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, attempt: &Attempt, answer: &[u8]) -> Result<(), StoreError> {
    on_db!(tx, FINISH, |sql, c| {
        let query = sqlx::query(sql).bind(&attempt.workspace).bind(&attempt.key).bind(&attempt.token);
        query.bind(answer).execute(c).await?;
        Ok(())
    })
}

/// Releases the key: a repetition counts as a first request.
///
/// # Errors
/// When the database fails.
pub async fn abandon(tx: &mut Tx, attempt: &Attempt) -> Result<(), StoreError> {
    on_db!(tx, ABANDON, |sql, c| {
        sqlx::query(sql).bind(&attempt.workspace).bind(&attempt.key).bind(&attempt.token).execute(c).await?;
        Ok(())
    })
}

/// Deletes requests that began at that time or earlier, and returns how many those were.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, until: Timestamp) -> Result<u64, StoreError> {
    on_db!(tx, PRUNE, |sql, c| Ok(sqlx::query(sql).bind(until).execute(c).await?.rows_affected()))
}
