//! How much memory requests can make the real program hold: each kind of request that is large, slow or refused is driven
//! against one running program, and the peak is read from the kernel.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::program::{Program, command, free_port};

/// How far above its idle size the program may come, in MiB.
const ALLOWED: u64 = 512;
const MIB: usize = 1024 * 1024;

/// A figure of the process in MiB, by its name in `/proc/<pid>/status`.
fn figure(program: &Program, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Sends a request on a connection of its own.
fn send(program: &Program, head: &str, body: &[u8]) -> TcpStream {
    send_part(program, head, body.len(), body, Duration::from_secs(60))
}

/// Sends what the program takes of a part of a request's body.
fn send_half(program: &Program, head: &str, length: usize, part: &[u8]) -> TcpStream {
    send_part(program, head, length, part, Duration::from_millis(100))
}

fn send_part(program: &Program, head: &str, length: usize, body: &[u8], patience: Duration) -> TcpStream {
    let address = program.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
        program.key
    );
    stream.write_all(head.as_bytes()).unwrap();
    match stream.write_all(body) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            panic!("{error}")
        }
        _ => stream,
    }
}

/// The status of an answer; `None` when none comes in time, or the connection is closed without one.
fn status(stream: &mut TcpStream, patience: Duration) -> Option<u16> {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).ok()?;
    std::str::from_utf8(&beginning[9..]).ok()?.parse().ok()
}

fn api(program: &Program, method: reqwest::Method, path: &str, body: &Value) -> Value {
    run(async { program.api(method, path, body).await.unwrap() })
}

fn put(program: &Program, path: &str, body: &Value) -> Value {
    let answer = api(program, reqwest::Method::PUT, path, body);
    assert!(answer["errors"].is_null(), "{path}: {answer}");
    answer
}

fn template(attributes: &Value, back: &Value) -> Value {
    json!({
        "name": "Memory", "organization": "Memory", "languages": ["en"], "attributes": attributes,
        "fields": {"back": back}, "apple": {"style": "storeCard"},
    })
}

/// A template of a hundred texts, and so many cards that have all of them filled: 0.96 MB each.
fn large_cards(program: &Program, directory: &std::path::Path, count: usize) {
    let attributes: Vec<Value> =
        (0..100).map(|n| json!({"name": format!("a{n}"), "type": "text", "max_length": 4096})).collect();
    put(program, "/api/v1/templates/large", &template(&json!(attributes), &json!([])));
    publish(program, "large");
    // Three bytes each, since a text's length is counted in characters.
    let text = "…".repeat(3200);
    let values: serde_json::Map<String, Value> = (0..100).map(|n| (format!("a{n}"), json!(text))).collect();
    let made = put(program, "/api/v1/cards/large", &json!({"template": "large", "attributes": values}));
    assert_eq!(made["revision"], 1, "{}", made["detail"]);
    // Copies of it, written where the program reads them: through the API, that many would take a test too long.
    run(async {
        use sqlx::Connection;
        let url = format!("sqlite://{}", directory.join("data/passloom.db").display());
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT name FROM pragma_table_info('cards')").fetch_all(&mut database).await.unwrap();
        let copied: Vec<String> = columns
            .iter()
            .map(|column| match column.as_str() {
                "id" => "'large-' || n".to_owned(),
                "serial_number" => "serial_number || n".to_owned(),
                "page_token_hash" => "CAST('hash' || n AS BLOB)".to_owned(),
                other => other.to_owned(),
            })
            .collect();
        let copy = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
            INSERT INTO cards ({}) SELECT {} FROM cards, numbers WHERE id = 'large'",
            columns.join(", "),
            copied.join(", ")
        );
        sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&mut database).await.unwrap();
    });
}

fn publish(program: &Program, id: &str) {
    let icon = png(114, 114, 0);
    let place = format!("PUT /api/v1/templates/{id}/images/icon");
    assert_eq!(status(&mut send(program, &place, &icon), Duration::from_secs(20)), Some(204));
    let published = api(program, reqwest::Method::POST, &format!("/api/v1/templates/{id}/publish"), &Value::Null);
    assert!(published["version"].is_i64(), "{published}");
}

/// A picture of one colour with so many bytes beside its pixels, which mean nothing.
fn png(width: u32, height: u32, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = image::RgbaImage::from_pixel(width, height, image::Rgba([20, 90, 160, 255]));
    let encoder = image::codecs::png::PngEncoder::new_with_quality(
        &mut bytes,
        image::codecs::png::CompressionType::Default,
        image::codecs::png::FilterType::NoFilter,
    );
    picture.write_with_encoder(encoder).unwrap();
    if padding > 0 {
        let mut chunk = u32::try_from(padding).unwrap().to_be_bytes().to_vec();
        let content = [b"teSt".as_slice(), &vec![7; padding]].concat();
        chunk.extend_from_slice(&content);
        chunk.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
        // Behind the signature and the head.
        bytes.splice(33..33, chunk);
    }
    bytes
}

/// JSON of which each two bytes become a node of a tree in memory.
fn deep_json(length: usize) -> Vec<u8> {
    let mut text = String::from("{\"name\":[");
    while text.len() < length - 8 {
        text.push_str("[0],");
    }
    text.push_str("0]}");
    text.into_bytes()
}

#[test]
fn no_kind_of_request_takes_the_program_512_mib_above_its_idle_size() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(command(directory.path(), free_port()));
    let started = Instant::now();
    large_cards(&program, directory.path(), 120);
    let idle = figure(&program, "VmRSS");
    let mut failures = Vec::new();
    let mut drive = |name: &str, attack: &dyn Fn(&Program)| {
        let begun = Instant::now();
        // The kernel forgets the peak so far.
        std::fs::write(format!("/proc/{}/clear_refs", program.child.id()), "5").unwrap();
        attack(&program);
        let above = figure(&program, "VmHWM").saturating_sub(idle);
        eprintln!("{name}: {above} MiB above {idle} MiB idle, in {:?}", begun.elapsed());
        if above >= ALLOWED {
            failures.push(format!("{name}: {above} MiB"));
        }
        // It serves on.
        assert_eq!(run(program.card())["id"], "demo", "after {name}");
    };
    drive("lists of large cards, never read", &|program| {
        let lists: Vec<TcpStream> =
            (0..6).map(|_| send(program, "GET /api/v1/cards?template=large&limit=1000", b"")).collect();
        for mut list in lists {
            assert!(matches!(status(&mut list, Duration::from_secs(30)), Some(200 | 503)));
        }
    });
    drive("documents of many small nodes", &|program| {
        // As many values as are allowed, and as many as fit into a body.
        let (allowed, most) = (deep_json(196_000), deep_json(MIB));
        let head = "PUT /api/v1/templates/deep";
        let bodies = std::iter::repeat_n(&allowed, 40).chain(std::iter::repeat_n(&most, 8));
        let sent: Vec<TcpStream> = bodies.map(|body| send(program, head, body)).collect();
        for mut stream in sent {
            assert!(matches!(status(&mut stream, Duration::from_secs(30)), Some(422 | 503)));
        }
    });
    drive("archives, half sent", &|program| {
        let half = vec![0; 48 * MIB];
        let head = "POST /api/v1/templates/import";
        let sent: Vec<TcpStream> = (0..12).map(|_| send_half(program, head, 64 * MIB, &half)).collect();
        drop(sent);
    });
    drive("pictures", &|program| {
        let plain = png(6000, 6000, 0).len();
        let picture = png(6000, 6000, 16 * MIB - plain - 64);
        let head = "PUT /api/v1/templates/large/images/strip";
        let sent: Vec<TcpStream> = (0..16).map(|_| send_half(program, head, picture.len(), &picture[1..])).collect();
        drop(sent);
        let whole: Vec<TcpStream> = (0..4).map(|_| send(program, head, &picture)).collect();
        for mut whole in whole {
            let answer = status(&mut whole, Duration::from_secs(60));
            assert!(matches!(answer, Some(204)), "{answer:?}");
        }
    });
    drive("bad lines of a bulk", &|program| {
        let choices: Vec<String> = (0..100).map(|n| format!("{n:064}")).collect();
        let attributes: Vec<Value> =
            (0..100).map(|n| json!({"name": format!("c{n}"), "type": "choice", "choices": choices})).collect();
        put(program, "/api/v1/templates/choices", &template(&json!(attributes), &json!([])));
        publish(program, "choices");
        let values: serde_json::Map<String, Value> = (0..100).map(|n| (format!("c{n}"), json!("x"))).collect();
        let line = json!({"id": "bad", "template": "choices", "attributes": values}).to_string() + "\n";
        let body = line.repeat(500);
        let mut sent = send(program, "POST /api/v1/cards/bulk", body.as_bytes());
        assert_eq!(status(&mut sent, Duration::from_secs(60)), Some(200));
        let (mut read, mut piece) = (0, vec![0; MIB]);
        sent.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        while let Ok(count) = sent.read(&mut piece)
            && count > 0
        {
            read += count;
        }
        assert!(read < 4 * MIB, "{} kB of lines were answered with {} kB", body.len() / 1024, read / 1024);
    });
    drive("publishings of many expressions", &|program| {
        let many = "{{a|abs}}".repeat(20);
        for round in 0..10 {
            let texts: Vec<String> = (0..200).map(|n| many.replace("|abs", &format!("+{round}{n:03}"))).collect();
            let mut document = template(&json!([{"name": "a", "type": "integer", "default": 1}]), &json!([]));
            document["apple"]["pass"] = json!({"userInfo": {"texts": texts}});
            put(program, "/api/v1/templates/many", &document);
            publish(program, "many");
        }
    });
    eprintln!("{} MiB stayed, after {:?}", figure(&program, "VmRSS") - idle, started.elapsed());
    assert!(failures.is_empty(), "more than {ALLOWED} MiB above {idle} MiB: {failures:?}");
}
