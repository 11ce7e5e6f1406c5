//! `passloom doctor`: examines an installation from the outside and reports what is wrong before a customer does.
//!
//! It changes nothing: the database is opened without migrating it, what is written is rolled back, and the self-test
//! runs on a database and a port of its own. To add a check, write a function that returns [`Finding`]s and call it in
//! [`examine`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::x509::X509;
use serde::Serialize;
use serde_json::json;

use crate::actions::issuers::stored_identities;
use crate::actions::keys::default_workspace;
use crate::app::secret_purpose;
use crate::config::Config;
use crate::domain::ids::PushToken;
use crate::domain::time::Timestamp;
use crate::http::connections;
use crate::platform::http_cause::cause;
use crate::platform::secrets::MasterKeys;
use crate::platform::{files, random};
use crate::sandbox::phone::{Phone, PhoneOptions};
use crate::startup::{self, Contents, JobMode, Outside};
use crate::store::{Store, health, workspaces};
use crate::wallets::PushOutcome;
use crate::wallets::apple::certificates::identity::{IdentityError, SigningIdentity};
use crate::wallets::apple::certificates::trust::Roots;
use crate::wallets::apple::push::apns::Apns;
use crate::wallets::apple::rules::OwnAddresses;

/// How long an external service may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far two clocks may differ: phones refuse a signature from the future.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// The number of days before its end from which a certificate causes a warning.
const EXPIRY_WARNING_DAYS: u64 = 60;

/// With fewer connections than this, a rush of phones has to wait.
const FEW_CONNECTIONS: usize = 2048;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything is as it should be.
    Ok,
    /// It works, but deserves attention.
    Warning,
    /// It doesn't work.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The result.
    pub state: State,
    /// What was found, and how to fix it.
    pub detail: String,
}

fn finding(check: &'static str, state: State, detail: impl Into<String>) -> Finding {
    Finding { check, state, detail: detail.into() }
}

/// Runs every check and returns the findings in the order of the checks.
pub async fn examine(config: &Config, outside: &Outside) -> Vec<Finding> {
    let mut config = config.clone();
    if config.public_url_default {
        config.public_url = format!("http://localhost:{}", config.listen.port());
    }
    let config = &config;
    let now = outside.clock.now();
    let sandbox = match startup::is_sandbox(config, startup::stored_issuers(&config.database_url).await) {
        Ok(sandbox) => sandbox,
        Err(error) => return vec![finding("configuration", State::Error, format!("{error:#}"))],
    };
    let kind = if sandbox { "the sandbox" } else { "a production node" };
    let mut findings = vec![finding(
        "configuration",
        State::Ok,
        format!(
            "this is {kind}, listening on {}, reached at {}, with health checks and metrics on {}",
            config.listen,
            config.public_url,
            config.internal_listen.map_or("no address".to_owned(), |address| address.to_string())
        ),
    )];
    findings.push(open_files());
    findings.extend(database(&config.database_url, now).await);
    let roots = match startup::read_roots(config, sandbox) {
        Ok(roots) => roots,
        Err(error) => {
            findings.push(finding("apple-root", State::Error, format!("{error:#}")));
            Roots::new(Vec::new(), !sandbox)
        }
    };
    if let Some(path) = &config.apple_root {
        let state = if sandbox { State::Ok } else { State::Warning };
        let detail =
            format!("certificates may also lead to {} (PASSLOOM_APPLE_ROOT), which no phone trusts", path.display());
        findings.push(finding("apple-root", state, detail));
    }
    findings.extend(secrets(config, sandbox, &roots, outside).await);
    let identity = match &config.apple {
        Some(files) => match startup::read_identity(files, &roots, now) {
            Ok(identity) => Some(identity),
            Err(error) => {
                findings.push(finding("certificate", State::Error, format!("{error:#}")));
                None
            }
        },
        None => None,
    };
    match &identity {
        Some(identity) => {
            findings.push(certificate(identity, now));
            findings.push(apns(config, identity, now).await);
        }
        None if sandbox && config.apple.is_none() => findings.push(finding(
            "certificate",
            State::Ok,
            "none is configured: the development chain signs in the sandbox, and only the sandbox's phones trust it",
        )),
        None => {}
    }
    findings.extend(public_url(config, outside).await);
    findings.push(match tokio::time::timeout(4 * PATIENCE, self_test(config, outside)).await {
        Ok(Ok(detail)) => finding("self-test", State::Ok, detail),
        Ok(Err(error)) => finding("self-test", State::Error, format!("{error:#}")),
        Err(_) => finding("self-test", State::Error, "a card didn't reach the simulated phone within a minute"),
    });
    findings
}

/// Checks the limit on open files that `serve` would have if it were started like this command.
fn open_files() -> Finding {
    let (before, files) = files::raise_limit();
    let room = connections::room(files);
    let raised = if files > before { format!(" (raised from {before} at start)") } else { String::new() };
    let detail = format!("{files} may be open{raised}: room for {room} connections at a time");
    match room < FEW_CONNECTIONS {
        true => {
            finding("open-files", State::Warning, format!("{detail}; raise the hard limit (ulimit -Hn, LimitNOFILE=)"))
        }
        false => finding("open-files", State::Ok, detail),
    }
}

async fn database(url: &str, now: Timestamp) -> Vec<Finding> {
    const CHECK: &str = "database";
    if let Some(path) = url.strip_prefix("sqlite://")
        && !Path::new(path).exists()
    {
        return vec![finding(CHECK, State::Ok, format!("there is none at {path} yet; the first start makes it"))];
    }
    let store = match Store::connect(url).await {
        Ok(store) => store,
        // The address may hold a password and is not repeated.
        Err(error) => return vec![finding(CHECK, State::Error, format!("can't be opened: {error}"))],
    };
    let mut findings = Vec::new();
    findings.push(match schema(&store).await {
        Ok(finding) => finding,
        Err(error) => finding(CHECK, State::Error, format!("its schema can't be read: {error}")),
    });
    findings.push(match trial(&store).await {
        Ok(()) => finding(CHECK, State::Ok, "it can be read and written"),
        Err(error) => finding(CHECK, State::Error, format!("it can't be written to: {error}")),
    });
    if !store.is_embedded() {
        let its = async { health::clock(&mut store.read().await?).await };
        match its.await {
            Ok(its) => findings.push(clock("the database", its, now)),
            Err(error) => findings.push(finding("clock", State::Error, format!("the database tells no time: {error}"))),
        }
    }
    store.close().await;
    findings
}

/// Checks whether the master key opens what the database holds, and how long the certificates in it are valid.
async fn secrets(config: &Config, sandbox: bool, roots: &Roots, outside: &Outside) -> Vec<Finding> {
    const CHECK: &str = "master-key";
    let exists = config.database_url.strip_prefix("sqlite://").is_none_or(|path| Path::new(path).exists());
    if !exists {
        return Vec::new();
    }
    // A database that can't be opened or read has been reported already.
    let Ok(store) = Store::connect(&config.database_url).await else { return Vec::new() };
    let sealed = async { workspaces::secret(&mut store.read().await?, &default_workspace()).await }.await;
    let mut findings = Vec::new();
    if let Ok(Some(sealed)) = sealed {
        let opened = startup::master_key(config, sandbox, true, &*outside.random)
            .and_then(|key| Ok(key.open(&secret_purpose(&default_workspace()), &sealed).map(|_| key)?));
        match opened {
            Ok(key) => {
                findings.push(finding(CHECK, State::Ok, "it opens the secrets in the database"));
                findings.extend(stored_certificates(config, &store, &key, roots, outside.clock.now()).await);
            }
            Err(error) => findings.push(finding(CHECK, State::Error, format!("{error:#}"))),
        }
    }
    store.close().await;
    findings
}

async fn stored_certificates(
    config: &Config,
    store: &Store,
    key: &MasterKeys,
    roots: &Roots,
    now: Timestamp,
) -> Vec<Finding> {
    // A schema of another version has been reported already.
    let identities = stored_identities(store, key).await.unwrap_or_default();
    let mut findings = Vec::new();
    for identity in identities {
        match identity {
            Ok(identity) if !roots.take(identity.proof(roots, now)) => {
                let detail =
                    format!("{} in the database is not used: {}", identity.pass_type, IdentityError::Untrusted);
                findings.push(finding("certificate", State::Error, detail));
            }
            Ok(identity) => {
                findings.push(certificate(&identity, now));
                findings.push(apns(config, &identity, now).await);
            }
            Err(error) => {
                let detail = format!("one in the database can't be used: {error}");
                findings.push(finding("certificate", State::Error, detail));
            }
        }
    }
    findings
}

async fn schema(store: &Store) -> Result<Finding, crate::store::StoreError> {
    let applied = health::applied_migrations(&mut store.read().await?).await?;
    let ours = store.migrations();
    let missing = ours.iter().filter(|version| !applied.contains(version)).count();
    let newer = applied.iter().filter(|version| !ours.contains(version)).count();
    Ok(match (missing, newer) {
        (_, 1..) => finding(
            "database",
            State::Error,
            format!(
                "a newer version wrote its schema ({newer} migrations are unknown to this one); upgrade this program"
            ),
        ),
        (1.., 0) => {
            finding("database", State::Warning, format!("{missing} migrations are due; the next start applies them"))
        }
        (0, 0) => finding("database", State::Ok, format!("its schema is up to date ({} migrations)", ours.len())),
    })
}

/// Writes to the database and rolls it back.
async fn trial(store: &Store) -> Result<(), crate::store::StoreError> {
    let mut tx = store.begin().await?;
    match workspaces::next_position(&mut tx, &default_workspace()).await {
        // Without workspaces no row is changed, but the database has accepted the write.
        Ok(_) | Err(crate::store::StoreError::RowGone(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn clock(whose: &str, its: Timestamp, now: Timestamp) -> Finding {
    let apart = its.since(now).max(now.since(its));
    if apart <= CLOCK_TOLERANCE {
        return finding("clock", State::Ok, format!("agrees with {whose} ({:.1} s apart)", apart.as_secs_f64()));
    }
    let detail = format!(
        "is {} s apart from {whose}; set both by NTP: phones refuse signatures from the future",
        apart.as_secs()
    );
    finding("clock", State::Error, detail)
}

fn certificate(identity: &SigningIdentity, now: Timestamp) -> Finding {
    const CHECK: &str = "certificate";
    let who = format!("{} of team {}", identity.pass_type, identity.team);
    let end = identity.not_after.to_rfc3339_seconds();
    let days = identity.not_after.since(now).as_secs() / 86_400;
    if now < identity.not_before {
        let from = identity.not_before.to_rfc3339_seconds();
        return finding(
            CHECK,
            State::Error,
            format!("{who} is not valid before {from}; is this machine's clock right?"),
        );
    }
    if now >= identity.not_after {
        return finding(
            CHECK,
            State::Error,
            format!("{who} ended on {end}; no new pass is accepted until it is renewed"),
        );
    }
    let state = if days < EXPIRY_WARNING_DAYS { State::Warning } else { State::Ok };
    finding(CHECK, state, format!("{who} is valid for {days} more days, until {end}"))
}

/// Pushes to a token that no phone has: if APNs refuses the token, it has accepted the certificate.
async fn apns(config: &Config, identity: &SigningIdentity, now: Timestamp) -> Finding {
    const CHECK: &str = "apns";
    let sandbox_only = config.apns_url.is_none() && config.sandbox == Some(true);
    if sandbox_only {
        return finding(CHECK, State::Ok, "is simulated by the sandbox; the self-test pushes through it");
    }
    let endpoint = match startup::apns_endpoint(config, None, None) {
        Ok(endpoint) => endpoint,
        Err(error) => return finding(CHECK, State::Error, format!("{error:#}")),
    };
    let url = endpoint.url.clone();
    let client = Apns::new(&endpoint, &identity.chain_pem, &identity.key_pem.0);
    let (Ok(client), Ok(nobody)) = (client, PushToken::parse(&"0".repeat(64))) else {
        return finding(CHECK, State::Error, "the connection can't be set up with this certificate and key");
    };
    match client.push(&identity.pass_type, &nobody, now).await {
        PushOutcome::Delivered | PushOutcome::TargetGone { .. } | PushOutcome::Refused { .. } => {
            finding(CHECK, State::Ok, format!("{url} answers and accepts the certificate"))
        }
        PushOutcome::IssuerRefused { reason } => {
            finding(CHECK, State::Error, format!("{url} refuses the certificate: {reason}"))
        }
        PushOutcome::TryLater { reason, .. }
        | PushOutcome::ServiceUnwell { reason }
        | PushOutcome::NoAnswer { reason }
        | PushOutcome::Unreachable { reason } => {
            // A server that refuses the certificate says so in TLS, but the message is often lost with the connection.
            let hint = "is the port open to the outside, and the certificate neither expired nor revoked?";
            finding(CHECK, State::Error, format!("{url} can't be used: {reason}; {hint}"))
        }
    }
}

async fn public_url(config: &Config, outside: &Outside) -> Vec<Finding> {
    const CHECK: &str = "public-url";
    let url = &config.public_url;
    if OwnAddresses::of(url) == OwnAddresses::Loopback {
        return vec![finding(CHECK, State::Ok, format!("{url} is for this machine alone; no real phone reaches it"))];
    }
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let Ok(client) = client else { return vec![finding(CHECK, State::Error, "no HTTP client can be made")] };
    // Makes a phone's first request: a pass that doesn't exist must be answered 401 by us and by nothing in between.
    let asked = client.get(format!("{url}/apple/v1/passes/pass.doctor/0")).send().await;
    let response = match asked {
        Ok(response) => response,
        Err(error) => {
            return vec![finding(CHECK, State::Error, format!("{url} can't be reached: {}", cause(&error)))];
        }
    };
    // The checks before this may have taken a while.
    let now = outside.clock.now();
    let ours = response.headers().contains_key("x-request-id");
    let date = response.headers().get("date").and_then(|v| Timestamp::parse_http_date(v.to_str().ok()?));
    let status = response.status().as_u16();
    let mut findings = vec![if status == 401 && ours {
        finding(CHECK, State::Ok, format!("{url} leads to Passloom, and its certificate is trusted"))
    } else {
        let detail = format!(
            "{url}/apple/v1 was answered {status}{}; expected 401 of Passloom. Does the proxy pass everything on, unchanged and unchallenged?",
            if ours { "" } else { " by something else" }
        );
        finding(CHECK, State::Error, detail)
    }];
    findings.extend(date.map(|date| clock(url, date, now)));
    findings
}

/// Runs the whole main flow on a database and a port of its own, with the configured certificate where there is one: a
/// card is issued, a simulated phone adds it, the balance changes, and the push makes the phone fetch it.
async fn self_test(config: &Config, outside: &Outside) -> anyhow::Result<String> {
    let folder = TemporaryFolder::new(outside)?;
    let mut own = Config::load(None, |_| None)?;
    own.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    own.internal_listen = None;
    own.data_dir.clone_from(&folder.0);
    own.data_dir_given = true;
    own.database_url = format!("sqlite://{}", folder.0.join("passloom.db").display());
    own.sandbox = Some(true);
    own.apple.clone_from(&config.apple);
    own.apple_root.clone_from(&config.apple_root);
    let root = if own.apple.is_some() { None } else { Some(folder.0.join("certs/dev/root.pem")) };
    let prepared = startup::prepare(own, outside.clone(), Contents::Starters).await?;
    let (facts, base) = (prepared.sandbox.clone(), prepared.app.public_url.clone());
    let running = prepared.run(JobMode::Running)?;
    let outcome = async {
        let facts = facts.ok_or_else(|| anyhow::anyhow!("the self-test is no sandbox"))?;
        let page = facts.demo_card.ok_or_else(|| anyhow::anyhow!("the self-test has no card"))?;
        let root = root.map(|path| anyhow::Ok(X509::from_pem(&std::fs::read(path)?)?)).transpose()?;
        let mut phone = Phone::new(&*outside.random, PhoneOptions { language: "en".to_owned(), root })?;
        let serial = phone.add(&page, outside.clock.now()).await?;
        let mut line = phone.listen(&serial).await?;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let changed = client.patch(format!("{base}/api/v1/cards/demo")).bearer_auth(&facts.api_key);
        let changed = changed.json(&json!({"attributes": {"points": 4711}})).send().await?;
        anyhow::ensure!(changed.status().is_success(), "the change of a card was answered {}", changed.status());
        let started = std::time::Instant::now();
        while phone.field(&serial, "points").as_deref() != Some("4711") {
            let topic = line.next().await?.ok_or_else(|| anyhow::anyhow!("no push arrived"))?;
            phone.update(&topic, outside.clock.now()).await?;
        }
        if let Some(complaint) = phone.complaints().first() {
            anyhow::bail!("the phone complained: {complaint}");
        }
        Ok(format!("a card was issued, added and refreshed; the change took {} ms", started.elapsed().as_millis()))
    };
    let outcome = outcome.await;
    running.stop().await?;
    outcome
}

/// A directory that is deleted when this is dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new(outside: &Outside) -> anyhow::Result<Self> {
        let name = format!("passloom-doctor-{}", hex::encode(random::bytes::<8>(&*outside.random)?));
        Ok(Self(std::env::temp_dir().join(name)))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
