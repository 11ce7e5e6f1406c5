//! The store on both databases: every statement, the two schemas, and one suite of promises.

mod conformance;
mod plans;
mod schema;
mod statements;

use passloom::store::health;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::{Database, TestDatabase, run};

#[test]
fn after_a_close_all_is_in_one_file_even_if_a_reader_is_still_open() {
    run(Database::Sqlite, |database: TestDatabase| async move {
        let mut late = SqliteConnection::connect(&format!("{}?mode=ro", database.url())).await.unwrap();
        late.execute("SELECT COUNT(*) FROM workspaces").await.unwrap();
        let store = database.store().await;
        let mut tx = store.begin().await.unwrap();
        health::try_write(&mut tx, "the last write").await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;

        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy.db");
        std::fs::copy(database.url().strip_prefix("sqlite://").unwrap(), &copy).unwrap();
        let mut c = SqliteConnection::connect(&format!("sqlite://{}", copy.display())).await.unwrap();
        let content: String = sqlx::query_scalar("SELECT content FROM write_probes").fetch_one(&mut c).await.unwrap();
        assert_eq!(content, "the last write");
        late.close().await.unwrap();
    });
}
