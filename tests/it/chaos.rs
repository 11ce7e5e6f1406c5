//! Nodes and databases that die at any moment, under load: nothing that was answered is lost, nothing that was never sent
//! appears, and every phone ends at what stands in the database. The ledger lives outside of everything that dies.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use passloom::domain::ids::PushToken;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::sandbox::apns::{DeviceChannel, SimulatedApns};
use passloom::sandbox::certificates;
use passloom::sandbox::phone::Phone;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::support::postgres::Server;
use crate::support::program::{Program, command, free_port, phone};
use crate::support::service::{bakery, png, simulated_apns};
use crate::support::{Database, LONGEST_TEST, TestDatabase, run};

const ADMIN: &str = "chaos-0123456789abcdef0123456789abcdef";
const CARDS: i64 = 16;
const WRITERS: i64 = 8;
const PHONES: i64 = 4;
/// The writer that sends its changes in bulk: so many lines in each of so many pieces of one request.
const BULK_WRITER: i64 = 0;
const LINES: u32 = 3;
const PIECES: u32 = 6;
/// How long it may take after the last death until everything is as it should be: a dead node's leases end within a minute.
const RECOVERY: Duration = Duration::from_secs(90);
/// How long anything waits before it asks a dead process again.
const PAUSE: Duration = Duration::from_millis(20);

/// What was sent and what was confirmed for one card. Each card has one writer, and each value is sent once.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    sent: i64,
    confirmed: i64,
    confirmations: i64,
}

type Ledger = Arc<Mutex<HashMap<i64, Entry>>>;

/// One public address, behind which nodes come and go.
struct Front {
    port: u16,
    backend: Arc<[AtomicU16; 2]>,
}

impl Front {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let backend = Arc::new([AtomicU16::new(0), AtomicU16::new(0)]);
        let backends = backend.clone();
        tokio::spawn(async move {
            for turn in 0_usize.. {
                let Ok((mut client, _)) = listener.accept().await else { break };
                let backends = backends.clone();
                tokio::spawn(async move {
                    // One after the other, and the other one when it is dead.
                    for place in [turn % 2, (turn + 1) % 2] {
                        let to = SocketAddr::from(([127, 0, 0, 1], backends[place].load(Ordering::SeqCst)));
                        if let Ok(mut node) = TcpStream::connect(to).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
                            return;
                        }
                    }
                });
            }
        });
        Self { port, backend }
    }

    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Everything that outlives the nodes.
struct World {
    directory: TempDir,
    database: String,
    apns: SimulatedApns,
    front: Front,
    http: reqwest::Client,
    ledger: Ledger,
    left: AtomicI64,
}

impl World {
    async fn new(database: &str, updates: i64) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let chain = certificates::load_or_make(&directory.path().join("certs/dev"), SystemClock.now()).unwrap();
        let apns = simulated_apns(&chain, vec![chain.root.clone(), chain.intermediate.clone()]).await;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Arc::new(Self {
            directory,
            database: database.to_owned(),
            apns,
            front: Front::start().await,
            http,
            ledger: Ledger::default(),
            left: AtomicI64::new(updates),
        })
    }

    /// Starts a node and leads the public address to it. Blocks until it serves.
    fn node(&self, place: usize) -> Program {
        let port = free_port();
        let mut command = command(self.directory.path(), port);
        command.env("PASSLOOM_DATABASE_URL", &self.database).env("PASSLOOM_PUBLIC_URL", self.front.base());
        command.env("PASSLOOM_APNS_URL", self.apns.url()).env("PASSLOOM_APNS_CA", "certs/dev/root.pem");
        command.env("PASSLOOM_MASTER_KEY", "5e".repeat(32)).env("PASSLOOM_ADMIN_KEY", ADMIN);
        let node = Program::start(command);
        self.front.backend[place].store(port, Ordering::SeqCst);
        node
    }

    async fn api(&self, method: Method, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.http.request(method, format!("{}{path}", self.front.base())).bearer_auth(ADMIN);
        let answer = request.body(body.to_string()).send().await.ok()?;
        let status = answer.status().as_u16();
        // An answer that breaks off is none.
        Some((status, answer.json().await.ok()?))
    }

    /// Asks until there is an answer.
    async fn surely(&self, method: Method, path: &str, body: &Value) -> Value {
        let mut last = None;
        for _ in 0..RECOVERY.as_millis() / PAUSE.as_millis() {
            match self.api(method.clone(), path, body).await {
                Some((200 | 201, answer)) => return answer,
                Some((status, answer)) if status < 500 => panic!("{path}: {status} {answer}"),
                other => last = other,
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{path} is not answered any more; the last answer was {last:?}");
    }

    /// Issues the cards, of a template whose only picture is small: the time is for dying, not for drawing.
    async fn issue(&self) -> Vec<String> {
        self.surely(Method::PUT, "/api/v1/templates/chaos", &bakery()).await;
        let icon = format!("{}/api/v1/templates/chaos/images/icon", self.front.base());
        let answer = self.http.put(icon).bearer_auth(ADMIN).body(png(114, 114)).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        self.surely(Method::POST, "/api/v1/templates/chaos/publish", &Value::Null).await;
        let mut pages = Vec::new();
        for card in 0..CARDS {
            let document = json!({"template": "chaos", "attributes": {"points": 0}});
            let answer = self.surely(Method::PUT, &format!("/api/v1/cards/C-{card}"), &document).await;
            pages.push(answer["urls"]["page"].as_str().unwrap().to_owned());
        }
        pages
    }

    /// The next change of the writer's own cards in turn, noted as sent: the card and its new value. `None` when all
    /// updates are sent.
    fn next_change(&self, writer: i64, turn: &mut i64) -> Option<(i64, i64)> {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return None;
        }
        let card = writer + WRITERS * (*turn % (CARDS / WRITERS));
        *turn += 1;
        let mut ledger = self.ledger.lock().unwrap();
        let entry = ledger.entry(card).or_default();
        entry.sent += 1;
        Some((card, entry.sent))
    }

    fn next_changes(&self, writer: i64, turn: &mut i64) -> Vec<(i64, i64)> {
        (0..LINES).map_while(|_| self.next_change(writer, turn)).collect()
    }

    fn confirm(&self, card: i64, value: i64) {
        let mut ledger = self.ledger.lock().unwrap();
        let entry = ledger.get_mut(&card).unwrap();
        entry.confirmed = value;
        entry.confirmations += 1;
    }

    /// Sends change after change, until all updates are sent.
    async fn write(self: Arc<Self>, writer: i64) {
        let mut turn = 0;
        while let Some((card, value)) = self.next_change(writer, &mut turn) {
            let patch = json!({"attributes": {"points": value}});
            match self.api(Method::PATCH, &format!("/api/v1/cards/C-{card}"), &patch).await {
                Some((200, answer)) => {
                    assert_eq!(answer["attributes"]["points"], value);
                    self.confirm(card, value);
                }
                Some((status, answer)) => assert!(status >= 500, "{status} {answer}"),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The same with many changes in each request.
    async fn write_in_bulk(self: Arc<Self>, writer: i64) {
        let mut turn = 0;
        loop {
            let changes = self.next_changes(writer, &mut turn);
            if changes.is_empty() {
                return;
            }
            if self.bulk(changes, writer, &mut turn).await.is_none() {
                // While nobody answers, it sends as few changes as the others.
                tokio::time::sleep(PAUSE * LINES).await;
            }
        }
    }

    /// A bulk that begins with those changes and goes on with the next ones whenever those before are answered. `None`
    /// when it breaks off: what became of the lines without an answer is unknown.
    async fn bulk(&self, mut changes: Vec<(i64, i64)>, writer: i64, turn: &mut i64) -> Option<()> {
        let (body, pieces) = mpsc::unbounded_channel::<std::io::Result<String>>();
        let pieces = stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        let request = self.http.post(format!("{}/api/v1/cards/bulk", self.front.base())).bearer_auth(ADMIN);
        let request = request.header("content-type", "application/x-ndjson").body(reqwest::Body::wrap_stream(pieces));
        body.send(Ok(lines(&changes))).unwrap();
        let mut answers = request.send().await.ok()?;
        let status = answers.status().as_u16();
        if status != 200 {
            assert!(status >= 500, "{status}");
            return None;
        }
        let mut read = Vec::new();
        for piece in 1..=PIECES {
            for &(card, value) in &changes {
                let answer = next_answer(&mut answers, &mut read).await?;
                assert_eq!(answer["id"], format!("C-{card}"));
                match answer["status"].as_str() {
                    Some("updated") => self.confirm(card, value),
                    Some("failed") => assert!(answer["problem"]["status"].as_u64() >= Some(500), "{answer}"),
                    _ => panic!("{answer}"),
                }
            }
            if piece < PIECES {
                changes = self.next_changes(writer, turn);
                // A request that is gone takes no lines and answers none.
                let _ = body.send(Ok(lines(&changes)));
            }
        }
        drop(body);
        let rest = answers.chunk().await.ok()?;
        assert_eq!((read.len(), rest), (0, None), "one answer for each line");
        Some(())
    }

    /// A phone with some of the cards: it asks when a push arrives and for no other reason, until it shows what it should.
    async fn follow(
        self: Arc<Self>,
        (mut phone, mut line): (Phone, DeviceChannel),
        mut expected: watch::Receiver<Option<HashMap<String, String>>>,
        said: Arc<Mutex<String>>,
    ) {
        loop {
            let shown = |phone: &Phone, wanted: &HashMap<String, String>| {
                phone.passes().keys().all(|serial| phone.field(serial, "points").as_ref() == wanted.get(serial))
            };
            if expected.borrow().as_ref().is_some_and(|wanted| shown(&phone, wanted)) {
                // It may hold a face that it fetched before it was told of it; the push for that one is still on its way.
                while phone.update(certificates::PASS_TYPE, SystemClock.now()).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
                return;
            }
            tokio::select! {
                topic = line.recv() => {
                    let topic = topic.expect("APNs lives on");
                    // A phone whose server is away tries again by itself.
                    while let Err(error) = phone.update(&topic, SystemClock.now()).await {
                        *said.lock().unwrap() = format!("it can't update: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                    let points: Vec<_> = phone.passes().keys().map(|s| (s, phone.field(s, "points"))).collect();
                    *said.lock().unwrap() = format!("it shows {points:?}");
                }
                changed = expected.changed() => changed.unwrap(),
            }
        }
    }

    /// Runs writers and phones while `disturb` lets things die, then holds everything against the ledger.
    async fn survive(self: Arc<Self>, disturb: impl Future<Output = ()>) {
        let pages = self.issue().await;
        let (done, expected) = watch::channel(None);
        let mut phones = Vec::new();
        for number in 0..PHONES {
            let mut phone = phone(self.directory.path());
            let line = self.apns.connect_device(&PushToken::parse(phone.push_token()).unwrap());
            for card in (0..CARDS).filter(|card| card % PHONES == number) {
                phone.add(&pages[usize::try_from(card).unwrap()], SystemClock.now()).await.unwrap();
            }
            let said = Arc::new(Mutex::new("it was never told of anything".to_owned()));
            let follows = tokio::spawn(self.clone().follow((phone, line), expected.clone(), said.clone()));
            phones.push((follows, said));
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| match writer {
                BULK_WRITER => tokio::spawn(self.clone().write_in_bulk(writer)),
                _ => tokio::spawn(self.clone().write(writer)),
            })
            .collect();
        disturb.await;
        for writer in writers {
            writer.await.unwrap();
        }
        let mut wanted = HashMap::new();
        let mut lost = Vec::new();
        for card in 0..CARDS {
            let answer = self.surely(Method::GET, &format!("/api/v1/cards/C-{card}"), &Value::Null).await;
            let stored = answer["attributes"]["points"].as_i64().unwrap();
            let changes = answer["revision"].as_i64().unwrap() - 1;
            let entry = self.ledger.lock().unwrap().get(&card).copied().unwrap_or_default();
            let sound = (entry.confirmed..=entry.sent).contains(&stored)
                && (entry.confirmations..=entry.sent).contains(&changes);
            if !sound {
                lost.push(format!("card {card} stands at {stored} after {changes} changes; the ledger says {entry:?}"));
            }
            wanted.insert(answer["serial_number"].as_str().unwrap().to_owned(), stored.to_string());
        }
        assert_eq!(lost, [] as [String; 0]);
        done.send_replace(Some(wanted.clone()));
        for (number, (phone, said)) in (0..).zip(phones) {
            let current = tokio::time::timeout(RECOVERY, phone).await;
            if current.is_err() {
                let mut ledger = Vec::new();
                for card in (0..CARDS).filter(|card| card % PHONES == number) {
                    let path = format!("/api/v1/cards/C-{card}/delivery");
                    ledger.push(self.surely(Method::GET, &path, &Value::Null).await.to_string());
                }
                let said = said.lock().unwrap().clone();
                panic!("phone {number} never became current: {said} instead of {wanted:?}; {ledger:#?}");
            }
            current.unwrap().unwrap();
        }
        for card in 0..CARDS {
            let answer = self.surely(Method::GET, &format!("/api/v1/cards/C-{card}"), &Value::Null).await;
            assert_eq!(answer["wallets"]["apple"], json!({"devices": 1, "current": 1}), "card {card}");
        }
    }
}

/// Changes as lines of a bulk.
fn lines(changes: &[(i64, i64)]) -> String {
    let line = |(card, value): &(i64, i64)| {
        format!("{}\n", json!({"id": format!("C-{card}"), "patch": true, "attributes": {"points": value}}))
    };
    changes.iter().map(line).collect()
}

/// The next line of a bulk's answers; `None` when they break off.
async fn next_answer(answers: &mut reqwest::Response, read: &mut Vec<u8>) -> Option<Value> {
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            return Some(serde_json::from_slice(&line).unwrap());
        }
        read.extend(answers.chunk().await.ok()?.expect("an answer for each line"));
    }
}

/// A number below `limit`; the moments of the kills need no seed, since what must hold holds at all of them.
fn random_below(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    openssl::rand::rand_bytes(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % limit
}

async fn updates_survive_nodes_that_are_killed(database: TestDatabase) {
    // Two nodes share a PostgreSQL; an embedded database has one, and so fewer ways in which changes can cross.
    let (count, updates): (u64, i64) = if database.kind() == Database::Postgres { (2, 4_000) } else { (1, 2_000) };
    let world = World::new(database.url(), updates).await;
    let mut nodes: Vec<Program> = tokio::task::block_in_place(|| {
        [0, 1].into_iter().take(usize::try_from(count).unwrap()).map(|place| world.node(place)).collect()
    });
    let kills = Arc::new(AtomicI64::new(0));
    let disturb = {
        let (world, kills) = (world.clone(), kills.clone());
        async move {
            while world.left.load(Ordering::SeqCst) > 500 {
                tokio::time::sleep(Duration::from_millis(300 + random_below(1500))).await;
                let place = usize::try_from(random_below(count)).unwrap();
                nodes[place].child.kill().unwrap();
                kills.fetch_add(1, Ordering::SeqCst);
                nodes[place] = tokio::task::block_in_place(|| world.node(place));
            }
            // One of two stays dead: the other must finish what it had begun.
            if count == 2 {
                drop(nodes.remove(0));
            }
            nodes
        }
    };
    let nodes = Arc::new(Mutex::new(Vec::new()));
    let kept = nodes.clone();
    world.clone().survive(async move { *kept.lock().unwrap() = disturb.await }).await;
    assert!(kills.load(Ordering::SeqCst) >= 5, "the nodes were killed {} times", kills.load(Ordering::SeqCst));
    drop(nodes);
}

mod killed_nodes {
    use super::{Database, run, updates_survive_nodes_that_are_killed as test};

    #[test]
    fn sqlite() {
        run(Database::Sqlite, test);
    }

    #[test]
    fn postgres() {
        run(Database::Postgres, test);
    }
}

#[test]
fn updates_survive_a_postgresql_that_is_killed_under_load() {
    let (server, url) = Server::of_its_own();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let test = async {
        let world = World::new(&url, 3_000).await;
        let node = tokio::task::block_in_place(|| world.node(0));
        let left = world.clone();
        let disturb = async {
            for killed_at in [2_500, 1_700, 900] {
                while left.left.load(Ordering::SeqCst) > killed_at {
                    tokio::time::sleep(PAUSE).await;
                }
                tokio::task::block_in_place(|| server.restart());
            }
        };
        world.survive(disturb).await;
        assert!(node.terminate().success());
    };
    runtime.block_on(async { tokio::time::timeout(LONGEST_TEST, test).await }).expect("the test ends");
}
