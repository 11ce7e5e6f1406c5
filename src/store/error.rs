//! What can go wrong below the actions, in the store's own words.

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or it is too busy; asking again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// Another transaction was faster; doing everything again may help.
    #[error("another transaction changed the same rows")]
    Conflict(sqlx::Error),
    /// The row is already there.
    #[error("the row is already there")]
    Duplicate(sqlx::Error),
    /// A stored value is not what this version writes.
    #[error("{table}.{column} holds something unreadable")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// An update that must change one row changed none.
    #[error("a row of {0} that must be there is gone")]
    RowGone(&'static str),
    /// Any other failure: a fault of ours.
    #[error("the database refused: {0}")]
    Refused(sqlx::Error),
    /// The schema can't be brought up to date.
    #[error("the schema can't be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(e) if e.is_unique_violation() => Self::Duplicate(error),
            sqlx::Error::Database(e) => match e.code().as_deref() {
                // PostgreSQL: serialization failure, deadlock. SQLite: busy, busy snapshot.
                Some("40001" | "40P01" | "5" | "517") => Self::Conflict(error),
                // PostgreSQL: connection exceptions, shutting down, too many connections.
                Some(code) if code.starts_with("08") || code.starts_with("57P") || code == "53300" => {
                    Self::Unavailable(error)
                }
                _ => Self::Refused(error),
            },
            _ => Self::Refused(error),
        }
    }
}
