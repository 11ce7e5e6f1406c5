//! Setting, showing and loading the certificates with which workspaces sign.

mod claim;
pub mod watch;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use self::claim::Claim;
use super::audit::record;
use super::error::ActionError;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{IssuerId, PassTypeId, WorkspaceId};
use crate::domain::input::{Lines, Node, Problems};
use crate::platform::secrets::MasterKeys;
use crate::store::issuers::{self, AppleCertificateKey};
use crate::store::{Store, StoreError, issuer_pauses};
use crate::wallets::Issuer;
use crate::wallets::apple::certificates::identity::{IdentityError, Part, SigningIdentity};
use crate::wallets::apple::certificates::trust::Proof;
use crate::wallets::apple::issuers::{AppleIssuer, Source};
use crate::wallets::apple::push::apns::{Apns, ApnsEndpoint};

/// The longest certificate or key that is read, in characters.
const LONGEST: usize = 256 * 1024;
/// The most certificates of a workspace.
const MOST: i64 = 50;

/// The uploaded parts. Private ones are never shown again.
struct Upload {
    /// The certificate, or a PKCS#12 file.
    certificate: Zeroizing<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
    password: Option<Zeroizing<String>>,
    wwdr: Option<Zeroizing<Vec<u8>>>,
    pkcs12: bool,
}

impl Upload {
    fn read(body: &Value, problems: &mut Problems) -> Option<Self> {
        let mut object = Node::root(body).object(problems)?;
        let pkcs12 = object.given("pkcs12").is_some();
        let certificate = object.required(if pkcs12 { "pkcs12" } else { "certificate" }, problems);
        let certificate = certificate.and_then(|node| bytes(&node, problems));
        let key = (!pkcs12).then(|| object.required("key", problems).and_then(|node| bytes(&node, problems)));
        let password = object.get(if pkcs12 { "password" } else { "key_password" });
        let password = password.and_then(|node| node.text(problems, 1024, Lines::Many));
        let wwdr = object.get("wwdr").and_then(|node| bytes(&node, problems));
        object.finish(problems);
        let key = match key {
            Some(key) => Some(key?),
            None => None,
        };
        Some(Self {
            certificate: certificate?,
            key,
            password: password.map(|text| Zeroizing::new(text.to_owned())),
            wwdr,
            pkcs12,
        })
    }

    fn pointer(&self, part: Part) -> &'static str {
        match (part, self.pkcs12) {
            (Part::Intermediate, _) => "/wwdr",
            (Part::Password, true) => "/password",
            (_, true) => "/pkcs12",
            (Part::Password, false) => "/key_password",
            (Part::Key, false) => "/key",
            (Part::Certificate, false) => "/certificate",
        }
    }
}

/// Reads PEM as it is, anything else as base64. Problems never repeat the content.
fn bytes(node: &Node<'_>, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
    let text = node.filled(&mut Problems::new(), LONGEST, Lines::Many).or_else(|| {
        // PEM files from Windows have carriage returns, which no other text may hold.
        node.value.as_str().filter(|text| text.len() <= LONGEST && !text.trim().is_empty())
    });
    let Some(text) = text else {
        problems.add(&node.pointer, format!("is not a text of 1 to {LONGEST} characters"));
        return None;
    };
    if text.contains("-----BEGIN ") {
        return Some(Zeroizing::new(text.as_bytes().to_vec()));
    }
    let packed: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let decoded = STANDARD.decode(packed.as_bytes()).ok().map(Zeroizing::new);
    if decoded.is_none() {
        problems.add(&node.pointer, "is neither PEM (-----BEGIN …) nor base64");
    }
    decoded
}

/// The part that is stored encrypted in the database.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The certificate, followed by its intermediate.
    chain: String,
    /// The private key in PKCS#8.
    key: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Returns the purpose under which a certificate's key is encrypted.
pub(super) fn purpose(workspace: &WorkspaceId, pass_type: &PassTypeId, fingerprint: &str) -> String {
    format!("apple certificate {workspace} {pass_type} {fingerprint}")
}

fn purpose_of(key: &AppleCertificateKey) -> String {
    purpose(&key.workspace, &key.pass_type, &key.fingerprint)
}

/// Adds a certificate to the workspace's existing ones. New cards get its pass type.
///
/// # Errors
/// Problems of the certificate, at their pointers; a pass type that isn't free; too many certificates.
pub async fn put_apple_issuer(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    body: &Value,
) -> Result<(), ActionError> {
    let mut problems = Problems::new();
    let read = Upload::read(body, &mut problems);
    let upload = problems.or(read)?;
    let (known, roots, now) = (app.known_intermediates.clone(), app.roots.clone(), app.now());
    let checked = app.open_keys(move || {
        let identity = SigningIdentity::from_files(
            &upload.certificate,
            upload.key.as_ref().map(|key| key.as_slice()),
            upload.password.as_ref().map(|password| password.as_str()),
            upload.wwdr.as_ref().map(|wwdr| wwdr.as_slice()),
            &known,
        );
        let proven = identity.and_then(|identity| match identity.proof(&roots, now) {
            proof if roots.take(proof) => Ok((identity, proof)),
            _ => Err(IdentityError::Untrusted),
        });
        (upload, proven)
    });
    let (upload, proven) = checked.await?;
    let (identity, proof) = proven.map_err(|error: IdentityError| {
        let part = error.part();
        Problems::one(upload.pointer(part), format!("{error}; expected {}", part.expected()))
    })?;
    let place = upload.pointer(Part::Certificate);
    if identity.not_after <= now {
        let ended = format!("the certificate ended on {}; renew it at Apple", identity.not_after.to_rfc3339_seconds());
        return Err(Problems::one(place, ended).into());
    }
    let taken = || Problems::one(place, format!("the pass type {} is not free for this workspace", identity.pass_type));
    let Some(claim) = Claim::of(app, workspace, &identity, proof).await? else { return Err(taken().into()) };
    let mut tx = app.store.begin().await?;
    if !claim.take(app, &mut tx).await? {
        return Err(taken().into());
    }
    if issuers::count_beside(&mut tx, workspace, &identity.fingerprint).await? >= MOST {
        let full =
            format!("the workspace has {MOST} certificates, and no workspace has more; remove one of them first");
        return Err(Problems::one(place, full).into());
    }
    // The certificate set last sorts before the others, even if the clock went back.
    let after_others = issuers::newest_apple(&mut tx, workspace).await?.plus(Duration::from_micros(1));
    let key = AppleCertificateKey {
        workspace: workspace.clone(),
        pass_type: identity.pass_type.clone(),
        fingerprint: identity.fingerprint.clone(),
        set_at: now.max(after_others),
    };
    let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
    let kept = Kept { chain: text(&identity.chain_pem), key: text(&identity.key_pem.0) };
    let kept = Zeroizing::new(serde_json::to_vec(&kept).map_err(|e| ActionError::Fault(e.to_string()))?);
    let sealed = app.seal(&purpose_of(&key), &kept)?;
    issuers::put_apple(&mut tx, &key, &sealed).await?;
    let data = json!({"wallet": "apple", "certificate": key.fingerprint});
    record(app, &mut tx, workspace, actor, &[(AuditAction::IssuerPut, key.pass_type.as_str(), data)]).await?;
    tx.commit().await?;
    claim.tell();
    tracing::info!(%workspace, pass_type = %key.pass_type, fingerprint = key.fingerprint, "a certificate was set");
    if let Some(error) = load_issuers(app).await? {
        tracing::error!(%error, "a certificate can't be loaded");
    }
    app.delivery_signal.notify_one();
    Ok(())
}

/// Removes a certificate that was set by API. Other nodes notice within seconds.
///
/// # Errors
/// When the workspace has none of that fingerprint, or it comes from the configuration.
pub async fn remove_apple_certificate(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    fingerprint: &str,
) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    let removed = issuers::remove_apple(&mut tx, workspace, fingerprint).await?;
    if removed {
        let done = (AuditAction::CertificateRemoved, fingerprint, json!({"wallet": "apple"}));
        record(app, &mut tx, workspace, actor, &[done]).await?;
    }
    tx.commit().await?;
    if !removed {
        let configured = |issuer: &std::sync::Arc<AppleIssuer>| issuer.identity.fingerprint == fingerprint;
        return Err(match app.issuers.of_workspace(workspace).iter().any(configured) {
            true => ActionError::CertificateConfigured,
            false => ActionError::NotFound("certificate"),
        });
    }
    tracing::info!(%workspace, fingerprint, "a certificate was removed");
    if let Some(error) = load_issuers(app).await? {
        tracing::error!(%error, "a certificate can't be loaded");
    }
    Ok(())
}

/// Returns the workspace's certificates without anything private; `None` when it has none.
///
/// # Errors
/// When the database fails.
pub async fn apple_issuer_answer(app: &App, workspace: &WorkspaceId) -> Result<Option<Value>, ActionError> {
    let Some(current) = app.find_apple_issuer(workspace).await? else { return Ok(None) };
    let now = app.now();
    let pauses = issuer_pauses::all(&mut app.store.read().await?).await?;
    let mut all = app.issuers.of_workspace(workspace);
    all.sort_by_key(|issuer| std::cmp::Reverse((issuer.source, issuer.identity.not_before)));
    let shown: Vec<Value> = all
        .iter()
        .map(|issuer| {
            let identity = &issuer.identity;
            let serving = app.issuers.of(workspace, &issuer.id, now);
            let active = serving.is_some_and(|serving| std::sync::Arc::ptr_eq(&serving, issuer));
            let (source, set_at) = match issuer.source {
                Source::Configuration => ("configuration", None),
                Source::Api(at) => ("api", Some(at)),
            };
            let certificate = issuer.credentials();
            let refused = pauses.iter().find(|pause| pause.issuer_id == issuer.id && pause.credentials == certificate);
            // The dates of the proof are members of their own.
            let apple = issuer.proof == Proof::Apple;
            let paused = refused.map(|pause| json!({"since": pause.since, "reason": pause.reason}));
            json!({
                "paused": paused,
                "pass_type": identity.pass_type, "team": identity.team, "name": identity.name,
                "issued_by": identity.issued_by, "serial_number": identity.serial_number,
                "fingerprint": identity.fingerprint, "not_before": identity.not_before,
                "not_after": identity.not_after, "valid": identity.is_valid(now), "apple": apple,
                "active": active && identity.is_valid(now), "source": source, "set_at": set_at,
            })
        })
        .collect();
    let identity = &current.identity;
    Ok(Some(json!({"pass_type": identity.pass_type, "team": identity.team, "certificates": shown})))
}

impl App {
    /// Returns the issuer for new cards: the newest valid certificate of the most recently configured pass type. Looks
    /// in the database for one that another node has just been given.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_apple_issuer(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Option<std::sync::Arc<AppleIssuer>>, ActionError> {
        if self.apple_issuer(workspace).is_none() {
            load_issuers(self).await?;
        }
        Ok(self.apple_issuer(workspace))
    }

    /// Returns the issuers for a workspace's new passes, one for each wallet that it can issue in. Looks in the database
    /// like [`App::find_apple_issuer`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn current_issuers(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Vec<std::sync::Arc<dyn Issuer>>, ActionError> {
        if self.apple_issuer(workspace).is_none() {
            load_issuers(self).await?;
        }
        Ok(self.wallets.current(workspace, self.now()))
    }

    /// Returns the issuer of that id, in whichever wallet; looks in the database like [`App::find_apple_issuer`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_issuer(
        &self,
        workspace: &WorkspaceId,
        id: &IssuerId,
    ) -> Result<Option<std::sync::Arc<dyn Issuer>>, ActionError> {
        if self.wallets.issuer(workspace, id, self.now()).is_none() {
            load_issuers(self).await?;
        }
        Ok(self.wallets.issuer(workspace, id, self.now()))
    }

    /// Returns the issuer that signs for cards of that pass type; looks in the database like
    /// [`App::find_apple_issuer`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_apple_issuer_of(
        &self,
        workspace: &WorkspaceId,
        id: &IssuerId,
    ) -> Result<Option<std::sync::Arc<AppleIssuer>>, ActionError> {
        if self.apple_issuer_of(workspace, id).is_none() {
            load_issuers(self).await?;
        }
        Ok(self.apple_issuer_of(workspace, id))
    }

    /// Adds an issuer from the configuration and stores that its pass type belongs to its workspace.
    ///
    /// # Errors
    /// When the pass type belongs to another workspace, the connection to APNs can't be prepared, or the database fails.
    pub async fn set_apple_issuer(
        &self,
        workspace: &WorkspaceId,
        identity: SigningIdentity,
    ) -> Result<(), ActionError> {
        let (roots, now) = (self.roots.clone(), self.now());
        let proven = aside(move || {
            let proof = identity.proof(&roots, now);
            (identity, proof)
        });
        let (identity, proof) = proven.await?;
        let taken = || ActionError::Store(StoreError::RowGone("issuers"));
        let claim = Claim::of(self, workspace, &identity, proof).await?.ok_or_else(taken)?;
        let mut tx = self.store.begin().await?;
        if !claim.take(self, &mut tx).await? {
            return Err(taken());
        }
        tx.commit().await?;
        claim.tell();
        let endpoint = self.apns_endpoint.clone();
        let ready = aside(move || Ready::make(identity, proof, &endpoint)).await??;
        self.add_issuer(workspace, ready, Source::Configuration)
    }

    fn add_issuer(&self, workspace: &WorkspaceId, ready: Ready, source: Source) -> Result<(), ActionError> {
        let Ready { identity, apns, proof } = ready;
        if let Some(simulated) = &self.sandbox {
            let chain = openssl::x509::X509::stack_from_pem(&identity.chain_pem)?;
            simulated.trust(chain).map_err(|error| ActionError::Fault(format!("the simulated APNs: {error}")))?;
        } else if proof < Proof::Apple {
            tracing::warn!(pass_type = %identity.pass_type, "a certificate does not chain to Apple's roots: no phone will take passes that it signs");
        }
        let id = IssuerId::from(&identity.pass_type);
        self.issuers.add(AppleIssuer { id, workspace: workspace.clone(), identity, apns, source, proof });
        Ok(())
    }
}

/// Runs work with keys off the async threads.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ActionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ActionError::Fault("opening a certificate panicked".to_owned()))
}

/// A certificate that is ready to sign and push.
struct Ready {
    identity: SigningIdentity,
    apns: Apns,
    proof: Proof,
}

impl Ready {
    fn make(identity: SigningIdentity, proof: Proof, endpoint: &ApnsEndpoint) -> Result<Self, ActionError> {
        let apns = Apns::new(endpoint, &identity.chain_pem, &identity.key_pem.0)
            .map_err(|error| ActionError::Fault(format!("the connection to APNs can't be prepared: {error}")))?;
        Ok(Self { identity, apns, proof })
    }
}

/// Updates this node's issuers in memory from the database. Connections of certificates that stay are kept.
///
/// Returns the reason why a certificate couldn't be opened, if there is one. Such a certificate doesn't keep the others
/// from being loaded, and isn't tried again.
///
/// # Errors
/// When the database fails.
pub async fn load_issuers(app: &App) -> Result<Option<ActionError>, ActionError> {
    // One at a time, so that no certificate is loaded twice.
    let _loading = app.loading_issuers.lock().await;
    let mut reader = app.store.read().await?;
    let stored = issuers::list_apple(&mut reader).await?;
    let mut failed = None;
    for key in &stored {
        let loaded = app.issuers.of_workspace(&key.workspace);
        if loaded.iter().any(|issuer| is(issuer, key)) || app.unusable().contains(key) {
            continue;
        }
        let Some(sealed) = issuers::sealed_apple(&mut reader, key).await? else { continue };
        if let Err(error) = open(app, key, &sealed).await {
            app.unusable().insert(key.clone());
            failed = Some(error);
        }
    }
    app.unusable().retain(|key| stored.contains(key));
    let mut lost = Vec::new();
    for issuer in app.issuers.all() {
        if issuer.source == Source::Configuration
            && issuers::owner(&mut reader, &issuer.id).await?.as_ref() != Some(&issuer.workspace)
        {
            lost.push(issuer.identity.fingerprint.clone());
        }
    }
    app.issuers.retain(|issuer| match issuer.source {
        Source::Configuration => !lost.contains(&issuer.identity.fingerprint),
        Source::Api(_) => stored.iter().any(|key| is(issuer, key)),
    });
    Ok(failed)
}

impl App {
    fn unusable(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<AppleCertificateKey>> {
        self.unusable.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn is(issuer: &AppleIssuer, key: &AppleCertificateKey) -> bool {
    issuer.workspace == key.workspace
        && issuer.identity.fingerprint == key.fingerprint
        && issuer.source == Source::Api(key.set_at)
}

async fn open(app: &App, key: &AppleCertificateKey, sealed: &[u8]) -> Result<(), ActionError> {
    let opened = app.open(&purpose_of(key), sealed)?;
    let (stored, roots, endpoint, now) = (key.clone(), app.roots.clone(), app.apns_endpoint.clone(), app.now());
    let ready = aside(move || {
        let identity = unsealed(&stored, &opened)?;
        let proof = identity.proof(&roots, now);
        match roots.take(proof) {
            true => Ready::make(identity, proof, &endpoint),
            false => {
                let untrusted = IdentityError::Untrusted;
                Err(ActionError::Fault(format!("a stored certificate of {}: {untrusted}", stored.pass_type)))
            }
        }
    });
    app.add_issuer(&key.workspace, ready.await??, Source::Api(key.set_at))
}

/// Returns every certificate in the database, opened with the master key, or the reason why it can't be.
///
/// # Errors
/// When the database fails.
pub async fn stored_identities(
    store: &Store,
    master_key: &MasterKeys,
) -> Result<Vec<Result<SigningIdentity, ActionError>>, ActionError> {
    let mut reader = store.read().await?;
    let mut identities = Vec::new();
    for key in issuers::list_apple(&mut reader).await? {
        let Some(sealed) = issuers::sealed_apple(&mut reader, &key).await? else { continue };
        let opened = master_key.open(&purpose_of(&key), &sealed).map_err(ActionError::from);
        identities.push(opened.and_then(|opened| unsealed(&key, &opened)));
    }
    Ok(identities)
}

fn unsealed(key: &AppleCertificateKey, opened: &[u8]) -> Result<SigningIdentity, ActionError> {
    let damaged = |_| crate::platform::secrets::SecretError::Damaged;
    let kept: Kept = serde_json::from_slice(opened).map_err(|_| damaged(()))?;
    let chain = openssl::x509::X509::stack_from_pem(kept.chain.as_bytes())?;
    let [certificate, intermediate] = chain.as_slice() else { return Err(damaged(()).into()) };
    let private = openssl::pkey::PKey::private_key_from_pem(kept.key.as_bytes())?;
    SigningIdentity::new(certificate, private, intermediate)
        .map_err(|error| ActionError::Fault(format!("a stored certificate of {}: {error}", key.pass_type)))
}
