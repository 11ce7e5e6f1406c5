//! The state of the database: whether it answers, whether its schema is this version's, and its clock.

use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::time::Timestamp;

statements! {
    PING = "SELECT COUNT(*) FROM workspaces";
    APPLIED = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
    TRY_WRITE = "INSERT INTO write_probes (id, content) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET content = excluded.content";
    SIZE = {
        sqlite: "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        postgres: "SELECT pg_database_size(current_database())",
    };
    CLOCK = {
        sqlite: "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        postgres: "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    };
}

/// Whether the database answers.
///
/// # Errors
/// When it doesn't.
pub async fn ping(session: &mut impl Session) -> Result<(), StoreError> {
    on_db!(session, PING, |sql, c| {
        let _: i64 = sqlx::query_scalar(sql).fetch_one(c).await?;
        Ok(())
    })
}

/// Writes a row that exists only for this test. `content` should differ from what was written last, since an unchanged
/// row isn't written.
///
/// # Errors
/// When it can't be written; only the commit shows that it can.
pub async fn try_write(tx: &mut Tx, content: &str) -> Result<(), StoreError> {
    on_db!(tx, TRY_WRITE, |sql, c| {
        sqlx::query(sql).bind(content).execute(c).await?;
        Ok(())
    })
}

/// Returns the numbers of the applied migrations.
///
/// # Errors
/// When the database fails, or was never migrated.
pub async fn applied_migrations(session: &mut impl Session) -> Result<Vec<i64>, StoreError> {
    on_db!(session, APPLIED, |sql, c| Ok(sqlx::query_scalar(sql).fetch_all(c).await?))
}

/// Returns the size of the database in bytes; of the embedded one without its write-ahead log.
///
/// # Errors
/// When the database fails.
pub async fn size(session: &mut impl Session) -> Result<i64, StoreError> {
    on_db!(session, SIZE, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// Returns the database server's time, to be compared with ours. No decision depends on it.
///
/// # Errors
/// When the database fails.
pub async fn clock(session: &mut impl Session) -> Result<Timestamp, StoreError> {
    on_db!(session, CLOCK, |sql, c| Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}
