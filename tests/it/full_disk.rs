//! A disk that is full, and has space again: what was answered stays, what can be read is read, and nobody has to start
//! the service anew.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use passloom::platform::clock::{Clock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::support::program::{PROGRAM, Program, free_port, phone};
use crate::support::service::{PASS_TYPE, Service, anna, bakery};
use crate::support::{LONGEST_TEST, TestDatabase};

/// A file system of its own of a few megabytes; gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where nothing may be mounted.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(directory.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("other")).unwrap();
        for size in [64 * 1024, 4096, 512, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("other")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(LONGEST_TEST, test).await });
    assert!(done.is_ok(), "the test still waits");
}

async fn integrity(url: &str) -> String {
    let mut connection = SqliteConnection::connect(url).await.unwrap();
    sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap()
}

#[test]
fn a_full_disk_stops_writing_only_and_only_while_it_is_full() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("NOT TESTED: a full disk. Nothing may be mounted here; run the tests as root.");
        return;
    };
    let database = TestDatabase::sqlite_in(disk.path());
    run(async {
        let service = Service::start(&database).await;
        service.publish("bakery", &bakery()).await;
        let card = service.put_card("M-0", &anna(0)).await;
        let (mut phone, serial) = service.phone_with(&card).await;
        let ready = async || service.send(Method::GET, "/readyz", &[], Vec::new()).await;
        assert_eq!(ready().await.status, 200);
        let points = async |points: i64| {
            service.api(Method::PATCH, "/api/v1/cards/M-0", &json!({"attributes": {"points": points}})).await
        };
        // Several times over: the first full disk finds another state of the log than the next.
        let mut stored = 0;
        for round in 1..=3 {
            disk.fill();
            let mut refused = None;
            for n in 1..3000 {
                let answer = points(round * 10_000 + n).await;
                match answer.status {
                    200 => stored = round * 10_000 + n,
                    _ => {
                        refused = Some(answer);
                        break;
                    }
                }
            }
            let refused = refused.expect("the disk is full");
            assert_eq!((refused.status, &refused.json()["type"]), (507, &json!("/problems/insufficient-storage")));

            // Whatever writes more than that has no space either.
            let long = "x".repeat(1000);
            let note =
                |n: usize| json!({"id": format!("B-{round}-{n}"), "template": "bakery", "attributes": {"note": long}});
            let lines: String = (0..400).map(|n| format!("{}\n", note(n))).collect();
            let bearer = format!("Bearer {}", service.key);
            let headers = [("authorization", bearer.as_str())];
            let bulk = service.send(Method::POST, "/api/v1/cards/bulk", &headers, lines.into_bytes()).await;
            let text = String::from_utf8(bulk.body).unwrap();
            assert!(text.lines().all(|line| line.contains("/problems/insufficient-storage")), "{text}");
            service.clock.advance(Duration::from_secs(1));
            assert_eq!(ready().await.status, 503);
            assert_eq!(ready().await.json()["reasons"], json!(["the database has no space left"]));

            // What can be read, is.
            assert_eq!(service.card("M-0").await["attributes"]["points"], stored);
            assert_eq!(service.api(Method::GET, "/api/v1/cards", &Value::Null).await.status, 200);
            let page = card["urls"]["page"].as_str().unwrap().trim_start_matches(&service.base).to_owned();
            assert_eq!(service.send(Method::GET, &page, &[], Vec::new()).await.status, 200);
            assert_eq!(service.send(Method::GET, &format!("{page}/card.pkpass"), &[], Vec::new()).await.status, 200);
            phone.update(PASS_TYPE, service.now()).await.unwrap();
            assert_eq!(phone.field(&serial, "points"), Some(stored.to_string()), "a phone gets what is stored");

            disk.free();
            stored = round * 10_000;
            let answer = points(stored).await;
            assert_eq!(answer.status, 200, "{}", answer.json());
            service.clock.advance(Duration::from_secs(1));
            assert_eq!(ready().await.status, 200);
            assert!(service.deliver().await >= 1);
            assert_eq!(service.wake(&mut phone).await.len(), 1);
        }
        assert_eq!(service.card("M-0").await["attributes"]["points"], stored);
        service.stop().await;
        assert_eq!(integrity(database.url()).await, "ok");
    });
}

/// The same where nothing may be mounted: a limit on how long files may be, which is another failure of the same writes.
#[test]
fn a_quota_on_files_stops_writing_only_and_only_while_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // Else the first write beyond the limit would kill the process.
    command.args(["-c", "trap '' XFSZ; exec \"$0\"", PROGRAM]).current_dir(directory.path());
    command.env_clear().env("PASSLOOM_LISTEN", format!("127.0.0.1:{}", free_port())).stdout(Stdio::piped());
    command.env("PASSLOOM_INTERNAL_LISTEN", "off");
    let program = Program::start(command);
    let limit = |bytes: &str| {
        let pid = program.child.id().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(set.is_ok_and(|status| status.success()), "prlimit (util-linux) sets no limit");
    };
    run(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let patch = async |points: i64| {
            let body = json!({"attributes": {"points": points}}).to_string();
            let request =
                http.patch(format!("{}/api/v1/cards/demo", program.base)).bearer_auth(&program.key).body(body);
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
        };
        let mut phone = phone(directory.path());
        let serial = phone.add(&program.demo, SystemClock.now()).await.unwrap();
        let log = std::fs::metadata(directory.path().join("data/passloom.db-wal")).unwrap().len();
        let mut stored = 0;
        for round in 1..=2 {
            limit(&log.to_string());
            let mut refused = None;
            for n in 1..3000 {
                match patch(round * 10_000 + n).await {
                    (200, _) => stored = round * 10_000 + n,
                    other => {
                        refused = Some(other);
                        break;
                    }
                }
            }
            assert_eq!(refused, Some((503, true)));
            phone.update(PASS_TYPE, SystemClock.now()).await.unwrap();
            let shown = program.card().await["attributes"]["points"].as_i64();
            // A transaction that reached the log, but could not be confirmed, may count; one that was confirmed does.
            assert!(shown >= Some(stored), "{shown:?} is less than {stored}");
            assert_eq!(phone.field(&serial, "points"), shown.map(|shown| shown.to_string()));
            limit("unlimited");
            assert_eq!(patch(round * 10_000).await.0, 200);
        }
    });
    assert!(program.terminate().success());
    let url = format!("sqlite://{}", directory.path().join("data/passloom.db").display());
    run(async { assert_eq!(integrity(&url).await, "ok") });
}
