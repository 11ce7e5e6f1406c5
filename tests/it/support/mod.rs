//! What the tests stand on: a fresh database of either kind for each test, and other people's readers of passes.
//!
//! A test that must hold on both databases is a plain async function, listed once:
//!
//! ```ignore
//! on_both_databases![a_card_that_was_never_issued_is_not_found];
//!
//! async fn a_card_that_was_never_issued_is_not_found(database: TestDatabase) {
//!     let store = database.store().await;
//! }
//! ```
//!
//! That makes two tests, `sqlite::…` and `postgres::…`. A function that isn't listed is dead code, which the
//! linter refuses.

pub mod browser;
pub mod described;
pub mod postgres;
pub mod program;
pub mod reader;
pub mod service;

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use passloom::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// Makes two `#[test]`s of each listed `async fn(TestDatabase)`; see the module's documentation.
macro_rules! on_both_databases {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $test() {
                    $crate::support::run($crate::support::Database::Sqlite, super::$test);
                }
            )*
        }
        mod postgres {
            $(
                #[test]
                fn $test() {
                    $crate::support::run($crate::support::Database::Postgres, super::$test);
                }
            )*
        }
    };
}
pub(crate) use on_both_databases;

/// No test needs as long. One that waits for what never comes must fail by its name, instead of holding up all others.
pub const LONGEST_TEST: Duration = Duration::from_secs(300);

/// Writes how long a test took, and its name, to the file that `make test` prints the slowest of.
struct Timed(Instant);

impl Drop for Timed {
    fn drop(&mut self) {
        let Some(file) = std::env::var_os("PASSLOOM_TEST_TIMES") else { return };
        let line = format!("{:8.1} {}\n", self.0.elapsed().as_secs_f64(), thread::current().name().unwrap_or("?"));
        if let Ok(mut file) = File::options().create(true).append(true).open(file) {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// Runs a test on a fresh database and a runtime of its own.
///
/// # Panics
/// When the test takes longer than five minutes.
pub fn run<F: Future<Output = ()>>(database: Database, test: impl FnOnce(TestDatabase) -> F) {
    let _timed = Timed(Instant::now());
    // Before the runtime: starting PostgreSQL blocks.
    let database = TestDatabase::new(database);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let test = async { tokio::time::timeout(LONGEST_TEST, test(database)).await };
    assert!(runtime.unwrap().block_on(test).is_ok(), "the test still waits after {} s", LONGEST_TEST.as_secs());
}

/// The file of a SQLite database whose schema is up to date. Copying it is much faster than making it.
fn migrated() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passloom.db");
        let url = format!("sqlite://{}", path.display());
        postgres::blocking(async move { Store::open(&url).await.unwrap().close().await });
        std::fs::read(&path).unwrap()
    })
}

/// An empty database of its own for one test; gone when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    kept: Kept,
}

/// What goes away with the database.
#[derive(Debug)]
enum Kept {
    Sqlite { _directory: TempDir },
    Postgres { _database: postgres::TemporaryDatabase },
}

impl TestDatabase {
    /// Makes one. Blocks; don't call it from async code.
    ///
    /// # Panics
    /// When PostgreSQL isn't installed: what holds on one database only is not tested, and a skip would hide that.
    pub fn new(database: Database) -> Self {
        match database {
            Database::Sqlite => {
                let directory = tempfile::Builder::new().prefix("passloom-test-").tempdir().unwrap();
                let path = directory.path().join("passloom.db");
                std::fs::write(&path, migrated()).unwrap();
                let url = format!("sqlite://{}", path.display());
                Self { url, kept: Kept::Sqlite { _directory: directory } }
            }
            Database::Postgres => {
                let database = postgres::TemporaryDatabase::new();
                Self { url: database.url(), kept: Kept::Postgres { _database: database } }
            }
        }
    }

    /// A SQLite database in a directory of the caller's, for which that must be left.
    pub fn sqlite_in(directory: &std::path::Path) -> Self {
        let kept = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.join("passloom.db").display());
        Self { url, kept: Kept::Sqlite { _directory: kept } }
    }

    /// Where it is, as [`Store::open`] takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Which database it is on.
    pub fn kind(&self) -> Database {
        match self.kept {
            Kept::Sqlite { .. } => Database::Sqlite,
            Kept::Postgres { .. } => Database::Postgres,
        }
    }

    /// A number that a query gives, past the store.
    pub async fn number(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        match self.kind() {
            Database::Sqlite => {
                let mut c = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut c).await.unwrap()
            }
            Database::Postgres => {
                let mut c = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut c).await.unwrap()
            }
        }
    }

    /// How many rows all tables that requests write to have.
    pub async fn rows(&self) -> i64 {
        let tables =
            ["cards", "passes", "targets", "registrations", "events", "device_logs", "unchanged_faces", "fan_outs"];
        let mut all = 0;
        for table in tables {
            all += self.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        }
        all
    }

    /// Runs a statement on it, past the store.
    pub async fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        match self.kind() {
            Database::Sqlite => {
                SqliteConnection::connect(&self.url).await.unwrap().execute(statement).await.unwrap();
            }
            Database::Postgres => {
                PgConnection::connect(&self.url).await.unwrap().execute(statement).await.unwrap();
            }
        }
    }

    /// Opens it, as one node of the service does; call it twice for two nodes.
    pub async fn store(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }
}
