//! Every statement is known to both databases. SQL isn't checked when the crate is compiled (that works for one
//! database only), so it is prepared here: a misspelt table or column fails without being run.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use passloom::store::{STATEMENTS, Sql};
use sqlx::{Connection, Executor, PgConnection, SqlSafeStr, SqliteConnection};

use crate::support::{Database, TestDatabase, on_both_databases};

on_both_databases![every_statement_can_be_prepared, a_misspelt_column_can_not_be_prepared];

fn statements() -> impl Iterator<Item = &'static Sql> {
    STATEMENTS.iter().copied().flatten()
}

/// The database's complaint about each text.
async fn refusals(database: &TestDatabase, texts: impl Iterator<Item = (&'static str, &'static str)>) -> Vec<String> {
    // The tables are there only after this.
    database.store().await.close().await;
    let mut refusals = Vec::new();
    match database.kind() {
        Database::Sqlite => {
            let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
            for (name, text) in texts {
                if let Err(e) = connection.prepare(text.into_sql_str()).await {
                    refusals.push(format!("{name}: {e}\n    {text}"));
                }
            }
        }
        Database::Postgres => {
            let mut connection = PgConnection::connect(database.url()).await.unwrap();
            for (name, text) in texts {
                if let Err(e) = connection.prepare(text.into_sql_str()).await {
                    refusals.push(format!("{name}: {e}\n    {text}"));
                }
            }
        }
    }
    refusals
}

async fn every_statement_can_be_prepared(database: TestDatabase) {
    let texts = statements().map(|sql| match database.kind() {
        Database::Sqlite => (sql.name, sql.sqlite),
        Database::Postgres => (sql.name, sql.postgres),
    });
    let refusals = refusals(&database, texts).await;
    assert!(refusals.is_empty(), "{}", refusals.join("\n"));
}

async fn a_misspelt_column_can_not_be_prepared(database: TestDatabase) {
    let texts = [("MISSPELT", "SELECT positoin FROM workspaces WHERE id = $1")];
    assert_eq!(refusals(&database, texts.into_iter()).await.len(), 1);
}

/// SQLite guesses that few rows have any one value, so it would rather read a whole workspace for each row of a batch
/// than look each row up by its key: 50,000 lines of a bulk once took hours that way.
#[tokio::test]
async fn a_batch_is_walked_once_and_each_of_its_rows_is_looked_up() {
    let database = TestDatabase::new(Database::Sqlite);
    database.store().await.close().await;
    let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
    let (mut batches, mut wrong) = (0, Vec::new());
    let is_loop = |step: &str| step.starts_with("SCAN") || step.starts_with("SEARCH");
    for sql in statements().filter(|sql| sql.sqlite.contains("json_each")) {
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(format!(
            "EXPLAIN QUERY PLAN {}",
            sql.sqlite
        )));
        let plan: Vec<(i64, i64, i64, String)> = plan.fetch_all(&mut connection).await.unwrap();
        let shown = plan.iter().map(|(.., step)| format!("    {step}")).collect::<Vec<_>>().join("\n");
        for (at, (_, parent, _, step)) in plan.iter().enumerate() {
            if step.starts_with("SCAN") {
                batches += 1;
                if plan[..at].iter().any(|(_, p, _, step)| p == parent && is_loop(step)) {
                    wrong.push(format!("{} walks its batch for each row of another table:\n{shown}", sql.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(batches > 10, "{batches} plans walk a batch");
}

#[test]
fn every_file_of_the_store_lists_its_statements() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let list = fs::read_to_string(directory.join("mod.rs")).unwrap();
    let mut declared = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name != "mod" && text.contains("\nstatements! {") {
            declared += 1;
            assert!(list.contains(&format!("    {name}::STATEMENTS,")), "store::STATEMENTS lacks {name}'s");
        }
    }
    assert_eq!(declared, STATEMENTS.len());
    assert!(statements().count() > 40, "a list this short can't be whole");
}

#[test]
fn no_statement_is_listed_twice() {
    let mut texts = HashSet::new();
    for sql in statements() {
        assert!(texts.insert((sql.sqlite, sql.postgres)), "{} is there twice: {}", sql.name, sql.sqlite);
    }
}
