//! Everything that is encrypted under the master key, in any table: what rotating that key has to reach.
//!
//! A sealed value begins with one byte for its format and four for its key. A new column with sealed values needs a
//! variant of [`Kind`]; the compiler then points to the rest.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::ids::{PassTypeId, WorkspaceId};

/// The number of values fetched at once.
const BATCH: i64 = 100;

statements! {
    WORKSPACES = "SELECT id, secret FROM workspaces WHERE SUBSTR(secret, 2, 4) = $1 LIMIT $2";
    CERTIFICATES = "SELECT workspace_id, pass_type_id, fingerprint, sealed FROM apple_certificates
        WHERE SUBSTR(sealed, 2, 4) = $1 LIMIT $2";
    ANSWERS = "SELECT workspace_id, idempotency_key, answer FROM idempotent_requests
        WHERE SUBSTR(answer, 2, 4) = $1 LIMIT $2";
    PUT_WORKSPACE = "UPDATE workspaces SET secret = $1 WHERE secret = $2 AND id = $3";
    PUT_CERTIFICATE = "UPDATE apple_certificates SET sealed = $1
        WHERE sealed = $2 AND workspace_id = $3 AND pass_type_id = $4 AND fingerprint = $5";
    PUT_ANSWER = "UPDATE idempotent_requests SET answer = $1
        WHERE answer = $2 AND workspace_id = $3 AND idempotency_key = $4";
    // Answers are left out, since they are deleted within a day: a node may start without them.
    UNDER_OTHERS = "SELECT (SELECT COUNT(*) FROM workspaces WHERE SUBSTR(secret, 2, 4) NOT IN ($1, $2))
        + (SELECT COUNT(*) FROM apple_certificates WHERE SUBSTR(sealed, 2, 4) NOT IN ($1, $2))";
}

/// The kinds of sealed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Workspace secrets, from which tokens are derived.
    Workspaces,
    /// Private keys of Apple certificates.
    Certificates,
    /// Answers to requests with an Idempotency-Key.
    Answers,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Workspaces, Self::Certificates, Self::Answers];
}

/// The key of a sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Place {
    Workspace(WorkspaceId),
    Certificate { workspace: WorkspaceId, pass_type: PassTypeId, fingerprint: String },
    Answer { workspace: WorkspaceId, key: String },
}

/// Returns some of the values of a kind that are sealed under the key with that mark.
///
/// # Errors
/// When the database fails.
pub async fn some_under(tx: &mut Tx, kind: Kind, mark: &[u8]) -> Result<Vec<(Place, Vec<u8>)>, StoreError> {
    Ok(match kind {
        Kind::Workspaces => {
            let rows: Vec<(WorkspaceId, Vec<u8>)> =
                on_db!(tx, WORKSPACES, |sql, c| sqlx::query_as(sql).bind(mark).bind(BATCH).fetch_all(c).await?);
            rows.into_iter().map(|(id, sealed)| (Place::Workspace(id), sealed)).collect()
        }
        Kind::Certificates => {
            let rows: Vec<(WorkspaceId, PassTypeId, String, Vec<u8>)> =
                on_db!(tx, CERTIFICATES, |sql, c| sqlx::query_as(sql).bind(mark).bind(BATCH).fetch_all(c).await?);
            rows.into_iter()
                .map(|(workspace, pass_type, fingerprint, sealed)| {
                    (Place::Certificate { workspace, pass_type, fingerprint }, sealed)
                })
                .collect()
        }
        Kind::Answers => {
            let rows: Vec<(WorkspaceId, String, Vec<u8>)> =
                on_db!(tx, ANSWERS, |sql, c| sqlx::query_as(sql).bind(mark).bind(BATCH).fetch_all(c).await?);
            rows.into_iter().map(|(workspace, key, sealed)| (Place::Answer { workspace, key }, sealed)).collect()
        }
    })
}

/// Replaces the value that was read with one sealed anew; false when it has been changed meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn replace(tx: &mut Tx, place: &Place, read: &[u8], sealed: &[u8]) -> Result<bool, StoreError> {
    let statement = match place {
        Place::Workspace(_) => PUT_WORKSPACE,
        Place::Certificate { .. } => PUT_CERTIFICATE,
        Place::Answer { .. } => PUT_ANSWER,
    };
    on_db!(tx, statement, |sql, c| {
        let query = sqlx::query(sql).bind(sealed).bind(read);
        let query = match place {
            Place::Workspace(id) => query.bind(id),
            Place::Certificate { workspace, pass_type, fingerprint } => {
                query.bind(workspace).bind(pass_type).bind(fingerprint)
            }
            Place::Answer { workspace, key } => query.bind(workspace).bind(key),
        };
        Ok(query.execute(c).await?.rows_affected() == 1)
    })
}

/// Returns how many lasting values are sealed under neither of the keys with these marks.
///
/// # Errors
/// When the database fails.
pub async fn count_under_others(session: &mut impl Session, marks: (&[u8], &[u8])) -> Result<i64, StoreError> {
    on_db!(session, UNDER_OTHERS, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(marks.0).bind(marks.1).fetch_one(c).await?)
    })
}
