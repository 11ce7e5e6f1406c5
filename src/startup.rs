//! Turns a configuration into a running service.

use std::fs::{DirBuilder, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;
use anyhow::{Context, bail};
use openssl::x509::X509;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::actions::error::ActionError;
use crate::actions::issuers::load_issuers;
use crate::actions::keys::{default_workspace, replace_key};
use crate::actions::templates::load_starters::{demo_card, load_starters};
use crate::app::{App, AppParts};
use crate::config::{AppleFiles, Config};
use crate::domain::time::Timestamp;
use crate::http::routes::Served;
use crate::http::server;
use crate::jobs::Jobs;
use crate::platform::clock::Clock;
use crate::platform::random::{self, Random};
use crate::platform::secrets::{MasterKey, MasterKeys, SecretError};
use crate::sandbox::apns::{SimulatedApns, SimulatedApnsOptions};
use crate::sandbox::certificates;
use crate::store::{Store, StoreError, deliveries, issuers, sealed, workspaces};
use crate::wallets::Wallet;
use crate::wallets::apple::certificates::development_chain::DevelopmentChain;
use crate::wallets::apple::certificates::identity::{IdentityError, Part, SigningIdentity};
use crate::wallets::apple::certificates::trust::{self, Roots};
use crate::wallets::apple::push::apns::ApnsEndpoint;
use crate::wallets::apple::rules::OwnAddresses;

/// The name of the key that the sandbox creates at each start.
const SANDBOX_KEY: &str = "sandbox";

/// Clock, randomness and further wallets of a service.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Outside {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// The drivers of wallets beside Apple's.
    pub wallets: Vec<Arc<dyn Wallet>>,
}

/// What a new sandbox contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// The starter templates and the demo card.
    Starters,
    /// Nothing, for tests that bring their own.
    Nothing,
}

/// What the sandbox prints on its terminal.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct SandboxFacts {
    pub api_key: String,
    /// The demo card's address, when there is one.
    pub demo_card: Option<String>,
    pub root: PathBuf,
}

/// A service that is set up but does not serve yet.
#[derive(Debug)]
pub struct Prepared {
    /// The service.
    pub app: web::Data<App>,
    /// The bound socket.
    pub listener: TcpListener,
    /// Where health checks and metrics are served.
    pub internal: Internal,
    /// The sandbox's facts; `None` outside the sandbox.
    pub sandbox: Option<SandboxFacts>,
}

/// Where health checks and metrics are served.
#[derive(Debug)]
pub enum Internal {
    /// Nowhere, except for a bare `/healthz` on the public address.
    Nowhere,
    /// On the public address.
    WithPublic,
    /// On a bound socket of their own.
    Own(TcpListener),
}

/// Sets everything up: directories, database, keys, certificates, and in the sandbox the simulators and the starter
/// templates; then binds the sockets.
///
/// # Errors
/// When something is wrong; the error is one line that names it.
pub async fn prepare(mut config: Config, outside: Outside, contents: Contents) -> anyhow::Result<Prepared> {
    let now = outside.clock.now();
    // The directory holds names, push tokens and keys.
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(&config.data_dir)
        .with_context(|| format!("PASSLOOM_DATA_DIR: the directory {} can't be made", config.data_dir.display()))?;
    let listener =
        listen(config.listen).with_context(|| format!("PASSLOOM_LISTEN: {} can't be listened on", config.listen))?;
    if config.public_url_default {
        config.public_url = format!("http://localhost:{}", listener.local_addr()?.port());
    }
    let store = open_store(&config.database_url).await?;
    let sandbox = is_sandbox(&config, issuers::count_apple(&mut store.read().await?).await? > 0)?;
    let internal = listen_internally(&config, sandbox)?;
    if store.is_embedded() {
        // The process that held leases before is gone: what a crash left under way continues at once.
        let mut tx = store.begin().await?;
        deliveries::release_all(&mut tx).await?;
        tx.commit().await?;
    }
    let has_secrets = workspaces::secret(&mut store.read().await?, &default_workspace()).await?.is_some();
    let master_key = master_key(&config, sandbox, has_secrets, &*outside.random)?;
    check_secrets(&store, &master_key).await?;
    let roots = read_roots(&config, sandbox)?;
    let certificates = development_folder(&config);
    let chain = if sandbox { Some(certificates::load_or_make(&certificates, now)?) } else { None };
    let identity = match (&config.apple, &chain) {
        (Some(files), _) => {
            let (files, roots) = (files.clone(), roots.clone());
            // Opening a key may take a second.
            Some(tokio::task::spawn_blocking(move || read_identity(&files, &roots, now)).await??)
        }
        (None, Some(chain)) => Some(SigningIdentity::new(&chain.leaf, chain.leaf_key.clone(), &chain.intermediate)?),
        (None, None) => None,
    };
    let simulated = match &chain {
        Some(chain) if config.apns_url.is_none() => Some(simulated_apns(chain, identity.as_ref(), &outside).await?),
        _ => None,
    };
    let endpoint = apns_endpoint(&config, simulated.as_ref(), chain.as_ref())?;
    let app = web::Data::new(App::new(AppParts {
        store,
        clock: outside.clock,
        random: outside.random,
        public_url: config.public_url,
        admin_key: config.admin_key,
        master_key,
        sandbox: simulated,
        apns_endpoint: endpoint,
        known_intermediates: chain
            .iter()
            .map(|chain| chain.intermediate.clone())
            .chain(trust::intermediates())
            .collect(),
        roots,
        trusted_proxies: config.trusted_proxies,
        in_flight: config.apns_in_flight,
        refresh_rate: config.refresh_rate,
        event_retention: config.event_retention,
        limits: config.limits,
        time_zone: config.time_zone,
        wallets: outside.wallets,
    }));
    let workspace = default_workspace();
    app.ensure_workspace(&workspace, "Default")
        .await
        .context("PASSLOOM_DATABASE_URL: the database can't be written to")?;
    if let Err(ActionError::Secret(error @ (SecretError::OtherKey | SecretError::Damaged))) =
        app.secret(&workspace).await
    {
        bail!("PASSLOOM_MASTER_KEY: does not open the secrets in the database: {error}");
    }
    if let Some(identity) = identity {
        app.set_apple_issuer(&workspace, identity).await.map_err(|error| match error {
            ActionError::Store(StoreError::RowGone(_)) => anyhow::anyhow!(
                "PASSLOOM_APPLE_CERTIFICATE: its pass type belongs to another workspace than default, which has a certificate \
                 that is as new"
            ),
            other => other.into(),
        })?;
    }
    match load_issuers(&app).await? {
        Some(ActionError::Secret(error)) => {
            bail!("PASSLOOM_MASTER_KEY: does not open the certificates in the database: {error}")
        }
        Some(error) => tracing::error!(%error, "a certificate in the database can't be used"),
        None => {}
    }
    let facts = if sandbox {
        let demo_card = match contents {
            Contents::Starters => {
                load_starters(&app, &workspace).await.context("the starter templates can't be loaded")?;
                let card = demo_card(&app, &workspace).await.context("the demo card can't be issued")?.card;
                Some(app.page_url(&workspace, &card.serial, card.page_generation).await?)
            }
            Contents::Nothing => None,
        };
        Some(SandboxFacts {
            api_key: replace_key(&app, &workspace, SANDBOX_KEY).await?,
            demo_card,
            root: certificates.join("root.pem"),
        })
    } else {
        None
    };
    Ok(Prepared { app, listener, internal, sandbox: facts })
}

/// How many connections may wait to be accepted, in a rush of phones or of strangers. The standard library's 128 are
/// full in an instant, and later clients try again after a second.
const WAITING: u32 = 4096;

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node can use its port again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)?.into_std()
}

/// Binds the internal address. In the sandbox, another program may use that port already.
fn listen_internally(config: &Config, sandbox: bool) -> anyhow::Result<Internal> {
    let Some(address) = config.internal_listen else { return Ok(Internal::Nowhere) };
    if address == config.listen {
        return Ok(Internal::WithPublic);
    }
    match listen(address) {
        Ok(listener) => Ok(Internal::Own(listener)),
        Err(error) if sandbox && error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!(
                "PASSLOOM_INTERNAL_LISTEN: found {address} in use by another program; /readyz and /metrics are served nowhere"
            );
            Ok(Internal::Nowhere)
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "PASSLOOM_INTERNAL_LISTEN: {address} can't be listened on; expected a free address and port, or off"
            )
        }),
    }
}

/// A service that serves, with its jobs.
#[derive(Debug)]
pub struct Running {
    /// The service.
    pub app: web::Data<App>,
    /// The address of health checks and metrics, when they have their own.
    pub internal: Option<SocketAddr>,
    internal_server: Option<InternalServer>,
    handle: ServerHandle,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    jobs: Option<Jobs>,
}

/// The server of the internal address. It ends after everything else, so that a monitor can observe the stop.
#[derive(Debug)]
struct InternalServer {
    stop: oneshot::Sender<()>,
    handle: ServerHandle,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Whether a service runs its jobs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobMode {
    /// The jobs run, as in production.
    Running,
    /// The caller runs them step by step, as tests do.
    ByHand,
}

impl Prepared {
    /// Starts to serve.
    ///
    /// # Errors
    /// When the socket can't be used.
    pub fn run(self, jobs: JobMode) -> std::io::Result<Running> {
        let app = self.app;
        let mut stopping = app.stopping.subscribe();
        let stop = async move {
            // An error means that the application is gone, which counts as the end as well.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let (served, listener) = match self.internal {
            Internal::Nowhere => (Served::Public, None),
            Internal::WithPublic => (Served::Everything, None),
            Internal::Own(listener) => (Served::Public, Some(listener)),
        };
        let internal = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let internal_server = match listener {
            Some(listener) => {
                let (stop, stopped) = oneshot::channel();
                let stopped = async move {
                    let _ = stopped.await;
                };
                let server = server::serve(&app, listener, Served::Internal, stopped)?;
                Some(InternalServer { stop, handle: server.handle(), server: tokio::spawn(server) })
            }
            None => None,
        };
        let server = server::serve(&app, self.listener, served, stop)?;
        let handle = server.handle();
        let server = tokio::spawn(server);
        let jobs = (jobs == JobMode::Running).then(|| Jobs::start(&app.clone().into_inner()));
        Ok(Running { app, internal, internal_server, handle, server, jobs })
    }
}

impl Running {
    /// Stops in order: no new requests; requests under way finish; then the jobs hand back their claims.
    ///
    /// # Errors
    /// When the server failed.
    pub async fn stop(self) -> std::io::Result<()> {
        self.app.stopping.send_replace(true);
        let jobs = async {
            if let Some(jobs) = self.jobs {
                jobs.stop().await;
            }
        };
        let (served, ()) = tokio::join!(self.server, jobs);
        if let Some(internal) = self.internal_server {
            let _ = internal.stop.send(());
            if let Err(error) = internal.server.await.map_err(std::io::Error::other).flatten() {
                tracing::warn!(%error, "the inner address ended badly");
            }
        }
        self.app.store.close().await;
        served.map_err(std::io::Error::other)?
    }

    /// Ends at once, which looks like a crash to clients; for tests.
    pub async fn kill(self) {
        drop(self.jobs);
        self.handle.stop(false).await;
        if let Some(internal) = self.internal_server {
            internal.handle.stop(false).await;
        }
    }
}

/// Whether there are certificates in the database. It is only read; a database that doesn't exist has none.
pub(crate) async fn stored_issuers(url: &str) -> bool {
    if url.strip_prefix("sqlite://").is_some_and(|path| !Path::new(path).exists()) {
        return false;
    }
    let Ok(store) = Store::connect(url).await else { return false };
    let count = async { issuers::count_apple(&mut store.read().await?).await }.await;
    store.close().await;
    count.is_ok_and(|count| count > 0)
}

/// Whether this is the sandbox; `stored_issuers` says whether there are certificates in the database.
pub(crate) fn is_sandbox(config: &Config, stored_issuers: bool) -> anyhow::Result<bool> {
    let public = OwnAddresses::of(&config.public_url) == OwnAddresses::Public;
    match config.sandbox {
        Some(given) => Ok(given),
        None if config.apple.is_some() || stored_issuers => Ok(false),
        None if public => bail!(
            "PASSLOOM_PUBLIC_URL: found the public address {:?} without an issuer; expected PASSLOOM_APPLE_CERTIFICATE, \
             or PASSLOOM_SANDBOX=on to push to a simulator",
            config.public_url
        ),
        None => Ok(true),
    }
}

/// How long a process waits for another's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Locks the embedded database against other processes: it belongs to one. The system releases the lock when the
/// process ends, however it ends. The directory is created when it is absent.
///
/// # Errors
/// When another process has it.
pub async fn lock_database(config: &Config) -> anyhow::Result<Option<std::fs::File>> {
    let Some(path) = config.database_url.strip_prefix("sqlite://") else { return Ok(None) };
    let path = PathBuf::from(format!("{path}.lock"));
    let place = || format!("PASSLOOM_DATABASE_URL: {} can't be made", path.display());
    // Failures to create a directory are reported where it is needed.
    let private = |directory: &Path| DirBuilder::new().recursive(true).mode(0o700).create(directory);
    if path.parent().is_some_and(|directory| private(directory).is_err()) {
        return Ok(None);
    }
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).with_context(place)?;
    // A process that was just killed may not have ended yet.
    let patience = std::time::Instant::now() + LOCK_PATIENCE;
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "PASSLOOM_DATABASE_URL: found {} in use by another process; expected an embedded database of its own for each node \
             (any number of nodes share a PostgreSQL)",
            config.database_url
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(place),
    }
}

async fn open_store(url: &str) -> anyhow::Result<Store> {
    if let Some(parent) = url.strip_prefix("sqlite://").and_then(|path| Path::new(path).parent()) {
        std::fs::create_dir_all(parent).with_context(|| format!("the directory {} can't be made", parent.display()))?;
    }
    // A PostgreSQL address may hold its password and is not repeated.
    Store::open(url).await.context("PASSLOOM_DATABASE_URL: the database can't be opened")
}

/// Checks that every lasting secret is encrypted under a key that the node has, also after an interrupted rotation.
async fn check_secrets(store: &Store, keys: &MasterKeys) -> anyhow::Result<()> {
    let previous = keys.previous.as_ref().unwrap_or(&keys.current);
    let marks = (keys.current.mark(), previous.mark());
    match sealed::count_under_others(&mut store.read().await?, marks).await? {
        0 => Ok(()),
        count => bail!(
            "PASSLOOM_MASTER_KEY: does not open the secrets in the database: found {count} that were encrypted under another \
             key; expected that one, or PASSLOOM_MASTER_KEY_PREVIOUS beside a new one (see passloom secrets rotate --help)"
        ),
    }
}

pub(crate) fn master_key(
    config: &Config,
    sandbox: bool,
    has_secrets: bool,
    random: &dyn Random,
) -> anyhow::Result<MasterKeys> {
    let keys = |current| MasterKeys { current, previous: config.master_key_previous.clone() };
    if let Some(key) = &config.master_key {
        return Ok(keys(key.clone()));
    }
    if !sandbox {
        bail!(
            "PASSLOOM_MASTER_KEY: found nothing; expected 32 bytes as 64 hexadecimal digits or base64 (outside the \
             sandbox it is required; PASSLOOM_SANDBOX=on makes one and keeps it)"
        );
    }
    let path = config.data_dir.join("master.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => MasterKey::parse(&Zeroizing::new(text))
            .map(keys)
            .with_context(|| format!("{} holds no master key", path.display())),
        // A key is created only if there never was one: with a lost key, the secrets in the database would be lost,
        // too.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if has_secrets {
                bail!("{} is missing, but the database holds secrets that only it can open", path.display());
            }
            let key = Zeroizing::new(random::bytes::<32>(random)?);
            certificates::write(&path, Zeroizing::new(hex::encode(*key)).as_bytes())?;
            Ok(keys(MasterKey::new(*key)))
        }
        Err(error) => bail!("{} can't be read: {error}", path.display()),
    }
}

pub(crate) fn development_folder(config: &Config) -> PathBuf {
    let base = if config.data_dir_given { config.data_dir.clone() } else { PathBuf::new() };
    base.join("certs").join("dev")
}

/// Returns the roots that certificates must lead to.
pub(crate) fn read_roots(config: &Config, sandbox: bool) -> anyhow::Result<Roots> {
    let mut given = Vec::new();
    if let Some(path) = &config.apple_root {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("PASSLOOM_APPLE_ROOT: {shown} can't be read"))?;
        given = X509::stack_from_pem(&bytes).unwrap_or_default();
        given.extend(X509::from_der(&bytes));
        if given.is_empty() {
            bail!(
                "PASSLOOM_APPLE_ROOT: found {shown}, which holds no certificate; expected a PEM or DER file with a root"
            );
        }
    }
    Ok(Roots::new(given, !sandbox))
}

/// Reads the configured certificate with its key.
pub(crate) fn read_identity(files: &AppleFiles, roots: &Roots, now: Timestamp) -> anyhow::Result<SigningIdentity> {
    const CERTIFICATE: &str = "PASSLOOM_APPLE_CERTIFICATE";
    const KEY: &str = "PASSLOOM_APPLE_KEY";
    const WWDR: &str = "PASSLOOM_APPLE_WWDR";
    let read = |setting: &str, path: &Path| {
        std::fs::read(path).with_context(|| format!("{setting}: {} can't be read", path.display()))
    };
    let certificate = Zeroizing::new(read(CERTIFICATE, &files.certificate)?);
    let key = files.key.as_deref().map(|path| read(KEY, path).map(Zeroizing::new)).transpose()?;
    let wwdr = files.wwdr.as_deref().map(|path| read(WWDR, path)).transpose()?;
    let (key, wwdr) = (key.as_ref().map(|key| key.as_slice()), wwdr.as_deref());
    let password = files.password.as_ref().map(|password| password.as_str());
    let read = SigningIdentity::from_files(&certificate, key, password, wwdr, &trust::intermediates());
    let taken = read.and_then(|identity| match roots.take(identity.proof(roots, now)) {
        true => Ok(identity),
        false => Err(IdentityError::Untrusted),
    });
    taken.map_err(|error| {
        let part = error.part();
        let (setting, found) = match part {
            // A PKCS#12 file contains its own key.
            Part::Key if files.key.is_some() || matches!(error, IdentityError::KeyMissing) => (KEY, &files.key),
            Part::Certificate | Part::Key => (CERTIFICATE, &Some(files.certificate.clone())),
            Part::Password => ("PASSLOOM_APPLE_KEY_PASSWORD", &None),
            Part::Intermediate => (WWDR, &files.wwdr),
        };
        let found = match (part, found) {
            (_, Some(path)) => path.display().to_string(),
            (Part::Password, None) if password.is_some() => "a password".to_owned(),
            (_, None) => "nothing".to_owned(),
        };
        anyhow::anyhow!("{setting}: found {found}, but {error}; expected {}", part.expected())
    })
}

async fn simulated_apns(
    chain: &DevelopmentChain,
    identity: Option<&SigningIdentity>,
    outside: &Outside,
) -> anyhow::Result<SimulatedApns> {
    let (server_certificate, server_key) =
        chain.server_certificate(&["localhost"], &["127.0.0.1"], outside.clock.now())?;
    let mut client_roots = vec![chain.root.clone(), chain.intermediate.clone()];
    // An issuer that was configured explicitly pushes to the simulator, too.
    if let Some(identity) = identity {
        client_roots.extend(X509::stack_from_pem(&identity.chain_pem)?);
    }
    let options = SimulatedApnsOptions {
        server_certificate,
        server_key,
        client_roots,
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        max_concurrent_streams: 1000,
    };
    SimulatedApns::start(options).await.context("the simulated APNs can't be started")
}

pub(crate) fn apns_endpoint(
    config: &Config,
    simulated: Option<&SimulatedApns>,
    chain: Option<&DevelopmentChain>,
) -> anyhow::Result<ApnsEndpoint> {
    let mut endpoint =
        ApnsEndpoint { timeout: config.apns_timeout, push_type: config.apns_push_type, ..ApnsEndpoint::apple() };
    if let (Some(simulated), Some(chain)) = (simulated, chain) {
        endpoint.url = simulated.url();
        endpoint.ca_pem = Some(chain.root.to_pem()?);
    }
    if let Some(url) = &config.apns_url {
        endpoint.url.clone_from(url);
    }
    if let Some(path) = &config.apns_ca {
        let pem = std::fs::read(path).with_context(|| format!("PASSLOOM_APNS_CA: {} can't be read", path.display()))?;
        endpoint.ca_pem = Some(pem);
    }
    Ok(endpoint)
}
