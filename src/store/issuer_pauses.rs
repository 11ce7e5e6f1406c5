//! Issuers whose credentials the wallet's service refuses. A pause is a fact about the credentials, so every node observes
//! it and it survives restarts; that a node can't reach the service concerns that node only and is kept in its memory.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{IssuerId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    ALL = "SELECT issuer_id, workspace_id, credentials, reason, since, probe_at, scheduled_at FROM issuer_pauses";
    BEGIN = "INSERT INTO issuer_pauses (issuer_id, workspace_id, credentials, reason, since, probe_at, scheduled_at)
        VALUES ($1, $2, $3, $4, $5, $6, $5) ON CONFLICT (issuer_id) DO NOTHING";
    TAKE_PROBE = "UPDATE issuer_pauses SET probe_at = $4, scheduled_at = $3
        WHERE issuer_id = $1 AND credentials = $2 AND (probe_at <= $3 OR scheduled_at > $3)";
    END = "DELETE FROM issuer_pauses WHERE issuer_id = $1 AND credentials = $2";
}

/// A pause.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Pause {
    /// The issuer.
    pub issuer_id: IssuerId,
    /// The workspace that owns the issuer.
    pub workspace_id: WorkspaceId,
    /// The fingerprint of the refused credentials.
    pub credentials: String,
    /// The service's reason.
    pub reason: String,
    /// When the pause began.
    pub since: Timestamp,
    /// When to try again.
    pub probe_at: Timestamp,
    /// When that time was set.
    pub scheduled_at: Timestamp,
}

impl Pause {
    /// Whether it is time for a probe. Also true when the clock went back to before the probe was scheduled.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.probe_at <= now || self.scheduled_at > now
    }
}

/// Returns all pauses.
///
/// # Errors
/// When the database fails.
pub async fn all(session: &mut impl Session) -> Result<Vec<Pause>, StoreError> {
    on_db!(session, ALL, |sql, c| Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Begins a pause; false when there is one already.
///
/// # Errors
/// When the database fails.
pub async fn begin(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    issuer: &IssuerId,
    credentials: &str,
    reason: &str,
    now: Timestamp,
    probe_at: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, BEGIN, |sql, c| {
        let query = sqlx::query(sql).bind(issuer).bind(workspace).bind(credentials).bind(reason);
        Ok(query.bind(now).bind(probe_at).execute(c).await?.rows_affected() == 1)
    })
}

/// Takes the probe that is due and schedules the next one; false when another node took it.
///
/// # Errors
/// When the database fails.
pub async fn take_probe(
    tx: &mut Tx,
    issuer: &IssuerId,
    credentials: &str,
    now: Timestamp,
    next: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, TAKE_PROBE, |sql, c| {
        let query = sqlx::query(sql).bind(issuer).bind(credentials).bind(now).bind(next);
        Ok(query.execute(c).await?.rows_affected() == 1)
    })
}

/// Ends the pause of these credentials; false when there is none.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, issuer: &IssuerId, credentials: &str) -> Result<bool, StoreError> {
    on_db!(tx, END, |sql, c| {
        Ok(sqlx::query(sql).bind(issuer).bind(credentials).execute(c).await?.rows_affected() == 1)
    })
}
