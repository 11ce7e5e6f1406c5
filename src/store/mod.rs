//! The database: SQLite or PostgreSQL, with the same tables and, except for a few statements, the same SQL.
//!
//! Every statement is a constant declared with [`statements!`], beside the function that runs it; a test prepares
//! each of them on both databases. [`on_db!`] puts one body in the arms for both. To add a family of tables, add a
//! file with its statements and list them in [`STATEMENTS`].
//!
//! Rules that keep the promises of the web service: rows are locked in the order cards, targets, workspace counter
//! ([`workspaces::next_position`]), each by key; nothing waits for the network while a transaction is open; times
//! are arguments, never `now()`.

pub mod api_keys;
pub mod audit;
pub mod cards;
pub mod daily_counts;
pub mod deliveries;
pub mod device_logs;
mod error;
pub mod events;
pub mod fan_outs;
pub mod health;
pub mod idempotency;
pub mod issuer_pauses;
pub mod issuers;
pub mod passes;
pub mod sealed;
pub mod targets;
pub mod templates;
pub mod types;
pub mod workspaces;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    Connection as _, Executor, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction,
};

pub use error::StoreError;

/// A statement's text on each database.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// Its name in the code.
    pub name: &'static str,
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

/// Declares statements. `NAME = "text"` is the same on both databases; `NAME = "text" + " FOR UPDATE"` adds an ending
/// on PostgreSQL only; `NAME = { sqlite: "…", postgres: "…" }` has a text for each.
macro_rules! statements {
    ($($name:ident = $sql:tt $(+ $ending:literal)?;)*) => {
        $( const $name: $crate::store::Sql = statements!(@one $name $sql $(+ $ending)?); )*
        pub(super) const STATEMENTS: &[$crate::store::Sql] = &[$($name),*];
    };
    (@one $name:ident { sqlite: $sqlite:expr, postgres: $postgres:expr $(,)? }) => {
        $crate::store::Sql { name: stringify!($name), sqlite: $sqlite, postgres: $postgres }
    };
    (@one $name:ident $both:literal + $ending:literal) => {
        $crate::store::Sql { name: stringify!($name), sqlite: $both, postgres: concat!($both, $ending) }
    };
    (@one $name:ident $both:literal) => {
        $crate::store::Sql { name: stringify!($name), sqlite: $both, postgres: $both }
    };
}
pub(crate) use statements;

/// Runs one body on the database that the session is on: `on_db!(session, SQL, |sql, connection| …)`.
macro_rules! on_db {
    ($session:expr, $sql:expr, |$text:ident, $connection:ident| $body:expr) => {
        match $crate::store::Session::connection($session) {
            $crate::store::Connection::Sqlite($connection) => {
                let $text = $sql.sqlite;
                $body
            }
            $crate::store::Connection::Postgres($connection) => {
                let $text = $sql.postgres;
                $body
            }
        }
    };
}
pub(crate) use on_db;

/// Every statement, for the test that prepares them.
pub const STATEMENTS: &[&[Sql]] = &[
    api_keys::STATEMENTS,
    audit::STATEMENTS,
    cards::STATEMENTS,
    daily_counts::STATEMENTS,
    deliveries::STATEMENTS,
    device_logs::STATEMENTS,
    events::STATEMENTS,
    health::STATEMENTS,
    idempotency::STATEMENTS,
    issuers::STATEMENTS,
    issuer_pauses::STATEMENTS,
    passes::STATEMENTS,
    fan_outs::STATEMENTS,
    targets::STATEMENTS,
    sealed::STATEMENTS,
    templates::STATEMENTS,
    workspaces::STATEMENTS,
];

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long SQLite waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// How long connecting to the database may take at the start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection to PostgreSQL may be unused before it is tested: the server may have closed it meanwhile.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// The open database.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Pools,
}

#[derive(Debug, Clone)]
enum Pools {
    /// SQLite has one writer; readers don't wait for it.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres(PgPool),
}

/// A connection to either database.
pub enum Connection<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

/// Anything that statements run on: a [`Reader`] or a [`Tx`].
pub trait Session: Send {
    /// Returns the connection underneath.
    fn connection(&mut self) -> Connection<'_>;
}

/// A connection for reading. Each statement sees what was committed when it began.
#[derive(Debug)]
pub struct Reader(ReaderKind);

#[derive(Debug)]
enum ReaderKind {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A transaction. It is rolled back when it is dropped without [`Tx::commit`].
#[derive(Debug)]
pub struct Tx(TxKind);

#[derive(Debug)]
enum TxKind {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Session for Reader {
    fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            ReaderKind::Sqlite(c) => Connection::Sqlite(c),
            ReaderKind::Postgres(c) => Connection::Postgres(c),
        }
    }
}

impl Session for Tx {
    fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            TxKind::Sqlite(tx) => Connection::Sqlite(tx),
            TxKind::Postgres(tx) => Connection::Postgres(tx),
        }
    }
}

impl Tx {
    /// Commits the transaction: all of it becomes durable, or none.
    ///
    /// # Errors
    /// When the database can't commit.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0 {
            TxKind::Sqlite(tx) => tx.commit().await?,
            TxKind::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// Receives other nodes' notifications that something is due.
#[derive(Debug)]
pub struct NodeListener(PgListener);

impl NodeListener {
    /// Waits until a node notifies that something is due, or may have done so while the connection was lost.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await?;
        Ok(())
    }
}

impl Store {
    /// Opens (and for SQLite creates) the database at `sqlite://PATH` or `postgres://…` and brings its schema up to date.
    ///
    /// # Errors
    /// When it can't be reached or migrated.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect(url).await?;
        match &store.pools {
            Pools::Sqlite { writer, .. } => SQLITE_MIGRATIONS.run(writer).await?,
            Pools::Postgres(pool) => POSTGRES_MIGRATIONS.run(pool).await?,
        }
        Ok(store)
    }

    /// Opens the database and leaves its schema as it is.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let pools = match url.strip_prefix("sqlite://") {
            Some(path) => Self::open_sqlite(Path::new(path)).await?,
            None => {
                let options: PgConnectOptions = url.parse()?;
                // A pool that can't connect reports only that its wait timed out.
                let first = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await;
                first.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?;
                let pool = PgPoolOptions::new().max_connections(24).acquire_timeout(Duration::from_secs(10));
                // A connection is tested only after it was unused for a while, not before every use.
                let pool = pool.test_before_acquire(false).before_acquire(|c, meta| {
                    Box::pin(async move {
                        if meta.idle_for >= LEFT_ALONE {
                            c.ping().await?;
                        }
                        Ok(true)
                    })
                });
                // Everything is looked up by key. If a table was small when a statement was first planned, PostgreSQL
                // would prefer to read it whole, and keep doing so while it grows; and compiling a plan takes longer
                // than running any of them.
                let pool = pool.after_connect(|c, _| {
                    Box::pin(async move {
                        c.execute("SET enable_seqscan = off; SET jit = off").await?;
                        Ok(())
                    })
                });
                Pools::Postgres(pool.connect_with(options.application_name("passloom")).await?)
            }
        };
        Ok(Self { pools })
    }

    /// Returns the numbers of the migrations that this version contains.
    pub fn migrations(&self) -> Vec<i64> {
        let migrator = if self.is_embedded() { &SQLITE_MIGRATIONS } else { &POSTGRES_MIGRATIONS };
        migrator.iter().map(|migration| migration.version).collect()
    }

    async fn open_sqlite(path: &Path) -> Result<Pools, StoreError> {
        // The file holds members' data: it is readable by its owner only, whatever the directory allows. Files beside
        // it get the same mode.
        let owners = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        if let Err(error) = owners
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(sqlx::Error::Io(error).into());
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // A batch of rows is handed over at once: at 50 at a time, the two threads would keep waking each other.
            .row_buffer_size(1024)
            // Erased data is overwritten in the file, not only marked as free.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY);
        // A file doesn't close connections.
        let pool = SqlitePoolOptions::new().test_before_acquire(false);
        let writer = pool
            .clone()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(None)
            .max_lifetime(None)
            // A transaction that could not be committed (the disk is full) has often ended already, so that it can't be
            // rolled back; the connection would count it as open for ever and begin no other. The connection was tested
            // when it was returned, so nothing is still under way on it.
            .before_acquire(|c, _| {
                Box::pin(async move {
                    if c.is_in_transaction() {
                        tracing::warn!("a transaction failed in the middle; the connection is replaced");
                    }
                    Ok(!c.is_in_transaction())
                })
            });
        let writer = writer.connect_with(options.clone()).await?;
        let readers = pool.max_connections(8).acquire_timeout(Duration::from_secs(10));
        let readers = readers.connect_with(options.read_only(true)).await?;
        Ok(Pools::Sqlite { readers, writer })
    }

    /// Returns a connection for reading.
    ///
    /// # Errors
    /// When no connection is available.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader(match &self.pools {
            Pools::Sqlite { readers, .. } => ReaderKind::Sqlite(readers.acquire().await?),
            Pools::Postgres(pool) => ReaderKind::Postgres(pool.acquire().await?),
        }))
    }

    /// Begins a transaction for writing. On SQLite it has the write lock from the start (`BEGIN IMMEDIATE`), so reading
    /// first and writing later can't fail; on PostgreSQL, rows that will be written must be read `FOR UPDATE`.
    ///
    /// # Errors
    /// When no connection is available.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx(match &self.pools {
            Pools::Sqlite { writer, .. } => TxKind::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            #[allow(clippy::disallowed_methods)] // the one place
            Pools::Postgres(pool) => TxKind::Postgres(pool.begin().await?),
        }))
    }

    /// Begins a transaction for batch statements: PostgreSQL plans them anew each time, for the tables as they are now.
    /// A plan kept from when there were few cards would read all of them for each batch.
    ///
    /// # Errors
    /// When no connection is available.
    pub async fn begin_batch(&self) -> Result<Tx, StoreError> {
        match &self.pools {
            Pools::Sqlite { .. } => self.begin().await,
            Pools::Postgres(pool) => {
                let begin = "BEGIN; SET LOCAL plan_cache_mode = force_custom_plan";
                Ok(Tx(TxKind::Postgres(pool.begin_with(begin).await?)))
            }
        }
    }

    /// Removes overwritten data from the embedded database's write-ahead log, too; does nothing on PostgreSQL. Returns
    /// false while a reader is active: writers don't wait for readers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clear_log(&self) -> Result<bool, StoreError> {
        let Pools::Sqlite { writer, .. } = &self.pools else { return Ok(true) };
        let mut writer = writer.acquire().await?;
        sqlx::query("PRAGMA busy_timeout = 20").execute(&mut *writer).await?;
        let cleared =
            sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *writer).await;
        let usual = format!("PRAGMA busy_timeout = {}", BUSY.as_millis());
        sqlx::query(sqlx::AssertSqlSafe(usual)).execute(&mut *writer).await?;
        Ok(cleared?.0 == 0)
    }

    /// Copies the embedded database, as of one moment, to a file that is empty or absent; does nothing on PostgreSQL.
    ///
    /// # Errors
    /// When the file can't be written.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        if let Pools::Sqlite { writer, .. } = &self.pools {
            let mut writer = writer.acquire().await?;
            sqlx::query("VACUUM INTO $1").bind(file.to_string_lossy().as_ref()).execute(&mut *writer).await?;
        }
        Ok(())
    }

    /// Notifies every node on this database that something is due; does nothing on the embedded one, which has one
    /// node.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notify_nodes(&self) -> Result<(), StoreError> {
        if let Pools::Postgres(pool) = &self.pools {
            sqlx::query("SELECT pg_notify('passloom_due', '')").execute(pool).await?;
        }
        Ok(())
    }

    /// Listens for the notifications of [`Self::notify_nodes`]; `None` on the embedded database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn listen_to_nodes(&self) -> Result<Option<NodeListener>, StoreError> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("passloom_due").await?;
        Ok(Some(NodeListener(listener)))
    }

    /// Whether this is the embedded database, which belongs to one node.
    pub fn is_embedded(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// Closes all connections after the work under way. Afterwards an embedded database is one file, unless it fails.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                // SQLite does this itself only when a connection that may write is the last to close. A reader that
                // was given up while it was opening closes later, on a thread of its own.
                if let Ok(mut c) = writer.acquire().await
                    && let Err(error) = c.execute("PRAGMA wal_checkpoint(TRUNCATE)").await
                {
                    tracing::warn!(%error, "the write-ahead log stays beside the database: copy both or neither");
                }
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}
