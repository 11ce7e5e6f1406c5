//! A throw-away PostgreSQL, started once for all tests of the process, and a fresh database for each test.
//!
//! The server runs under a small shell script whose standard input is a pipe from this process. Whatever ends the
//! tests (success, a panic, kill -9) closes the pipe, and the script stops the server and removes its directory.

use std::fs::{self, Permissions};
use std::future::Future;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use passloom::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// The database that every other one is copied from: its schema is up to date.
const MIGRATED: &str = "migrated";
const MISSING: &str = "PostgreSQL isn't installed, and half of the store's tests need it.\n\
    Install it with scripts/test-tools.sh, or by hand: apt-get install postgresql (Debian, Ubuntu), \
    dnf install postgresql-server (Fedora), brew install postgresql (macOS).\n\
    It needn't run: the tests start one of their own.";

static SERVER: OnceLock<Server> = OnceLock::new();

/// A PostgreSQL; gone when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct Server {
    port: u16,
    directory: PathBuf,
    script: Child,
}

/// One test's database.
#[derive(Debug)]
pub struct TemporaryDatabase {
    name: String,
}

impl TemporaryDatabase {
    /// Copies the migrated one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Server::running().execute(format!("CREATE DATABASE {name} TEMPLATE {MIGRATED}"));
        Self { name }
    }

    pub fn url(&self) -> String {
        Server::running().url(&self.name)
    }
}

impl Drop for TemporaryDatabase {
    fn drop(&mut self) {
        // Hundreds of tests would fill the disk. FORCE, because the test's pool may still be open.
        Server::running().execute(format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

impl Server {
    fn running() -> &'static Self {
        SERVER.get_or_init(|| {
            // What a crash would lose is nobody's loss here.
            let server = Self::start(&["-c", "synchronous_commit=off"]);
            server.execute(format!("CREATE DATABASE {MIGRATED}"));
            let url = server.url(MIGRATED);
            blocking(async move { Store::open(&url).await.unwrap().close().await });
            server
        })
    }

    /// A server of one test's own, which keeps what it confirmed when it is killed, with an empty database.
    pub fn of_its_own() -> (Self, String) {
        let server = Self::start(&[]);
        server.execute("CREATE DATABASE own".to_owned());
        let url = server.url("own");
        (server, url)
    }

    /// Kills the server with everything that it does (like a crash), and waits until it is there again.
    pub fn restart(&self) {
        let first = self.pid_file();
        let Some(pid) = first.lines().next() else { panic!("the server doesn't run") };
        assert!(Command::new("kill").args(["-QUIT", pid.trim()]).status().unwrap().success());
        let started = Instant::now();
        loop {
            let now = self.pid_file();
            if now.lines().next() != Some(pid) && now.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the server doesn't come back");
            #[allow(clippy::disallowed_methods)] // Another process has to make progress, not a clock.
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid_file(&self) -> String {
        fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default()
    }

    fn start(arguments: &[&str]) -> Self {
        let Some(binaries) = binaries() else { panic!("{MISSING}") };
        let mut failures = Vec::new();
        for _ in 0..3 {
            // Another program may take the port between here and the server's start, hence the attempts.
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
            match Self::start_on(port, &binaries, arguments) {
                Ok((script, directory)) => return Self { port, directory, script },
                Err(log) => failures.push(log),
            }
        }
        panic!("PostgreSQL in {} doesn't start:\n{}", binaries.display(), failures.join("\n"));
    }

    /// # Errors
    /// The server's log.
    fn start_on(port: u16, binaries: &Path, arguments: &[&str]) -> Result<(Child, PathBuf), String> {
        // The script removes the directory: this process may have no time to.
        let directory = tempfile::Builder::new().prefix("passloom-postgres-").tempdir().unwrap().keep();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("postgres.sh"), "postgres.sh"]);
        command.arg(binaries).arg(&directory).arg(port.to_string()).args(arguments);
        command.current_dir(&directory).env("LC_ALL", "C").envs([("TZ", "UTC")]);
        // Ctrl-C in the terminal goes to the tests alone, whose end the script sees by itself; and it must not hold
        // on to the standard output that someone reads to its end.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if fs::metadata(&directory).unwrap().uid() == 0 {
            let (uid, gid) = unprivileged_user();
            chown(&directory, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let mut script = command.spawn().unwrap();
        let started = Instant::now();
        loop {
            // The last line of this file is the server's own word; its third says which directory the port serves.
            let pid_file = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
            if pid_file.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok((script, directory));
            }
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            let ended = script.try_wait().unwrap().is_some();
            if ended || log.contains("FATAL") || started.elapsed() > Duration::from_secs(60) {
                drop(script.stdin.take());
                let _ = script.wait();
                return Err(format!("on port {port}:\n{log}"));
            }
            #[allow(clippy::disallowed_methods)] // Another process has to make progress, not a clock.
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn execute(&self, statement: String) {
        let url = self.url("postgres");
        blocking(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
            connection.close().await.unwrap();
        });
    }
}

/// Runs on a thread of its own, because the caller may be within another runtime (when a database is dropped).
pub fn blocking(work: impl Future<Output = ()> + Send) {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        });
        worker.join().unwrap();
    });
}

/// Where `initdb` and `postgres` are: the newest of Debian's versions, else wherever the PATH says.
fn binaries() -> Option<PathBuf> {
    let version = |directory: &PathBuf| -> Option<u32> { directory.file_name()?.to_str()?.parse().ok() };
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|directory| std::cmp::Reverse(version(directory)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates =
        versions.into_iter().map(|directory| directory.join("bin")).chain(std::env::split_paths(&path));
    candidates.find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
}

/// PostgreSQL refuses to run as root, as which CI runs.
fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let fields: Vec<&str> = users.lines().map(|l| l.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("root needs a user postgres or nobody to run PostgreSQL as")
}
