//! The two migrated schemas are one: same tables, same columns in the same order, same keys, same indexes. Only the
//! types differ, as `kind_of` says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::{Database, TestDatabase};

/// What both databases must agree on, by table.
type Schema = BTreeMap<String, Table>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Name, kind, default, and whether it may be NULL, in order.
    columns: Vec<(String, &'static str, Option<String>, bool)>,
    primary_key: Vec<String>,
    unique: BTreeSet<Vec<String>>,
    /// Columns, the table they point to, its columns, and what happens when the row there goes.
    foreign_keys: BTreeSet<(Vec<String>, String, Vec<String>, String)>,
    /// Name, whether unique, columns, and the condition of a partial one.
    indexes: BTreeSet<(String, bool, Vec<String>, String)>,
    /// The words that the checks allow, in order.
    allowed_words: Vec<String>,
}

/// The mapping between the two: JSON and bytes have no types of their own names on SQLite.
fn kind_of(sql_type: &str) -> &'static str {
    match sql_type.to_ascii_lowercase().as_str() {
        "bigint" | "integer" => "integer",
        "text" | "jsonb" => "text or JSON",
        "bytea" | "blob" => "bytes",
        "boolean" => "boolean",
        other => {
            panic!("{other} is not among the types that both databases have; see the module documentation of store")
        }
    }
}

/// Conditions as each database prints them differ in parentheses and spaces only.
fn condition(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '(' | ')') && !c.is_whitespace()).collect::<String>().to_ascii_lowercase()
}

/// The texts in single quotes, sorted.
fn quoted(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    words.sort();
    words
}

async fn of_postgres(url: &str) -> Schema {
    type Index = (String, String, bool, Vec<String>, Option<String>);
    type Constraint = (String, String, Vec<String>, Option<String>, Vec<String>, String, String);
    let mut c = PgConnection::connect(url).await.unwrap();
    let mut schema = Schema::new();
    let columns: Vec<(String, String, String, Option<String>, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text, data_type::text, column_default::text, is_nullable::text
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    )
    .fetch_all(&mut c)
    .await
    .unwrap();
    for (table, name, sql_type, default, nullable) in columns {
        if table != "_sqlx_migrations" {
            let column = (name, kind_of(&sql_type), default, nullable == "YES");
            schema.entry(table).or_default().columns.push(column);
        }
    }
    let constraints: Vec<Constraint> = sqlx::query_as(
        "SELECT k.conrelid::regclass::text, k.contype::text,
            ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
                JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
            CASE WHEN k.contype = 'f' THEN k.confrelid::regclass::text END,
            ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
                JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place),
            k.confdeltype::text, pg_get_constraintdef(k.oid)
        FROM pg_constraint k WHERE k.connamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut c)
    .await
    .unwrap();
    for (table, kind, columns, target, target_columns, on_delete, definition) in constraints {
        let Some(table) = schema.get_mut(&table) else { continue };
        match kind.as_str() {
            "p" => table.primary_key = columns,
            "u" => _ = table.unique.insert(columns),
            "f" => {
                let on_delete = match on_delete.as_str() {
                    "a" => "NO ACTION",
                    "c" => "CASCADE",
                    "n" => "SET NULL",
                    "r" => "RESTRICT",
                    _ => "SET DEFAULT",
                };
                table.foreign_keys.insert((columns, target.unwrap(), target_columns, on_delete.to_owned()));
            }
            "c" => table.allowed_words.extend(quoted(&definition)),
            // NOT NULL has become a constraint of its own in PostgreSQL 18; the columns tell it.
            "n" => {}
            other => panic!("a constraint of kind {other:?} has no counterpart here: {definition}"),
        }
    }
    let indexes: Vec<Index> = sqlx::query_as(
        "SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, i.indisunique,
            ARRAY(SELECT pg_get_indexdef(i.indexrelid, place, true) FROM generate_series(1, i.indnkeyatts) place ORDER BY place),
            pg_get_expr(i.indpred, i.indrelid)
        FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid AND r.relnamespace = 'public'::regnamespace
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))",
    )
    .fetch_all(&mut c)
    .await
    .unwrap();
    for (table, name, unique, columns, predicate) in indexes {
        let predicate = condition(&predicate.unwrap_or_default().replace("::text", ""));
        // `position` is a word of the language, so it is printed in quotes.
        let columns = columns.into_iter().map(|column| column.trim_matches('"').to_owned()).collect();
        schema.get_mut(&table).unwrap().indexes.insert((name, unique, columns, predicate));
    }
    finish(schema)
}

async fn of_sqlite(url: &str) -> Schema {
    let mut c = SqliteConnection::connect(url).await.unwrap();
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT IN ('_sqlx_migrations', 'sqlite_sequence')",
    )
    .fetch_all(&mut c)
    .await
    .unwrap();
    let mut schema = Schema::new();
    for (name, sql) in tables {
        let mut table = Table::default();
        let columns: Vec<(String, String, bool, Option<String>, i64)> =
            sqlx::query_as(r#"SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info($1) ORDER BY cid"#)
                .bind(&name)
                .fetch_all(&mut c)
                .await
                .unwrap();
        let mut key: Vec<(i64, String)> =
            columns.iter().filter(|c| c.4 > 0).map(|(name, .., place)| (*place, name.clone())).collect();
        key.sort();
        table.primary_key = key.into_iter().map(|(_, name)| name).collect();
        for (name, sql_type, not_null, default, _) in columns {
            table.columns.push((name, kind_of(&sql_type), default, !not_null));
        }
        let foreign: Vec<(i64, String, String, Option<String>, String)> = sqlx::query_as(
            r#"SELECT id, "table", "from", "to", on_delete FROM pragma_foreign_key_list($1) ORDER BY id, seq"#,
        )
        .bind(&name)
        .fetch_all(&mut c)
        .await
        .unwrap();
        let mut keys: BTreeMap<i64, (Vec<String>, String, Vec<String>, String)> = BTreeMap::new();
        for (id, target, from, to, on_delete) in foreign {
            let key = keys.entry(id).or_insert_with(|| (Vec::new(), target, Vec::new(), on_delete));
            key.0.push(from);
            key.2.push(to.expect("name the columns that a foreign key points to"));
        }
        table.foreign_keys = keys.into_values().collect();
        let indexes: Vec<(String, bool, String)> =
            sqlx::query_as(r#"SELECT name, "unique", origin FROM pragma_index_list($1)"#)
                .bind(&name)
                .fetch_all(&mut c)
                .await
                .unwrap();
        for (index, unique, origin) in indexes {
            let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_index_info($1) ORDER BY seqno")
                .bind(&index)
                .fetch_all(&mut c)
                .await
                .unwrap();
            match origin.as_str() {
                "pk" => {}
                "u" => _ = table.unique.insert(columns),
                _ => {
                    let sql: String = sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE name = $1")
                        .bind(&index)
                        .fetch_one(&mut c)
                        .await
                        .unwrap();
                    let predicate = sql.split_once(" WHERE ").map(|(_, text)| condition(text)).unwrap_or_default();
                    table.indexes.insert((index, unique, columns, predicate));
                }
            }
        }
        // Defaults aside, checks are the only place of a table's text with quotes.
        let text: String = sql.lines().filter(|line| line.contains("CHECK (")).collect::<Vec<_>>().join("\n");
        table.allowed_words = quoted(&text);
        schema.insert(name, table);
    }
    finish(schema)
}

fn finish(mut schema: Schema) -> Schema {
    for table in schema.values_mut() {
        table.allowed_words.sort();
    }
    schema
}

#[test]
fn both_databases_have_the_same_schema() {
    let sqlite = TestDatabase::new(Database::Sqlite);
    let postgres = TestDatabase::new(Database::Postgres);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        sqlite.store().await.close().await;
        postgres.store().await.close().await;
        let (sqlite, postgres) = (of_sqlite(sqlite.url()).await, of_postgres(postgres.url()).await);
        assert!(sqlite.len() > 10, "only {} tables were found", sqlite.len());
        assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>(), "tables");
        for (name, table) in &sqlite {
            assert_eq!(table, &postgres[name], "table {name}: SQLite on the left, PostgreSQL on the right");
            assert!(!table.primary_key.is_empty(), "{name} has no primary key");
        }
    });
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}
