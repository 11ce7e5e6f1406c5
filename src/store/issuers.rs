//! The issuers of workspaces, and the certificates of Apple issuers as configured through the API.

use super::types::one_row;
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{IssuerId, PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;

statements! {
    CLAIM = "INSERT INTO issuers (id, workspace_id, wallet, account, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET account = excluded.account WHERE issuers.workspace_id = excluded.workspace_id";
    OWNER = "SELECT workspace_id FROM issuers WHERE id = $1";
    HOLD = "SELECT workspace_id FROM issuers WHERE id = $1" + " FOR NO KEY UPDATE";
    MOVE = "UPDATE issuers SET workspace_id = $2, account = $3 WHERE id = $1";
    PASS_ABOVE = "UPDATE workspaces SET position = (SELECT MAX(o.position) FROM workspaces o WHERE o.id = $1 OR o.id = $2) WHERE id = $1";
    PUT_APPLE = "INSERT INTO apple_certificates (workspace_id, pass_type_id, fingerprint, sealed, set_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (workspace_id, pass_type_id, fingerprint) DO UPDATE SET sealed = excluded.sealed, set_at = excluded.set_at";
    LIST_APPLE = "SELECT workspace_id, pass_type_id, fingerprint, set_at FROM apple_certificates";
    SEALED_APPLE = "SELECT sealed FROM apple_certificates WHERE workspace_id = $1 AND pass_type_id = $2 AND fingerprint = $3";
    NEWEST_APPLE = "SELECT COALESCE(MAX(set_at), 0) FROM apple_certificates WHERE workspace_id = $1";
    COUNT_BESIDE = "SELECT COUNT(*) FROM apple_certificates WHERE workspace_id = $1 AND fingerprint <> $2";
    OF_PASS_TYPE = "SELECT workspace_id, pass_type_id, fingerprint, set_at FROM apple_certificates
        WHERE workspace_id = $1 AND pass_type_id = $2";
    REMOVE_APPLE = "DELETE FROM apple_certificates WHERE workspace_id = $1 AND fingerprint = $2";
    REMOVE_OF_PASS_TYPE = "DELETE FROM apple_certificates WHERE workspace_id = $1 AND pass_type_id = $2";
    COUNT_APPLE = "SELECT COUNT(*) FROM apple_certificates";
}

/// Records that an issuer belongs to a workspace. It belongs to one workspace only: an Apple device keeps one update tag
/// per pass type. `account` is how the wallet's maker knows its owner.
///
/// # Errors
/// [`StoreError::RowGone`] when it belongs to another workspace.
pub async fn claim(
    tx: &mut Tx,
    id: &IssuerId,
    workspace: &WorkspaceId,
    (wallet, account): (WalletKind, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, CLAIM, |sql, c| {
        let query = sqlx::query(sql).bind(id).bind(workspace).bind(wallet.as_str()).bind(account).bind(now);
        one_row(query.execute(c).await?.rows_affected(), "issuers")
    })
}

/// Returns the workspace to which an issuer belongs.
///
/// # Errors
/// When the database fails.
pub async fn owner(session: &mut impl Session, id: &IssuerId) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(session, OWNER, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// Returns the same as [`owner`], and prevents the issuer from being given away until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn hold(tx: &mut Tx, id: &IssuerId) -> Result<Option<WorkspaceId>, StoreError> {
    on_db!(tx, HOLD, |sql, c| Ok(sqlx::query_scalar(sql).bind(id).fetch_optional(c).await?))
}

/// Gives an issuer to another workspace. Its positions continue above those of the former owner, since Apple's devices
/// keep one update tag per pass type, whichever workspace owns it. Locks both workspaces.
///
/// # Errors
/// When the database fails.
pub async fn move_to(
    tx: &mut Tx,
    id: &IssuerId,
    from: &WorkspaceId,
    to: &WorkspaceId,
    account: &str,
) -> Result<(), StoreError> {
    on_db!(tx, MOVE, |sql, c| {
        let done = sqlx::query(sql).bind(id).bind(to).bind(account).execute(c).await?;
        one_row(done.rows_affected(), "issuers")?;
    });
    on_db!(tx, PASS_ABOVE, |sql, c| {
        sqlx::query(sql).bind(to).bind(from).execute(c).await?;
        Ok(())
    })
}

/// The key of a certificate, with the time when it was last stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct AppleCertificateKey {
    #[sqlx(rename = "workspace_id")]
    pub workspace: WorkspaceId,
    #[sqlx(rename = "pass_type_id")]
    pub pass_type: PassTypeId,
    pub fingerprint: String,
    pub set_at: Timestamp,
}

/// Adds a certificate beside the others, or stores the same one again. `sealed` is encrypted.
///
/// # Errors
/// When the database fails.
pub async fn put_apple(tx: &mut Tx, key: &AppleCertificateKey, sealed: &[u8]) -> Result<(), StoreError> {
    on_db!(tx, PUT_APPLE, |sql, c| {
        let query = sqlx::query(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.fingerprint);
        query.bind(sealed).bind(key.set_at).execute(c).await?;
        Ok(())
    })
}

/// Returns when a workspace's newest certificate was stored; the earliest time when it has none.
///
/// # Errors
/// When the database fails.
pub async fn newest_apple(session: &mut impl Session, workspace: &WorkspaceId) -> Result<Timestamp, StoreError> {
    on_db!(session, NEWEST_APPLE, |sql, c| Ok(sqlx::query_scalar(sql).bind(workspace).fetch_one(c).await?))
}

/// Returns every certificate of every workspace, without its secrets.
///
/// # Errors
/// When the database fails.
pub async fn list_apple(session: &mut impl Session) -> Result<Vec<AppleCertificateKey>, StoreError> {
    on_db!(session, LIST_APPLE, |sql, c| Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Returns what [`put_apple`] stored.
///
/// # Errors
/// When the database fails.
pub async fn sealed_apple(
    session: &mut impl Session,
    key: &AppleCertificateKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    on_db!(session, SEALED_APPLE, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(&key.workspace).bind(&key.pass_type).bind(&key.fingerprint);
        Ok(query.fetch_optional(c).await?)
    })
}

/// Returns the number of certificates.
///
/// # Errors
/// When the database fails.
pub async fn count_apple(session: &mut impl Session) -> Result<i64, StoreError> {
    on_db!(session, COUNT_APPLE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns how many certificates a workspace has besides that one.
///
/// # Errors
/// When the database fails.
pub async fn count_beside(tx: &mut Tx, workspace: &WorkspaceId, fingerprint: &str) -> Result<i64, StoreError> {
    on_db!(tx, COUNT_BESIDE, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(workspace).bind(fingerprint).fetch_one(c).await?)
    })
}

/// Returns a workspace's certificates of a pass type.
///
/// # Errors
/// When the database fails.
pub async fn of_pass_type(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    pass_type: &PassTypeId,
) -> Result<Vec<AppleCertificateKey>, StoreError> {
    on_db!(tx, OF_PASS_TYPE, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(pass_type).fetch_all(c).await?))
}

/// Removes a certificate; false when the workspace has none of that fingerprint.
///
/// # Errors
/// When the database fails.
pub async fn remove_apple(tx: &mut Tx, workspace: &WorkspaceId, fingerprint: &str) -> Result<bool, StoreError> {
    on_db!(tx, REMOVE_APPLE, |sql, c| {
        Ok(sqlx::query(sql).bind(workspace).bind(fingerprint).execute(c).await?.rows_affected() > 0)
    })
}

/// Removes a workspace's certificates of a pass type.
///
/// # Errors
/// When the database fails.
pub async fn remove_of_pass_type(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    pass_type: &PassTypeId,
) -> Result<(), StoreError> {
    on_db!(tx, REMOVE_OF_PASS_TYPE, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(pass_type).execute(c).await?;
        Ok(())
    })
}
