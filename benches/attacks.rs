//! What a well-behaved backend notices while somebody else attacks: the real program as a process of its own, a PATCH every
//! 20 ms, and one attack after the other beside it.
//!
//! For each attack it prints the PATCH's 99th percentile as a multiple of that of the same program at rest (aim: under 10),
//! and by how much the process grew (aim: under 512 MiB). It fails when an aim is missed.
//! `cargo bench --bench attacks [-- NAME…]`; PASSLOOM_BENCH_PROGRAM measures another build of the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::X509;
use serde_json::{Value, json};
use tempfile::TempDir;

const PHASE: Duration = Duration::from_secs(6);
const PACE: Duration = Duration::from_millis(20);
const MOST_TIMES_IDLE: f64 = 10.0;
const MOST_GROWTH_MIB: u64 = 512;
const ADMIN_KEY: &str = "bootstrap-key-of-the-benchmark-0123456789";

/// The running program and a backend that uses it.
struct Program {
    child: Child,
    address: SocketAddr,
    base: String,
    key: String,
    demo: String,
    directory: TempDir,
    /// Of the backend: a connection for each request, so that it notices when none can be had.
    http: reqwest::Client,
    /// Of the attackers.
    theirs: reqwest::Client,
}

impl Program {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::var("PASSLOOM_BENCH_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_passloom").to_owned());
        let directory = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        // As many files as most systems let a program open at first.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 1024; exec \"$0\"", &program]);
        command.current_dir(directory.path()).env_clear().env("PASSLOOM_LISTEN", address.to_string());
        command.env("PASSLOOM_ADMIN_KEY", ADMIN_KEY).env("PASSLOOM_INTERNAL_LISTEN", "off");
        let log = std::fs::File::create(directory.path().join("log"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a terminal")?).lines();
        let mut said = |name: &str| -> anyhow::Result<String> {
            let line = lines.next().context("the program ended")??;
            Ok(line.strip_prefix(name).with_context(|| format!("{line:?} instead of {name:?}"))?.to_owned())
        };
        said("Studio: ")?;
        let (key, demo) = (said("API key: ")?, said("Demo card: ")?);
        let client = || reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
        let (http, theirs) = (client().pool_max_idle_per_host(0).build()?, client().build()?);
        Ok(Self { child, address, base: format!("http://{address}"), key, demo, directory, http, theirs })
    }

    async fn api(&self, key: &str, method: reqwest::Method, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(key);
        let answer = request.body(body.to_string()).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or_default()))
    }

    /// A tenant of its own, for attacks by those who have a key.
    async fn tenant(&self) -> anyhow::Result<String> {
        let body = json!({"id": "mallory", "name": "Mallory"});
        let (status, made) = self.api(ADMIN_KEY, reqwest::Method::POST, "/workspaces", &body).await?;
        ensure!(status == 201, "{made}");
        Ok(made["key"]["secret"].as_str().context("a key")?.to_owned())
    }

    fn memory_kib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default()
    }

    fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn size_of(&self, part: &str) -> u64 {
        let path = self.directory.path().join(part);
        let one = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        match std::fs::read_dir(&path) {
            Ok(files) => files.flatten().map(|file| one(file.path())).sum(),
            Err(_) => one(path),
        }
    }

    /// PATCHes of the demo card at a steady pace: their times in milliseconds, and how many were refused or unanswered.
    async fn patches(&self, phase: Duration, points: &mut i64) -> (Vec<f64>, usize) {
        let (started, mut times, mut failed) = (Instant::now(), Vec::new(), 0);
        while started.elapsed() < phase {
            let due = started + PACE * u32::try_from(times.len() + failed).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due.into()).await;
            *points += 1;
            let began = Instant::now();
            let body = json!({"attributes": {"points": *points}});
            let answered = self.api(&self.key, reqwest::Method::PATCH, "/cards/demo", &body);
            match tokio::time::timeout(Duration::from_secs(5), answered).await {
                Ok(Ok((200, _))) => times.push(began.elapsed().as_secs_f64() * 1000.0),
                _ => failed += 1,
            }
        }
        (times, failed)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or(f64::INFINITY)
}

/// What attackers share: whether they go on, and how often they got through.
#[derive(Clone, Default)]
struct Attack {
    over: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Repeats a request on so many threads, each on connections of its own.
    fn repeat(&self, threads: usize, request: impl Fn() -> reqwest::RequestBuilder + Send + Clone + 'static) {
        for _ in 0..threads {
            let (attack, request) = (self.clone(), request.clone());
            tokio::spawn(async move {
                while attack.goes_on() {
                    match request().send().await {
                        Ok(answer) => drop(answer.bytes().await),
                        Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                    attack.count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

type Attacker =
    for<'p> fn(&'p Program, Attack) -> std::pin::Pin<Box<dyn std::future::Future<Output = anyhow::Result<()>> + 'p>>;

const ATTACKS: &[(&str, Attacker)] = &[
    ("templates that cost much to render", |p, a| Box::pin(render(p, a))),
    ("encrypted keys of 2^31 iterations", |p, a| Box::pin(keys(p, a))),
    ("bodies of a megabyte, 64 at a time", |p, a| Box::pin(bodies(p, a))),
    ("bulks of nothing but faults", |p, a| Box::pin(faults(p, a))),
    ("answers that are not read", |p, a| Box::pin(unread(p, a))),
    ("2,000 bodies that drip", |p, a| Box::pin(dripped(p, a))),
    ("register, unregister", |p, a| Box::pin(register(p, a))),
    ("messages of phones", |p, a| Box::pin(messages(p, a))),
    ("pictures of 40 megapixels", |p, a| Box::pin(pictures(p, a))),
    ("the card's page and openapi.json", |p, a| Box::pin(pages(p, a))),
];

/// Two kinds: what costs much and shows nothing, and what shows much.
async fn render(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let key = program.tenant().await?;
    let joined = ["a"; 120].join("~");
    let costly = format!("{{{{ 'x' if ({joined})=='' else 'y' }}}}");
    let document = |value: String, fields: usize| {
        let fields: Vec<Value> =
            (0..fields).map(|n| json!({"key": format!("f{n}"), "label": "L", "value": value})).collect();
        let attribute = json!({"name": "a", "type": "text", "max_length": 4096, "default": "x".repeat(4096)});
        json!({"name": "N", "organization": "O", "attributes": [attribute], "fields": {"back": fields},
            "apple": {"style": "storeCard"}})
    };
    for (id, document) in [("costly", document(costly, 40)), ("large", document("{{ a }}".repeat(4), 1000))] {
        program.api(&key, reqwest::Method::PUT, &format!("/templates/{id}"), &document).await?;
        let (http, url) = (program.theirs.clone(), format!("{}/api/v1/templates/{id}/preview", program.base));
        let key = key.clone();
        attack.repeat(4, move || http.post(&url).bearer_auth(&key).body("{}"));
    }
    Ok(())
}

/// A PKCS#12 file that announces 2^31-1 iterations for its MAC.
fn endless() -> anyhow::Result<Vec<u8>> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut certificate = X509::builder()?;
    certificate.set_pubkey(&key)?;
    certificate.sign(&key, openssl::hash::MessageDigest::sha256())?;
    let mut builder = Pkcs12::builder();
    builder.pkey(&key).cert(&certificate.build()).mac_iter(2048);
    let mut der = builder.build2("secret")?.to_der()?;
    // SEQUENCE { INTEGER 3, SEQUENCE { … }, SEQUENCE { …, INTEGER 2048 } }: the last two bytes become four, and both
    // lengths around them grow by as many.
    ensure!(der.ends_with(&[2, 2, 8, 0]) && der.starts_with(&[0x30, 0x82]) && der[7..9] == [0x30, 0x82]);
    let mac = 11 + usize::from(u16::from_be_bytes([der[9], der[10]]));
    ensure!(der[mac] == 0x30 && der[mac + 1] < 0x70);
    der[mac + 1] += 2;
    let whole = u16::from_be_bytes([der[2], der[3]]) + 2;
    der[2..4].copy_from_slice(&whole.to_be_bytes());
    der.truncate(der.len() - 4);
    der.extend([2, 4, 0x7f, 0xff, 0xff, 0xff]);
    Ok(der)
}

async fn keys(program: &Program, attack: Attack) -> anyhow::Result<()> {
    use base64::Engine as _;
    let key = program.tenant().await?;
    let body = json!({"pkcs12": base64::prelude::BASE64_STANDARD.encode(endless()?), "password": "secret"}).to_string();
    let (http, url) = (program.theirs.clone(), format!("{}/api/v1/issuers/apple", program.base));
    attack.repeat(4, move || http.put(&url).bearer_auth(&key).body(body.clone()));
    Ok(())
}

async fn bodies(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let key = program.tenant().await?;
    let body = format!("[{}1]", "[],".repeat(340_000));
    let (http, url) = (program.theirs.clone(), format!("{}/api/v1/templates/t", program.base));
    attack.repeat(64, move || http.put(&url).bearer_auth(&key).body(body.clone()));
    Ok(())
}

async fn faults(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let key = program.tenant().await?;
    let members: Vec<String> = (0..200).map(|n| format!("\"m{n}\":1")).collect();
    let line = format!("{{\"id\":\"1\",\"template\":\"t\",{}}}\n", members.join(","));
    let body = line.repeat(575_000 / line.len());
    let (http, url) = (program.theirs.clone(), format!("{}/api/v1/cards/bulk", program.base));
    attack.repeat(8, move || {
        let request = http.post(&url).bearer_auth(&key).header("content-type", "application/x-ndjson");
        request.body(body.clone())
    });
    Ok(())
}

/// Pages of large cards, asked for by clients that take nothing of the answer.
#[allow(clippy::disallowed_methods)] // an attacker's pace, on a thread of its own
async fn unread(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let attributes: Vec<Value> =
        (0..40).map(|n| json!({"name": format!("a{n}"), "type": "text", "max_length": 4096})).collect();
    let document = json!({"name": "N", "organization": "O", "attributes": attributes,
        "fields": {"header": [{"key": "k", "label": "L", "value": "v"}]}, "apple": {"style": "storeCard"}});
    let put =
        |path: String, body: Value| async move { program.api(&program.key, reqwest::Method::PUT, &path, &body).await };
    put("/templates/wide".to_owned(), document).await?;
    let mut icon = Vec::new();
    image::DynamicImage::new_rgb8(114, 114).write_to(&mut std::io::Cursor::new(&mut icon), image::ImageFormat::Png)?;
    let url = format!("{}/api/v1/templates/wide/images/icon", program.base);
    program.http.put(url).bearer_auth(&program.key).body(icon).send().await?.error_for_status()?;
    let (status, answer) =
        program.api(&program.key, reqwest::Method::POST, "/templates/wide/publish", &json!({})).await?;
    ensure!(status == 200, "{answer}");
    let values: serde_json::Map<String, Value> = (0..40).map(|n| (format!("a{n}"), json!("w".repeat(4096)))).collect();
    for n in 0..100 {
        let card = json!({"template": "wide", "attributes": values});
        let (status, answer) = put(format!("/cards/wide-{n}"), card).await?;
        ensure!(status == 201, "{answer}");
    }
    for _ in 0..32 {
        let (address, key, attack) = (program.address, program.key.clone(), attack.clone());
        std::thread::spawn(move || {
            while attack.goes_on() {
                let Ok(mut stream) = TcpStream::connect(address) else { break };
                let request = "GET /api/v1/cards?template=wide&limit=1000 HTTP/1.1\r\nhost: x\r\n";
                if write!(stream, "{request}authorization: Bearer {key}\r\n\r\n").is_err() {
                    continue;
                }
                attack.count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 1]);
                while attack.goes_on() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
    }
    Ok(())
}

/// Registrations without a token, a byte every second each.
#[allow(clippy::disallowed_methods)] // an attacker's pace, on a thread of its own
async fn dripped(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let (address, attack) = (program.address, attack.clone());
    let path = "/apple/v1/devices/d/registrations/pass.dev.passloom.sandbox/s";
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n");
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        while attack.goes_on() {
            while open.len() < 2000 && attack.goes_on() {
                let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else { break };
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                if stream.write_all(head.as_bytes()).is_ok() {
                    attack.count.fetch_add(1, Ordering::Relaxed);
                    open.push(stream);
                }
            }
            open.retain_mut(|stream| stream.write_all(b" ").is_ok());
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    // All of them stand before the backend comes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// The demo card's serial number and its token, as any holder has them.
async fn pass(program: &Program) -> anyhow::Result<(String, String)> {
    let file = program.http.get(format!("{}/card.pkpass", program.demo)).send().await?.bytes().await?;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(file.to_vec()))?;
    let pass: Value = serde_json::from_reader(archive.by_name("pass.json")?)?;
    let text = |name: &str| pass[name].as_str().map(ToOwned::to_owned).context("a text");
    Ok((text("serialNumber")?, text("authenticationToken")?))
}

async fn register(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let (serial, token) = pass(program).await?;
    for device in 0..4 {
        let (http, attack, token) = (program.theirs.clone(), attack.clone(), token.clone());
        let url = format!(
            "{}/apple/v1/devices/attack-{device}/registrations/pass.dev.passloom.sandbox/{serial}",
            program.base
        );
        tokio::spawn(async move {
            let authorization = format!("ApplePass {token}");
            while attack.goes_on() {
                let body = json!({"pushToken": "ab".repeat(32)}).to_string();
                let _ = http.post(&url).header("authorization", &authorization).body(body).send().await;
                let _ = http.delete(&url).header("authorization", &authorization).send().await;
                attack.count.fetch_add(2, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

async fn messages(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let (http, url) = (program.theirs.clone(), format!("{}/apple/v1/log", program.base));
    let logs: Vec<String> = (0..200).map(|n| format!("[{n}] {}", "nonsense of a stranger ".repeat(40))).collect();
    let body = json!({"logs": logs}).to_string();
    attack.repeat(8, move || http.post(&url).body(body.clone()));
    Ok(())
}

async fn pictures(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let key = program.tenant().await?;
    let document = json!({"name": "N", "organization": "O",
        "fields": {"header": [{"key": "k", "label": "L", "value": "v"}]}, "apple": {"style": "storeCard"}});
    program.api(&key, reqwest::Method::PUT, "/templates/t", &document).await?;
    let mut png = Vec::new();
    image::DynamicImage::new_rgb8(8000, 5000).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)?;
    let (http, url) = (program.theirs.clone(), format!("{}/api/v1/templates/t/images/strip", program.base));
    attack.repeat(16, move || http.put(&url).bearer_auth(&key).body(png.clone()));
    Ok(())
}

async fn pages(program: &Program, attack: Attack) -> anyhow::Result<()> {
    let (http, demo) = (program.theirs.clone(), program.demo.clone());
    attack.repeat(4, move || http.get(&demo));
    let (http, described) = (program.theirs.clone(), format!("{}/api/openapi.json", program.base));
    attack.repeat(4, move || http.get(&described));
    Ok(())
}

async fn measure(name: &str, attacker: Attacker) -> anyhow::Result<bool> {
    let program = Program::start()?;
    let mut points = 1000;
    program.patches(Duration::from_secs(1), &mut points).await;
    let (mut idle, _) = program.patches(PHASE / 2, &mut points).await;
    let idle_p99 = percentile(&mut idle, 99);
    let (idle_kib, data, log) = (program.memory_kib("VmRSS"), program.size_of("data"), program.size_of("log"));
    program.forget_peak()?;
    let attack = Attack::default();
    attacker(&program, attack.clone()).await.with_context(|| name.to_owned())?;
    let (mut times, failed) = program.patches(PHASE, &mut points).await;
    attack.over.store(true, Ordering::Relaxed);
    let p99 = if failed > 0 { f64::INFINITY } else { percentile(&mut times, 99) };
    let grown = program.memory_kib("VmHWM").saturating_sub(idle_kib) / 1024;
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    println!(
        "{name:<36} idle p99 {idle_p99:6.1} ms, attacked {p99:8.1} ms ({:6.1} times), {failed} of {} failed; memory +{grown} MiB; \
         {} requests; data +{:.1} MiB, log +{:.1} MiB",
        p99 / idle_p99,
        times.len() + failed,
        attack.count.load(Ordering::Relaxed),
        mib(program.size_of("data").saturating_sub(data)),
        mib(program.size_of("log").saturating_sub(log)),
    );
    Ok(p99 / idle_p99 < MOST_TIMES_IDLE && grown < MOST_GROWTH_MIB)
}

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut missed = Vec::new();
    for (name, attacker) in
        ATTACKS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w)))
    {
        if !runtime.block_on(measure(name, *attacker))? {
            missed.push(*name);
        }
    }
    ensure!(missed.is_empty(), "aims missed: {}", missed.join("; "));
    Ok(())
}
