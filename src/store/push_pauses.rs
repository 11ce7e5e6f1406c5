//! Pass types whose certificate APNs refuses. A pause is a fact about the certificate, so every node observes it and it
//! survives restarts; that a node can't reach APNs concerns that node only and is kept in its memory.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    ALL = "SELECT pass_type_id, workspace_id, certificate, reason, since, probe_at, scheduled_at FROM push_pauses";
    BEGIN = "INSERT INTO push_pauses (pass_type_id, workspace_id, certificate, reason, since, probe_at, scheduled_at)
        VALUES ($1, $2, $3, $4, $5, $6, $5) ON CONFLICT (pass_type_id) DO NOTHING";
    TAKE_PROBE = "UPDATE push_pauses SET probe_at = $4, scheduled_at = $3
        WHERE pass_type_id = $1 AND certificate = $2 AND (probe_at <= $3 OR scheduled_at > $3)";
    END = "DELETE FROM push_pauses WHERE pass_type_id = $1 AND certificate = $2";
}

/// A pause.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Pause {
    /// The pass type.
    pub pass_type_id: PassTypeId,
    /// The workspace that owns the pass type.
    pub workspace_id: WorkspaceId,
    /// The fingerprint of the refused certificate.
    pub certificate: String,
    /// The push service's reason.
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
    pass_type: &PassTypeId,
    certificate: &str,
    reason: &str,
    now: Timestamp,
    probe_at: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, BEGIN, |sql, c| {
        let query = sqlx::query(sql).bind(pass_type).bind(workspace).bind(certificate).bind(reason);
        Ok(query.bind(now).bind(probe_at).execute(c).await?.rows_affected() == 1)
    })
}

/// Takes the probe that is due and schedules the next one; false when another node took it.
///
/// # Errors
/// When the database fails.
pub async fn take_probe(
    tx: &mut Tx,
    pass_type: &PassTypeId,
    certificate: &str,
    now: Timestamp,
    next: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, TAKE_PROBE, |sql, c| {
        let query = sqlx::query(sql).bind(pass_type).bind(certificate).bind(now).bind(next);
        Ok(query.execute(c).await?.rows_affected() == 1)
    })
}

/// Ends the pause of that certificate; false when there is none.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, pass_type: &PassTypeId, certificate: &str) -> Result<bool, StoreError> {
    on_db!(tx, END, |sql, c| {
        Ok(sqlx::query(sql).bind(pass_type).bind(certificate).execute(c).await?.rows_affected() == 1)
    })
}
