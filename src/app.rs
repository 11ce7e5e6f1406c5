//! Builds the parts of a running service and holds them together.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use openssl::x509::X509;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::actions::audit::record;
use crate::actions::cards::card_locks::CardLocks;
use crate::actions::error::ActionError;
use crate::actions::passes::record_fetches::FetchRecorder;
use crate::actions::passes::renders::Renders;
use crate::actions::readings::LastReading;
use crate::actions::templates::draft::{Scaled, ScaledKey};
use crate::actions::templates::published::Published;
use crate::actions::write_probe::WriteProbe;
use crate::config::Limits;
use crate::delivery::channels::Channels;
use crate::delivery::signal::DeliverySignal;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{IssuerId, SerialNumber, TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::values::zone::Zone;
use crate::platform::clock::Clock;
use crate::platform::job_states::JobStates;
use crate::platform::log_lines::StrangersLines;
use crate::platform::memory::MemoryBudget;
use crate::platform::proxies::TrustedProxies;
use crate::platform::random::{Random, RequestIds};
use crate::platform::rate_limit::RateLimit;
use crate::platform::secrets::{MasterKeys, SecretError, WorkspaceSecret};
use crate::platform::workers::Workers;
use crate::sandbox::apns::SimulatedApns;
use crate::store::issuers::AppleCertificateKey;
use crate::store::{Store, Tx, workspaces};
use crate::telemetry::Metrics;
use crate::wallets::apple::certificates::trust::Roots;
use crate::wallets::apple::driver::AppleWallet;
use crate::wallets::apple::issuers::{AppleIssuer, AppleIssuers};
use crate::wallets::apple::push::apns::ApnsEndpoint;
use crate::wallets::{Wallet, Wallets};

/// A running service. It holds no state that another node would need: all of that is in the database.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Makes the ids of requests in logs.
    pub request_ids: RequestIds,
    /// The address that customers and phones use, without a slash at the end.
    pub public_url: String,
    /// The path in that address, without a slash at the end; it precedes every path that we name. Requests arrive with
    /// it, or without when a proxy removes it.
    pub base_path: String,
    /// The bootstrap key's fingerprint, when one is configured.
    pub admin_key: Option<Vec<u8>>,
    /// Counters.
    pub metrics: Metrics,
    /// Wakes the delivery workers, here and on other nodes, when a change was committed.
    pub delivery_signal: DeliverySignal,
    /// The state of this node's connections to APNs.
    pub channels: Channels,
    /// The jobs of this node that are down.
    pub job_states: JobStates,
    /// Whether the database could be written at the last attempt.
    pub write_probe: WriteProbe,
    /// When the expensive metrics were last read.
    pub last_reading: LastReading,
    /// Makes commands for one card wait for each other.
    pub card_locks: CardLocks,
    /// Whether a card was erased whose values may still be in the database's log.
    pub erased: AtomicBool,
    /// The limit on requests with log entries of phones, by address.
    pub complaints: RateLimit,
    /// The limit on requests of customers' browsers, by address; 0 for no limit.
    pub pages: RateLimit,
    /// The limit on what their pages load: pictures and style sheets.
    pub page_files: RateLimit,
    /// The limit on requests of phones, by address.
    pub phones: RateLimit,
    /// The limit on requests with the token of a pass, from any address; by a fingerprint of both.
    pub holders: RateLimit<Vec<u8>>,
    /// The limit on requests of backends, by address.
    pub backends: RateLimit,
    /// Limits on the log lines that strangers can cause.
    pub strangers_lines: StrangersLines,
    /// How long a client may read nothing of its answer.
    pub unread: Duration,
    /// The proxies that are trusted to name the client's address.
    pub trusted_proxies: TrustedProxies,
    /// How many pushes may be under way on one connection to APNs.
    pub in_flight: usize,
    /// How many targets fan-outs mark in a second.
    pub refresh_rate: u32,
    /// How long events and entries of the audit list are kept.
    pub event_retention: Duration,
    /// Ends endless streams when the node stops.
    pub stopping: watch::Sender<bool>,
    /// The memory budget for what requests make this node hold.
    pub memory: MemoryBudget,
    /// Limits the archives packed or unpacked at once: each may take hundreds of megabytes.
    pub archives: Semaphore,
    /// Decodes one picture at a time: each may take 192 MiB.
    pub decoding: Workers,
    /// Parses a bounded number of template documents at once. Separate from pictures: a document takes milliseconds and
    /// must not wait for another workspace's pictures.
    pub parsing: Workers,
    /// Reads a bounded number of large request bodies at once, on at most half of the cores: a client that sends many
    /// waits for its own.
    pub parsing_bodies: Workers,
    /// Opens one key file at a time: each may take a second of a core.
    pub opening_keys: Workers,
    /// Limits how many cards are rendered at once, and caches what customers were sent lately.
    pub(crate) renders: Renders,
    /// Limits the versions prepared at once.
    pub(crate) preparing: Semaphore,
    /// Limits how many page openings may wait to be recorded; more are not recorded.
    pub page_notes: Arc<Semaphore>,
    /// The simulated APNs, in the sandbox.
    pub sandbox: Option<SimulatedApns>,
    /// The certificates with which workspaces sign and push Apple passes.
    pub issuers: Arc<AppleIssuers>,
    /// The wallets in which cards are issued.
    pub wallets: Wallets,
    /// The address of APNs.
    pub apns_endpoint: ApnsEndpoint,
    /// Intermediates that need not be sent with a certificate: Apple's, and the sandbox's own.
    pub known_intermediates: Vec<X509>,
    /// The roots that certificates must lead to.
    pub roots: Roots,
    /// Stored certificates that this node can't use and doesn't try again.
    pub(crate) unusable: Mutex<HashSet<AppleCertificateKey>>,
    /// Locked while issuers are loaded.
    pub(crate) loading_issuers: tokio::sync::Mutex<()>,
    master_key: MasterKeys,
    secrets: RwLock<HashMap<WorkspaceId, WorkspaceSecret>>,
    /// The time zone of workspaces that have none of their own.
    pub time_zone: Zone,
    time_zones: RwLock<HashMap<WorkspaceId, Zone>>,
    notes: Cache<WorkspaceId, Arc<FetchRecorder>>,
    pub(crate) scaled: Cache<ScaledKey, Scaled>,
    /// Width and height of uploads, by digest.
    pub(crate) picture_sizes: Cache<Vec<u8>, (u32, u32)>,
    pub(crate) published: Cache<(WorkspaceId, TemplateId, i64), Arc<Published>>,
}

/// How many files (pictures, style sheets, scripts) may be loaded for each allowed page: a page has at most seven.
const FILES_OF_A_PAGE: u32 = 8;

/// Returns the purpose under which a workspace's secret is sealed.
pub fn secret_purpose(workspace: &WorkspaceId) -> String {
    format!("workspace {workspace}")
}

/// Returns the path of an address, without a slash at the end.
pub fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

/// The parts from which an [`App`] is built.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct AppParts {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub public_url: String,
    pub admin_key: Option<String>,
    pub master_key: MasterKeys,
    pub sandbox: Option<SimulatedApns>,
    pub apns_endpoint: ApnsEndpoint,
    pub known_intermediates: Vec<X509>,
    pub roots: Roots,
    pub trusted_proxies: TrustedProxies,
    pub in_flight: usize,
    pub refresh_rate: u32,
    pub event_retention: Duration,
    pub limits: Limits,
    pub time_zone: Zone,
    /// The drivers of wallets beside Apple's.
    pub wallets: Vec<Arc<dyn Wallet>>,
}

impl App {
    /// Builds a service.
    pub fn new(parts: AppParts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let issuers = Arc::<AppleIssuers>::default();
        let apple: Arc<dyn Wallet> = Arc::new(AppleWallet(Arc::clone(&issuers)));
        Self {
            delivery_signal: DeliverySignal::new(parts.store.clone()),
            channels: Channels::default(),
            job_states: JobStates::default(),
            write_probe: WriteProbe::default(),
            last_reading: LastReading::default(),
            card_locks: CardLocks::default(),
            // A crash may have come between an erasure and the clearing of the log.
            erased: AtomicBool::new(true),
            complaints: RateLimit::new(30),
            pages: RateLimit::new(parts.limits.pages),
            page_files: RateLimit::new(parts.limits.pages.saturating_mul(FILES_OF_A_PAGE)),
            phones: RateLimit::new(parts.limits.phones),
            holders: RateLimit::new(parts.limits.holders),
            backends: RateLimit::new(parts.limits.backends),
            strangers_lines: StrangersLines::default(),
            unread: parts.limits.unread,
            trusted_proxies: parts.trusted_proxies,
            in_flight: parts.in_flight.max(1),
            refresh_rate: parts.refresh_rate,
            event_retention: parts.event_retention,
            store: parts.store,
            clock: parts.clock,
            request_ids: RequestIds::default(),
            random: parts.random,
            base_path: path_of(&parts.public_url).to_owned(),
            public_url: parts.public_url.trim_end_matches('/').to_owned(),
            admin_key: parts.admin_key.as_deref().map(crate::platform::secrets::fingerprint),
            metrics: Metrics::new(),
            stopping: watch::Sender::new(false),
            memory: MemoryBudget::default(),
            archives: Semaphore::new(1),
            decoding: Workers::new("decoding a picture", 1),
            parsing: Workers::new("reading a template", cores),
            parsing_bodies: Workers::new("parsing a body", cores / 2),
            opening_keys: Workers::new("opening a file of keys", 1),
            preparing: Semaphore::new(2),
            page_notes: Arc::new(Semaphore::new(crate::actions::cards::record_page_view::PAGE_NOTES)),
            sandbox: parts.sandbox,
            issuers,
            wallets: Wallets::new(std::iter::once(apple).chain(parts.wallets).collect()),
            apns_endpoint: parts.apns_endpoint,
            known_intermediates: parts.known_intermediates,
            roots: parts.roots,
            unusable: Mutex::default(),
            loading_issuers: tokio::sync::Mutex::default(),
            master_key: parts.master_key,
            renders: Renders::new(cores),
            secrets: RwLock::default(),
            time_zone: parts.time_zone,
            time_zones: RwLock::default(),
            notes: Cache::new(10_000),
            picture_sizes: Cache::new(10_000),
            scaled: Cache::builder()
                .max_capacity(32 * 1024 * 1024)
                .weigher(|_, files: &Scaled| {
                    let bytes: usize = files.iter().map(|(_, png)| png.len()).sum();
                    u32::try_from(bytes + 1024).unwrap_or(u32::MAX)
                })
                .build(),
            // The weight is what a prepared version holds, mainly its pictures.
            published: Cache::builder()
                .max_capacity(96 * 1024 * 1024)
                .weigher(|_, published: &Arc<Published>| {
                    let bytes = published.memory();
                    u32::try_from(bytes + 4 * 1024).unwrap_or(u32::MAX)
                })
                .build(),
        }
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the issuer for new cards of a workspace, as far as this node knows; `find_apple_issuer` also looks in
    /// the database.
    pub fn apple_issuer(&self, workspace: &WorkspaceId) -> Option<Arc<AppleIssuer>> {
        self.issuers.current(workspace, self.now())
    }

    /// Returns the issuer that signs and pushes for cards of that pass type, as far as this node knows.
    pub fn apple_issuer_of(&self, workspace: &WorkspaceId, id: &IssuerId) -> Option<Arc<AppleIssuer>> {
        self.issuers.of(workspace, id, self.now())
    }

    /// Encrypts a secret for the database; see [`MasterKeys::seal`].
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        self.master_key.seal(&*self.random, purpose, secret)
    }

    /// Decrypts what [`App::seal`] made.
    ///
    /// # Errors
    /// When it was sealed under another master key or for another purpose, or was changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        self.master_key.open(purpose, sealed)
    }

    /// Adds a workspace unless it exists.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ensure_workspace(&self, id: &WorkspaceId, name: &str) -> Result<(), ActionError> {
        let mut tx = self.store.begin().await?;
        if self.add_workspace(&mut tx, id, name).await? {
            let made = (AuditAction::WorkspaceCreated, id.as_str(), json!({}));
            record(self, &mut tx, id, &Actor::System, &[made]).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Adds a workspace with a secret of its own within the caller's transaction; false when it exists.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_workspace(&self, tx: &mut Tx, id: &WorkspaceId, name: &str) -> Result<bool, ActionError> {
        let secret = Zeroizing::new(crate::platform::random::bytes::<32>(&*self.random)?);
        let sealed = self.master_key.seal(&*self.random, &secret_purpose(id), &*secret)?;
        Ok(workspaces::insert(tx, id, name, &sealed, self.now()).await?)
    }

    /// Returns a workspace's secret.
    ///
    /// # Errors
    /// When there is no such workspace, the master key doesn't open its secret, or the database fails.
    pub async fn secret(&self, workspace: &WorkspaceId) -> Result<WorkspaceSecret, ActionError> {
        if let Some(secret) = self.secrets.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Ok(secret.clone());
        }
        let sealed = workspaces::secret(&mut self.store.read().await?, workspace).await?;
        let sealed = sealed.ok_or(ActionError::NotFound("workspace"))?;
        let opened = self.master_key.open(&secret_purpose(workspace), &sealed)?;
        let bytes = opened.as_slice().try_into().map_err(|_| crate::platform::secrets::SecretError::Damaged)?;
        let secret = WorkspaceSecret::new(bytes);
        self.secrets.write().unwrap_or_else(PoisonError::into_inner).insert(workspace.clone(), secret.clone());
        Ok(secret)
    }

    /// Returns the time zone of a workspace: its own, which never changes, or the service's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn zone_of(&self, workspace: &WorkspaceId) -> Result<Zone, ActionError> {
        if let Some(zone) = self.time_zones.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Ok(zone.clone());
        }
        let own = workspaces::time_zone(&mut self.store.read().await?, workspace).await?;
        let zone = own.and_then(|name| Zone::parse(&name).ok()).unwrap_or_else(|| self.time_zone.clone());
        self.time_zones.write().unwrap_or_else(PoisonError::into_inner).insert(workspace.clone(), zone.clone());
        Ok(zone)
    }

    /// Returns the recorder in which a workspace's fetches and polls wait to be written.
    pub async fn notes_of(&self, workspace: &WorkspaceId) -> Arc<FetchRecorder> {
        self.notes.get_with_by_ref(workspace, async { Arc::default() }).await
    }

    /// Opens uploaded key files one at a time, off the async threads. Keys that were accepted before don't wait in this
    /// queue.
    ///
    /// # Errors
    /// When the service stops, or `work` panicked.
    pub async fn open_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ActionError> {
        Ok(self.opening_keys.run(work).await?)
    }

    /// Returns the address of a card's page.
    pub async fn page_url(
        &self,
        workspace: &WorkspaceId,
        serial: &SerialNumber,
        generation: i64,
    ) -> Result<String, ActionError> {
        let token = self.secret(workspace).await?.page_token(serial, generation);
        Ok(format!("{}/c/{}", self.public_url, token.as_str()))
    }
}
