//! What phones ask most often: whether their pass is still the newest (304), and which of their passes changed.
//!
//! Beside each, in the same run and by the same client, a bare actix-web handler that runs the same select on the same
//! database and gives the same answer, without looking at what it says. Rounds of both alternate; the ratio is what counts.
//! `cargo bench --bench phones` (set PASSLOOM_BENCH_DATABASE_URL for PostgreSQL, an empty database)

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use actix_web::{App as Application, HttpResponse, HttpServer, web};
use passloom::actions::keys::default_workspace;
use passloom::domain::ids::{CardId, IssuerId, TargetAddress, TargetId};
use passloom::domain::time::Timestamp;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::sandbox::certificates::PASS_TYPE;
use passloom::store::targets::{self, TargetKey, TargetKind};
use passloom::store::{STATEMENTS, cards};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, Row, SqlitePool};
use support::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEVICE: &str = "bench-phone";
const CARDS: usize = 3;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(700);

/// As many connections as the service has, and as there none is tried before each use.
#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    async fn open(url: &str) -> anyhow::Result<Self> {
        Ok(match url.strip_prefix("sqlite://") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true);
                let pool = SqlitePoolOptions::new().max_connections(8).test_before_acquire(false);
                Self::Sqlite(pool.connect_with(options).await?)
            }
            None => {
                let pool = PgPoolOptions::new().max_connections(24).test_before_acquire(false);
                Self::Postgres(pool.connect(url).await?)
            }
        })
    }
}

/// The text of one of the service's statements.
fn statement(name: &str, postgres: bool) -> &'static str {
    let sql = STATEMENTS.iter().copied().flatten().find(|sql| sql.name == name).expect("such a statement");
    if postgres { sql.postgres } else { sql.sqlite }
}

macro_rules! on_pool {
    ($pool:expr, $name:literal, |$text:ident, $pool_name:ident| $body:expr) => {
        match $pool {
            Pool::Sqlite($pool_name) => {
                let $text = statement($name, false);
                $body
            }
            Pool::Postgres($pool_name) => {
                let $text = statement($name, true);
                $body
            }
        }
    };
}

async fn bare_fetch(pool: web::Data<Pool>, path: web::Path<(String, String)>) -> actix_web::Result<HttpResponse> {
    let failed = actix_web::error::ErrorInternalServerError;
    let (pass_type, serial) = path.into_inner();
    let modified: i64 = on_pool!(&**pool, "BY_SERIAL", |text, pool| {
        let row = sqlx::query(text).bind(pass_type).bind(serial).fetch_one(pool).await.map_err(failed)?;
        row.get::<i64, _>("modified").max(row.get("t_modified"))
    });
    let modified = Timestamp::from_seconds(modified).to_http_date();
    Ok(HttpResponse::NotModified().insert_header(("last-modified", modified)).finish())
}

async fn bare_list(pool: web::Data<Pool>, path: web::Path<(String, String)>) -> actix_web::Result<HttpResponse> {
    let failed = actix_web::error::ErrorInternalServerError;
    let (device, pass_type) = path.into_inner();
    let (serials, newest): (Vec<String>, i64) = on_pool!(&**pool, "HELD", |text, pool| {
        let rows = sqlx::query(text).bind(pass_type).bind(device).fetch_all(pool).await.map_err(failed)?;
        let newest = rows.iter().map(|row| row.get::<i64, _>("position").max(row.get("published"))).max();
        (rows.iter().map(|row| row.get("serial_number")).collect(), newest.unwrap_or(0))
    });
    let body = json!({"serialNumbers": serials, "lastUpdated": newest.to_string()});
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(body))
}

/// One request on a connection that stays; the status and the whole answer's length.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> anyhow::Result<(u16, usize)> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
        let status = text.get(9..12).unwrap_or_default().parse()?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = if status == 304 { 0 } else { length.unwrap_or("0").parse()? };
        while buffer.len() < head + 4 + length {
            anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        }
        return Ok((status, buffer.len()));
    }
}

/// Requests per second.
async fn rate(address: SocketAddr, request: &str, status: u16) -> anyhow::Result<f64> {
    let started = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut count, mut buffer) = (0, Vec::new());
        while started.elapsed() < ROUND {
            let (found, _) = ask(&mut stream, request.as_bytes(), &mut buffer).await?;
            anyhow::ensure!(found == status, "{found} instead of {status}");
            count += 1;
        }
        anyhow::Ok(count)
    });
    let counts: Vec<i32> = futures_util::future::try_join_all(clients).await?;
    Ok(f64::from(counts.iter().sum::<i32>()) / started.elapsed().as_secs_f64())
}

async fn compare(what: &str, ours: (SocketAddr, &str), bare: (SocketAddr, &str), status: u16) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    let mut best = (0.0_f64, 0.0_f64);
    for round in 0..=ROUNDS {
        let (ours, bare) = (rate(ours.0, ours.1, status).await?, rate(bare.0, bare.1, status).await?);
        // The first round warms both.
        if round > 0 {
            best = (best.0.max(ours), best.1.max(bare));
            ratios.push(ours / bare);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{what}: best round {:.0} per second, bare handler {:.0}; ratio lowest {:.2}, median {:.2}, highest {:.2}  (aim 0.90)",
        best.0,
        best.1,
        ratios[0],
        ratios[ROUNDS / 2],
        ratios[ROUNDS - 1]
    );
    Ok(())
}

async fn run() -> anyhow::Result<()> {
    let service = Service::start(|_| ()).await?;
    let app = &service.app;
    let (workspace, issuer) = (default_workspace(), IssuerId::parse(PASS_TYPE)?);
    let key = TargetKey { workspace: workspace.clone(), issuer, id: TargetId::parse(DEVICE)? };
    for n in 0..CARDS {
        let url = format!("{}/api/v1/cards/bench-{n}", app.public_url);
        let put = service.http.put(url).bearer_auth(&service.facts.api_key);
        put.json(&json!({"template": "bakery-points"})).send().await?.error_for_status()?;
    }
    let mut tx = app.store.begin().await?;
    targets::put(&mut tx, &key, &TargetAddress::parse(&"ab".repeat(32))?, TargetKind::Apns, SystemClock.now()).await?;
    for n in 0..CARDS {
        targets::register(&mut tx, &key, &CardId::parse(&format!("bench-{n}"))?, 1, SystemClock.now()).await?;
    }
    tx.commit().await?;
    let card = cards::find(&mut app.store.read().await?, &workspace, &CardId::parse("bench-0")?).await?;
    let issued = card.expect("the card was issued");
    let token = app.secret(&workspace).await?.auth_token(&issued.card.serial);
    let modified = Timestamp::from_seconds(issued.modified()).to_http_date();

    let pool = Pool::open(&service.database_url).await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let bare: SocketAddr = listener.local_addr()?;
    let build = move || {
        let application = Application::new().app_data(web::Data::new(pool.clone()));
        application
            .route("/v1/passes/{pass_type}/{serial}", web::get().to(bare_fetch))
            .route("/v1/devices/{device}/registrations/{pass_type}", web::get().to(bare_list))
    };
    let server = HttpServer::new(build).tcp_nodelay(true).disable_signals().listen(listener)?.run();
    let handle = server.handle();
    tokio::spawn(server);
    let port = app.public_url.rsplit(':').next().unwrap_or_default().parse()?;
    let ours = SocketAddr::from(([127, 0, 0, 1], port));

    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let headers = format!("authorization: ApplePass {}\r\nif-modified-since: {modified}\r\n", token.as_str());
    let pass = format!("/v1/passes/{PASS_TYPE}/{}", issued.card.serial);
    // Once in full, so that the fetch is noted as it is for every phone that asks again.
    let full = get(&format!("/apple{pass}"), &format!("authorization: ApplePass {}\r\n", token.as_str()));
    let (status, length) = ask(&mut TcpStream::connect(ours).await?, full.as_bytes(), &mut Vec::new()).await?;
    anyhow::ensure!(status == 200, "{status} instead of a pass");
    println!("{CONNECTIONS} connections, {}; a pass of {length} bytes is not sent again", service.database());
    let (fetch, bare_fetch) = (get(&format!("/apple{pass}"), &headers), get(&pass, &headers));
    compare("304", (ours, &fetch), (bare, &bare_fetch), 304).await?;
    let list = format!("/v1/devices/{DEVICE}/registrations/{PASS_TYPE}");
    let (ours_list, bare_list) = (get(&format!("/apple{list}"), ""), get(&list, ""));
    compare("list of 3 serial numbers", (ours, &ours_list), (bare, &bare_list), 200).await?;
    handle.stop(false).await;
    service.stop().await
}

fn main() -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(run())
}
