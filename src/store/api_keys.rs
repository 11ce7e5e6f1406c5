//! API keys: what each allows its bearer to do. A key is stored as the SHA-256 of its secret.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::WorkspaceId;
use crate::domain::time::Timestamp;

statements! {
    INSERT = "INSERT INTO api_keys (id, workspace_id, name, hash, scopes, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    REVOKE_NAMED = "UPDATE api_keys SET revoked_at = $3 WHERE workspace_id = $1 AND name = $2 AND revoked_at IS NULL
        RETURNING id";
    REVOKE = "UPDATE api_keys SET revoked_at = $3 WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL";
    EXISTS = "SELECT id FROM api_keys WHERE workspace_id = $1 AND id = $2";
    LIST = "SELECT id, name, scopes, created_at, revoked_at FROM api_keys WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    FIND = "SELECT id, workspace_id, scopes FROM api_keys WHERE hash = $1 AND revoked_at IS NULL";
}

/// A new key; `hash` is its secret's SHA-256, `scopes` are separated by spaces.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NewApiKey<'a> {
    pub id: &'a str,
    pub workspace: &'a WorkspaceId,
    pub name: &'a str,
    pub hash: &'a [u8],
    pub scopes: &'a str,
    pub created_at: Timestamp,
}

/// Adds a key.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, key: &NewApiKey<'_>) -> Result<(), StoreError> {
    on_db!(tx, INSERT, |sql, c| {
        let query = sqlx::query(sql).bind(key.id).bind(key.workspace).bind(key.name);
        query.bind(key.hash).bind(key.scopes).bind(key.created_at).execute(c).await?;
        Ok(())
    })
}

/// Revokes the workspace's keys of that name and returns their ids.
///
/// # Errors
/// When the database fails.
pub async fn revoke_named(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    name: &str,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    on_db!(tx, REVOKE_NAMED, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(workspace).bind(name).bind(now).fetch_all(c).await?)
    })
}

/// Returns the id, workspace and scopes of the key with that hash, unless it was revoked.
///
/// # Errors
/// When the database fails.
pub async fn find(
    session: &mut impl Session,
    hash: &[u8],
) -> Result<Option<(String, WorkspaceId, String)>, StoreError> {
    on_db!(session, FIND, |sql, c| Ok(sqlx::query_as(sql).bind(hash).fetch_optional(c).await?))
}

/// A key as lists show it, without anything of its secret.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct ListedKey {
    pub id: String,
    pub name: String,
    /// Separated by spaces.
    pub scopes: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// Returns the workspace's keys ordered by id, which is the order of their creation.
///
/// # Errors
/// When the database fails.
pub async fn list(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<ListedKey>, StoreError> {
    on_db!(session, LIST, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(after).bind(limit).fetch_all(c).await?))
}

/// Revokes a key of the workspace; false when the workspace has none of that id, or the key is revoked already and
/// keeps the time of that.
///
/// # Errors
/// When the database fails.
pub async fn revoke(tx: &mut Tx, workspace: &WorkspaceId, id: &str, now: Timestamp) -> Result<bool, StoreError> {
    on_db!(tx, REVOKE, |sql, c| {
        let done = sqlx::query(sql).bind(workspace).bind(id).bind(now).execute(c).await?;
        Ok(done.rows_affected() == 1)
    })
}

/// Whether the workspace has a key of that id, revoked or not.
///
/// # Errors
/// When the database fails.
pub async fn exists(session: &mut impl Session, workspace: &WorkspaceId, id: &str) -> Result<bool, StoreError> {
    on_db!(session, EXISTS, |sql, c| {
        let found: Option<String> = sqlx::query_scalar(sql).bind(workspace).bind(id).fetch_optional(c).await?;
        Ok(found.is_some())
    })
}
