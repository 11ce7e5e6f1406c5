//! Failures of the store, as the layers above see them.

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached or is too busy; trying again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// Another transaction was faster; repeating everything, from what is stored now, may help.
    #[error("another transaction changed the same rows: {0}")]
    Conflict(sqlx::Error),
    /// The row is already there.
    #[error("the row is already there")]
    Duplicate(sqlx::Error),
    /// There is no space left for the write; reading still works.
    #[error("the database has no space left: {0}")]
    Full(sqlx::Error),
    /// Nothing can be written for now, for another reason; reading still works.
    #[error("the database can't be written: {0}")]
    Unwritable(sqlx::Error),
    /// A stored value is not one that this version writes.
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
    /// Any other failure; a bug.
    #[error("the database refused: {0}")]
    Refused(sqlx::Error),
    /// The schema can't be brought up to date.
    #[error("the schema can't be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl StoreError {
    /// Whether only writing fails, so that stored data can still be read.
    pub fn is_of_writing(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Unwritable(_))
    }

    /// Whether another transaction interfered, so that repeating everything may help.
    pub fn is_of_another_transaction(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Duplicate(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sort = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable,
            sqlx::Error::Database(e) => sort(&**e),
            _ => Self::Refused,
        };
        sort(error)
    }
}

fn sort(error: &dyn DatabaseError) -> fn(sqlx::Error) -> StoreError {
    if error.is_unique_violation() {
        return StoreError::Duplicate;
    }
    // The referenced row existed when it was looked up: another transaction has deleted it.
    if error.is_foreign_key_violation() {
        return StoreError::Conflict;
    }
    let code = error.code().unwrap_or_default();
    match error.try_downcast_ref::<SqliteError>() {
        Some(_) => sort_sqlite(code.parse().unwrap_or(0)),
        None => sort_postgres(&code),
    }
}

/// Classifies result codes (SQLite, "Result and Error Codes"); the low byte is the primary code.
fn sort_sqlite(code: u32) -> fn(sqlx::Error) -> StoreError {
    // The index of the write-ahead log can't grow.
    const IOERR_SHMSIZE: u32 = 4874;
    const IOERR_WRITE: u32 = 778;
    const IOERR_FSYNC: u32 = 1034;
    const IOERR_DIR_FSYNC: u32 = 1290;
    const IOERR_TRUNCATE: u32 = 1546;
    match (code, code & 0xff) {
        (IOERR_SHMSIZE, _) | (_, 13) => StoreError::Full,
        (IOERR_WRITE | IOERR_FSYNC | IOERR_DIR_FSYNC | IOERR_TRUNCATE, _) => StoreError::Unwritable,
        // Busy, locked.
        (_, 5 | 6) => StoreError::Conflict,
        // Read-only.
        (_, 8) => StoreError::Unwritable,
        // Out of memory, I/O error, file can't be opened, locking protocol.
        (_, 7 | 10 | 14 | 15) => StoreError::Unavailable,
        _ => StoreError::Refused,
    }
}

/// Classifies SQLSTATE codes (PostgreSQL, "Error Codes").
fn sort_postgres(code: &str) -> fn(sqlx::Error) -> StoreError {
    match code {
        "53100" => StoreError::Full,
        // The server became a standby.
        "25006" => StoreError::Unwritable,
        // A lock that was requested without waiting (NOWAIT).
        "55P03" => StoreError::Conflict,
        _ => match code.get(..2) {
            // Serialization failures, deadlocks.
            Some("40") => StoreError::Conflict,
            // Connection failures, insufficient resources, operator intervention, system errors.
            Some("08" | "53" | "57" | "58") => StoreError::Unavailable,
            _ => StoreError::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_whether_repeating_or_making_space_helps() {
        let name = |sort: fn(sqlx::Error) -> StoreError| {
            let error = format!("{:?}", sort(sqlx::Error::PoolClosed));
            error.split('(').next().unwrap_or_default().to_owned()
        };
        let cases = [
            (13, "Full"),
            (4874, "Full"),
            (778, "Unwritable"),
            (1034, "Unwritable"),
            (8, "Unwritable"),
            (1032, "Unwritable"),
            (5, "Conflict"),
            (517, "Conflict"),
            (262, "Conflict"),
            (266, "Unavailable"),
            (14, "Unavailable"),
            (11, "Refused"),
            (1, "Refused"),
        ];
        for (code, expected) in cases {
            assert_eq!(name(sort_sqlite(code)), expected, "SQLite {code}");
        }
        let cases = [
            ("53100", "Full"),
            ("25006", "Unwritable"),
            ("40001", "Conflict"),
            ("40P01", "Conflict"),
            ("55P03", "Conflict"),
            ("53300", "Unavailable"),
            ("57P01", "Unavailable"),
            ("57014", "Unavailable"),
            ("08006", "Unavailable"),
            ("58030", "Unavailable"),
            ("42P01", "Refused"),
            ("", "Refused"),
        ];
        for (code, expected) in cases {
            assert_eq!(name(sort_postgres(code)), expected, "PostgreSQL {code}");
        }
    }
}
