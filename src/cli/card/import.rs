//! `passloom card import`: imports a table of cards through the API's bulk requests.
//!
//! The table is streamed, and the number of answered rows is saved beside it: after any interruption, the same command
//! continues where it stopped. A row that was sent but not answered is sent again, which changes nothing.

use std::collections::{HashMap, VecDeque};
use std::fs::{OpenOptions, Permissions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use csv::StringRecord;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Map, Value, json};
use sha2::Digest;
use tokio::sync::mpsc;

use crate::cli::client::{Client, ServiceArgs, block_on, describe_problem};
use crate::domain::ids::TemplateId;
use crate::platform::secrets::digest;

/// The number of answers after which the progress is saved.
const KEEP_EVERY: usize = 500;
/// How many rows may be read ahead of what was sent.
const AHEAD: usize = 1000;
/// How often the progress bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The column with the reason, in the file of failed rows.
const REASON: &str = "problem";
/// Columns that are members of the card itself; every other column is an attribute.
const MEMBERS: [&str; 6] = ["id", "template", "locale", "state", "expires_at", "sequence"];

/// Issue or change many cards by a table.
///
/// The first row names the columns: id, and of template, locale, state, expires_at and sequence those that there are; every
/// other column is the attribute of that name. An empty cell leaves its member out. Rows are PUT, or PATCHed with --patch.
///
/// How far it got is kept in FILE.csv.progress until it is done: when something breaks off, the same command goes on from
/// there. Rows that the service refuses are written to FILE.csv.failed.csv with the reason, and it exits with 1. The key
/// needs cards:write and templates:read.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The table, in UTF-8 with commas.
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// The template of rows that name none.
    #[arg(long, value_parser = |text: &str| TemplateId::parse(text).map_err(|error| error.to_string()))]
    pub template: Option<TemplateId>,
    /// Change cards that are there, and only what the table has; else what it leaves out goes back to its default.
    #[arg(long)]
    pub patch: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Imports the table.
///
/// # Errors
/// When the table can't be read as one, or the requests to the service break off.
pub fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    block_on(import(args))
}

/// The facts about a table, read in a first pass.
struct Table {
    fingerprint: String,
    headers: StringRecord,
    rows: usize,
    /// The template of the first row; empty when it names none.
    first_template: String,
}

async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.service)?;
    let table = look_at(&args.file)?;
    ensure!(
        !args.patch || args.template.is_some() || table.headers.iter().any(|name| name == "template"),
        "--patch needs --template or a column template: what the cells mean depends on it"
    );
    // Saved progress is valid only for this table, sent in this way to this workspace.
    let how = format!("{} {} {:?} {}", table.fingerprint, client.identity(), args.template, args.patch);
    let progress = Progress::of(&args.file, &hex::encode(digest(how.as_bytes())));
    let Place { rows: done, failed: failed_before, bytes } = progress.place();
    let mut kinds = Kinds { client: client.clone(), of: HashMap::new() };
    let template = args.template.as_ref().map_or(table.first_template.as_str(), TemplateId::as_str);
    // Rows that failed before still have the old reason; it is an attribute only where the template has one of that
    // name.
    let reason = match table.headers.iter().position(|name| name == REASON) {
        Some(_) if kinds.of(template).await?.contains_key(REASON) => None,
        column => column,
    };
    let failed = Failed::open(&args.file, &table.headers, reason, failed_before, bytes)?;
    if done > 0 {
        println!("Going on after {done} of {} rows.", table.rows);
    }
    let (lines, body) = mpsc::channel::<std::io::Result<String>>(AHEAD);
    let (sent, mut waiting) = mpsc::channel::<StringRecord>(AHEAD);
    let reading = tokio::spawn({
        let (file, headers, template, patch) = (args.file.clone(), table.headers.clone(), args.template, args.patch);
        async move {
            let mut reader = open(&file)?;
            for (at, record) in reader.records().enumerate().skip(done) {
                let record = record.with_context(|| format!("{}, row {}", file.display(), at + 1))?;
                let line = kinds.line(&headers, &record, template.as_ref(), patch).await?;
                // The receiving side reports why it stopped.
                if sent.send(record).await.is_err() || lines.send(Ok(line)).await.is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        }
    });
    let body = futures_util::stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
    let request = client.request(Method::POST, "/cards/bulk").header("content-type", "application/x-ndjson");
    let bar = Bar::new(table.rows, done);
    let mut answers = Answers { progress, failed, bar, count: done };
    let answered = match done < table.rows {
        true => answers.read(&client, request.body(Body::wrap_stream(body)), &mut waiting).await,
        false => Ok(()),
    };
    drop(waiting);
    let Answers { progress, mut failed, bar, count } = answers;
    bar.end();
    if count < table.rows {
        progress.keep(count, &mut failed)?;
        // An error in the table explains why the request broke off.
        reading.await.context("reading the table panicked")??;
        let why =
            answered.err().map_or_else(|| "the service stopped answering".to_owned(), |error| format!("{error:#}"));
        bail!("{why} ({count} of {} rows were answered; the same command goes on from there)", table.rows);
    }
    failed.flush()?;
    progress.end();
    println!("{count} rows, of which {} failed.", failed.count);
    if failed.count > 0 {
        println!("Those stand with their reasons in {}.", failed.path.display());
    }
    Ok(if failed.count > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The answers received so far.
struct Answers {
    progress: Progress,
    failed: Failed,
    bar: Bar,
    count: usize,
}

impl Answers {
    /// Sends the request and reads its answers, one for each row that is `waiting`.
    async fn read(
        &mut self,
        client: &Client,
        request: RequestBuilder,
        waiting: &mut mpsc::Receiver<StringRecord>,
    ) -> anyhow::Result<()> {
        let mut answer = client.send(request).await?;
        let mut rest = VecDeque::new();
        while let Some(piece) = answer.chunk().await.context("the service broke off")? {
            rest.extend(piece);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let answer: Value = serde_json::from_slice(&line).context("the service answered something else")?;
                let record = waiting.recv().await.context("the service answered more rows than it was sent")?;
                if answer["status"] == "failed" {
                    let status = answer["problem"]["status"].as_u64().and_then(|status| u16::try_from(status).ok());
                    let status = status.unwrap_or(500);
                    // Nothing is wrong with the row: it is sent again.
                    ensure!(status < 500, "{}", describe_problem(status, &answer["problem"]));
                    self.failed.note(&record, &answer["problem"])?;
                }
                self.count += 1;
                if self.count.is_multiple_of(KEEP_EVERY) {
                    self.progress.keep(self.count, &mut self.failed)?;
                }
            }
            self.bar.draw(self.count, self.failed.count);
        }
        Ok(())
    }
}

fn open(file: &Path) -> anyhow::Result<csv::Reader<std::fs::File>> {
    csv::Reader::from_path(file).with_context(|| format!("can't read {}", file.display()))
}

fn look_at(file: &Path) -> anyhow::Result<Table> {
    let unread = || format!("can't read {}", file.display());
    let mut content = sha2::Sha256::new();
    std::io::copy(&mut std::fs::File::open(file).with_context(unread)?, &mut HashWriter(&mut content))
        .with_context(unread)?;
    let mut reader = open(file)?;
    let headers = reader.headers().with_context(|| format!("{}: the first row", file.display()))?.clone();
    let names: Vec<&str> = headers.iter().map(str::trim).collect();
    ensure!(
        names.contains(&"id"),
        "{}: found no column id; expected one with your numbers for the cards",
        file.display()
    );
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name)) {
        bail!("{}: the column {} stands twice", file.display(), twice.1);
    }
    let headers = StringRecord::from(names);
    let of_template = headers.iter().position(|name| name == "template");
    let (mut rows, mut first_template) = (0, String::new());
    for record in reader.records() {
        let record = record.with_context(|| format!("{}, row {}", file.display(), rows + 1))?;
        if rows == 0 {
            first_template = of_template.and_then(|at| record.get(at)).unwrap_or_default().to_owned();
        }
        rows += 1;
    }
    Ok(Table { fingerprint: hex::encode(content.finalize()), headers, rows, first_template })
}

struct HashWriter<'h>(&'h mut sha2::Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

/// The kinds of the templates' attributes.
struct Kinds {
    client: Client,
    of: HashMap<String, HashMap<String, String>>,
}

impl Kinds {
    /// Returns a row as a line of a bulk request.
    async fn line(
        &mut self,
        headers: &StringRecord,
        record: &StringRecord,
        template: Option<&TemplateId>,
        patch: bool,
    ) -> anyhow::Result<String> {
        let cell = |name: &str| {
            let at = headers.iter().position(|header| header == name)?;
            record.get(at).filter(|text| !text.is_empty())
        };
        let template = cell("template").or(template.map(TemplateId::as_str)).unwrap_or_default().to_owned();
        let kinds = self.of(&template).await?;
        let (mut line, mut attributes) = (Map::new(), Map::new());
        for (name, text) in headers.iter().zip(record).filter(|(_, text)| !text.is_empty()) {
            match name {
                "sequence" => line.insert(name.to_owned(), typed(Some("integer"), text)),
                // The reason why it failed the last time.
                REASON if !kinds.contains_key(name) => None,
                _ if MEMBERS.contains(&name) => line.insert(name.to_owned(), json!(text)),
                _ => attributes.insert(name.to_owned(), typed(kinds.get(name).map(String::as_str), text)),
            };
        }
        if !template.is_empty() && (!patch || cell("template").is_some()) {
            line.insert("template".to_owned(), json!(template));
        }
        if !attributes.is_empty() {
            line.insert("attributes".to_owned(), Value::Object(attributes));
        }
        if patch {
            line.insert("patch".to_owned(), json!(true));
        }
        Ok(format!("{}\n", Value::Object(line)))
    }

    async fn of(&mut self, template: &str) -> anyhow::Result<&HashMap<String, String>> {
        if !self.of.contains_key(template) {
            let mut kinds = HashMap::new();
            // If it isn't a template id, the service reports that for each row.
            if let Ok(id) = TemplateId::parse(template) {
                let request = self.client.request(Method::GET, &format!("/templates/{id}"));
                let answer = request.send().await.context("the service can't be asked for the template")?;
                let status = answer.status().as_u16();
                let document: Value = answer.json().await.unwrap_or_default();
                ensure!(matches!(status, 200 | 404), "the template {id}: {}", describe_problem(status, &document));
                for attribute in document["attributes"].as_array().into_iter().flatten() {
                    if let (Some(name), Some(kind)) = (attribute["name"].as_str(), attribute["type"].as_str()) {
                        kinds.insert(name.to_owned(), kind.to_owned());
                    }
                }
            }
            self.of.insert(template.to_owned(), kinds);
        }
        Ok(self.of.entry(template.to_owned()).or_default())
    }
}

/// Returns a cell as the attribute's kind requires; what doesn't fit stays a text, and the service reports what it
/// expects.
fn typed(kind: Option<&str>, text: &str) -> Value {
    match kind {
        Some("integer") => text.trim().parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        Some("boolean") => match text.trim() {
            "true" => json!(true),
            "false" => json!(false),
            _ => json!(text),
        },
        _ => json!(text),
    }
}

/// Opens or creates a file that only its owner can read: a table holds members' data.
fn private(path: &Path, how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions) -> std::io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    let file = how(options.write(true).create(true).mode(0o600)).open(path)?;
    // A file that existed before keeps the mode with which it was created.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// How far a table was answered.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    rows: usize,
    failed: usize,
    /// The length of the file of failed rows at that point; rows answered later are sent again.
    bytes: u64,
}

/// The saved progress, in a file beside the table.
struct Progress {
    path: PathBuf,
    fingerprint: String,
}

impl Progress {
    fn of(file: &Path, fingerprint: &str) -> Self {
        Self { path: beside(file, "progress"), fingerprint: fingerprint.to_owned() }
    }

    /// Returns the saved progress; the beginning when none was saved, or it was saved for something else.
    fn place(&self) -> Place {
        let kept = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut words = kept.split_whitespace();
        if words.next() != Some(&self.fingerprint) {
            return Place::default();
        }
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
        match (number(), number(), number()) {
            (Some(rows), Some(failed), Some(bytes)) => Place { rows, failed, bytes: bytes as u64 },
            _ => Place::default(),
        }
    }

    fn keep(&self, rows: usize, failed: &mut Failed) -> anyhow::Result<()> {
        failed.flush()?;
        let bytes = std::fs::metadata(&failed.path).map_or(0, |file| file.len());
        let unkept = || format!("{} can't be written", self.path.display());
        let new = beside(&self.path, "new");
        let place = format!("{} {rows} {} {bytes}\n", self.fingerprint, failed.count);
        private(&new, |options| options.truncate(true))
            .and_then(|mut file| file.write_all(place.as_bytes()))
            .with_context(unkept)?;
        std::fs::rename(&new, &self.path).with_context(unkept)
    }

    fn end(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The rows that the service refused.
struct Failed {
    path: PathBuf,
    headers: StringRecord,
    /// The column with the reasons of an earlier run, which new ones replace.
    reason: Option<usize>,
    writer: Option<csv::Writer<std::fs::File>>,
    count: usize,
}

impl Failed {
    /// Opens the file at that length, or without one.
    fn open(
        table: &Path,
        headers: &StringRecord,
        reason: Option<usize>,
        count: usize,
        bytes: u64,
    ) -> anyhow::Result<Self> {
        let path = beside(table, "failed.csv");
        let uncut = || format!("{} can't be written", path.display());
        match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) if bytes > 0 => file.set_len(bytes).with_context(uncut)?,
            Ok(_) => std::fs::remove_file(&path).with_context(uncut)?,
            Err(_) => {}
        }
        Ok(Self { path, headers: headers.clone(), reason, writer: None, count })
    }

    fn note(&mut self, record: &StringRecord, problem: &Value) -> anyhow::Result<()> {
        let unmade = || format!("{} can't be written", self.path.display());
        if self.writer.is_none() {
            let there = self.path.exists();
            let file = private(&self.path, |options| options.append(true)).with_context(unmade)?;
            let mut writer = csv::Writer::from_writer(file);
            if !there {
                writer.write_record(&self.with(&self.headers, REASON)).with_context(unmade)?;
            }
            self.writer = Some(writer);
        }
        let status = problem["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
        let why = describe_problem(status, problem).replace("\n  ", "; ");
        let row = self.with(record, &why);
        if let Some(writer) = &mut self.writer {
            writer.write_record(&row).with_context(unmade)?;
        }
        self.count += 1;
        Ok(())
    }

    /// Returns a row with the reason in its column.
    fn with(&self, row: &StringRecord, reason: &str) -> StringRecord {
        let others = row.iter().enumerate().filter(|(at, _)| Some(*at) != self.reason).map(|(_, text)| text);
        others.chain([reason]).collect()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.flush().with_context(|| format!("{} can't be written", self.path.display())),
            None => Ok(()),
        }
    }
}

/// A progress bar on a terminal; nothing elsewhere.
struct Bar {
    rows: usize,
    first: usize,
    shown: bool,
    started: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    fn new(rows: usize, first: usize) -> Self {
        Self { rows, first, shown: std::io::stderr().is_terminal(), started: Instant::now(), drawn: None }
    }

    fn draw(&mut self, count: usize, failed: usize) {
        let soon = self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY);
        if !self.shown || (soon && count < self.rows) {
            return;
        }
        self.drawn = Some(Instant::now());
        let full = 30 * count / self.rows.max(1);
        let rate = (count - self.first) as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(30 - full.min(30)));
        eprint!("\r{bar} {count} of {} rows, {failed} failed, {rate:.0} a second ", self.rows);
        let _ = std::io::stderr().flush();
    }

    fn end(&self) {
        if self.drawn.is_some() {
            eprintln!();
        }
    }
}
