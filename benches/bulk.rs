//! Fifty thousand lines of a bulk, against a plain multi-row UPDATE of the same rows in the same database.
//!
//! The client streams both ways and holds nothing, so the memory of this process is the service's.
//! `cargo bench --bench bulk` (set PASSLOOM_BENCH_DATABASE_URL for PostgreSQL)

mod support;

use std::time::Instant;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use support::Service;

const LINES: usize = 50_000;
const BATCH: usize = 500;
/// The peak of this process stays below it, in MiB.
const MOST: f64 = 300.0;

/// The most memory that this process ever held, in MiB.
fn peak() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}

/// Sends the lines and reads the answers as they come; lines per second.
async fn bulk(service: &Service, status: &str, line: impl Fn(usize) -> Value + Send + 'static) -> anyhow::Result<f64> {
    let lines = stream::iter((0..LINES).step_by(100).map(move |from| {
        let piece: String = (from..from + 100).map(|n| format!("{}\n", line(n))).collect();
        Ok::<_, std::io::Error>(piece)
    }));
    let started = Instant::now();
    let url = format!("{}/api/v1/cards/bulk", service.app.public_url);
    let request = service.http.post(url).bearer_auth(&service.facts.api_key);
    let answer = request.body(reqwest::Body::wrap_stream(lines)).send().await?.error_for_status()?;
    let (mut answers, mut rest, mut fine) = (answer.bytes_stream(), Vec::new(), 0);
    while let Some(piece) = answers.next().await {
        rest.extend_from_slice(&piece?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let answer: Value = serde_json::from_slice(&rest[..end])?;
            fine += usize::from(answer["status"] == status);
            rest.drain(..=end);
        }
    }
    anyhow::ensure!(fine == LINES, "{fine} of {LINES} lines were {status}");
    Ok(LINES as f64 / started.elapsed().as_secs_f64())
}

/// What a program would write that knows the rows and needs nothing else: values, revision and time, 500 rows at a time.
async fn plain(database: &str, points: usize) -> anyhow::Result<f64> {
    let rows = |from: usize| -> String {
        let rows = (from..from + BATCH).map(|n| {
            let attributes = json!({"points": points + n, "tier": "silver", "name": "Anna"}).to_string();
            json!({"id": format!("M-{n}"), "attributes": attributes})
        });
        Value::Array(rows.collect()).to_string()
    };
    let started;
    match database.strip_prefix("sqlite://") {
        Some(_) => {
            let mut c = SqliteConnection::connect(database).await?;
            for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
                sqlx::query(pragma).execute(&mut c).await?;
            }
            started = Instant::now();
            for from in (0..LINES).step_by(BATCH) {
                let sql = "WITH e AS MATERIALIZED (SELECT 'default' AS workspace, value ->> 'id' AS id,
                        value ->> 'attributes' AS attributes FROM json_each($1))
                    UPDATE cards SET attributes = e.attributes, revision = revision + 1, updated_at = $2
                    FROM e WHERE cards.workspace_id = e.workspace AND cards.id = e.id";
                let done = sqlx::query(sql).bind(rows(from)).bind(from as i64).execute(&mut c).await?;
                anyhow::ensure!(done.rows_affected() == BATCH as u64, "the rows are not there");
            }
        }
        None => {
            let mut c = PgConnection::connect(database).await?;
            started = Instant::now();
            for from in (0..LINES).step_by(BATCH) {
                let sql = "UPDATE cards SET attributes = e.attributes, revision = revision + 1, updated_at = $2
                    FROM json_to_recordset(CAST($1 AS json)) AS e(id text, attributes text)
                    WHERE cards.workspace_id = 'default' AND cards.id = e.id";
                let done = sqlx::query(sql).bind(rows(from)).bind(from as i64).execute(&mut c).await?;
                anyhow::ensure!(done.rows_affected() == BATCH as u64, "the rows are not there");
            }
        }
    }
    Ok(LINES as f64 / started.elapsed().as_secs_f64())
}

async fn run() -> anyhow::Result<()> {
    let service = Service::start(|_| ()).await?;
    let before = peak()?;
    let line = |points: usize| {
        move |n: usize| {
            let attributes = json!({"points": points + n, "tier": "silver", "name": "Anna"});
            json!({"id": format!("M-{n}"), "template": "bakery-points", "attributes": attributes})
        }
    };
    let issued = bulk(&service, "created", line(0)).await?;
    println!("issued     {issued:8.0} lines/s");
    let unchanged = bulk(&service, "unchanged", line(0)).await?;
    println!("unchanged  {unchanged:8.0} lines/s");
    let mut ratios = Vec::new();
    for round in 1..=3 {
        let changed = bulk(&service, "updated", line(round * LINES)).await?;
        let plain = plain(&service.database_url, round * LINES + 7).await?;
        println!("changed    {changed:8.0} lines/s   plain UPDATE {plain:8.0} rows/s   ratio {:.2}", changed / plain);
        ratios.push(changed / plain);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio, median of {}: {:.2} (aim 0.30)", ratios.len(), ratios[ratios.len() / 2]);
    let most = peak()?;
    println!("peak memory {most:.0} MiB, {before:.0} MiB before the first line (less than {MOST})");
    service.stop().await?;
    anyhow::ensure!(most < MOST, "the memory reached {most:.1} MiB and must stay below {MOST}");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(run())
}
